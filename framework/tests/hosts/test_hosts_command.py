"""What ``tox -e hosts`` leaves behind and says when something of it fails. Stubs stand for mmdebstrap."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from memtype_support import debian_root
from memtype_support.hosts import hosts_command
from memtype_support.hosts.hosts_command import Host, figures, main, measure
from memtype_support.stub_mmdebstrap import StubMmdebstrap

#: Makes a half of a root, where the last but one of its arguments or so says, and fails.
HALF = """
for target; do case $target in */trixie) mkdir -p "$target/usr" && echo half >"$target/usr/file" ;; esac; done
echo "E: no space"; exit 25
"""


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_root, "require_root", lambda: None)


@pytest.mark.usefixtures("as_root")
def test_a_root_that_can_not_be_made_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    StubMmdebstrap(tmp_path / "bin", monkeypatch, HALF)
    folder = tmp_path / "roots"
    folder.mkdir()
    result = CliRunner().invoke(main, ["trixie", "--folder", str(folder)])
    assert result.exit_code == 3, result.output
    assert "the root of Debian trixie can't be made" in result.stderr
    assert "E: no space" in result.stderr
    assert "Traceback" not in result.output
    assert [path.name for path in folder.glob("*/*")] == []
    # To look at.
    assert CliRunner().invoke(main, ["trixie", "--keep", "--folder", str(folder)]).exit_code == 3
    assert [path.read_text() for path in folder.glob("*/trixie/usr/file")] == ["half\n"]


@pytest.mark.usefixtures("as_root")
def test_whatever_ends_it_no_root_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(_suite: str, root: Path) -> None:
        root.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(debian_root, "make", make)
    with pytest.raises(KeyboardInterrupt):
        hosts_command.measured(["sid"], "run", ["root"], keep=False, folder=tmp_path)
    assert list(tmp_path.glob("*/*")) == []


@pytest.fixture
def handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("as_root", "handler")
def test_a_job_that_is_ended_leaves_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(_suite: str, root: Path) -> None:
        root.mkdir()
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(debian_root, "make", make)
    assert CliRunner().invoke(main, ["sid", "--folder", str(tmp_path)]).exit_code == 143
    assert list(tmp_path.glob("*/*")) == []


def test_a_plain_user_is_told_on_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = CliRunner().invoke(main, ["--folder", str(tmp_path)])
    assert result.exit_code == 3
    assert "by root only; run this as root" in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        ('text\n{"ratio_to_bare": 1.5, "bare_ms": 3}\n', {"ratio_to_bare": 1.5}),
        ("", {}),
        ("Killed\n", {}),
        ("{oh}\n", {}),
    ],
)
def test_figures_of_a_benchmark(printed: str, found: dict[str, float]) -> None:
    assert figures(printed) == found


@pytest.mark.parametrize(
    ("why", "well"),
    [
        ("because QEMU doesn't save the state of edu", True),
        ("because a clone failed: QEMU (process 1) is gone", False),
    ],
)
def test_only_a_clone_that_failed_is_a_fault(why: str, well: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    said = f"2 tests ran on a boot, {why}\n=== 7005 passed, 42 skipped in 3423.07s (0:57:03) ===\n"
    monkeypatch.setattr(Host, "clone", lambda *_: "/nowhere")
    monkeypatch.setattr(Host, "run", lambda *_, **_options: (0, said))
    result = measure(Host("sid", Path("/nowhere"), Path("/nowhere/log")), None, command="test")
    assert result.counts == {"passed": 7005, "skipped": 42}
    assert result.well == well
