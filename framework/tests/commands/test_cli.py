"""The command, as a person types it."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main
from pytest_memtype.kernels.index import Kernel
from pytest_memtype.machine import layout_file


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    return tmp_path


def test_help_has_examples() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "memtype run --suite --kernel debian:bullseye" in result.output


def test_help_of_run_is_of_its_own_options() -> None:
    result = CliRunner().invoke(main, ["run", "--help"])
    assert result.exit_code == 0
    assert "Examples:\n    memtype run" in result.output
    for option in (
        "--observe",
        "--kernel SPEC",
        "--fresh {clone,boot}",
        "--target ADDRESS",
        "--memtype-dir DIR",
        "--html DIR",
    ):
        assert f"\n  {option} " in result.output
    assert "--maxfail" not in result.output


@pytest.mark.parametrize("command", [[], ["list"], ["lock"], ["fetch"], ["check"], ["remove"]])
def test_help_of_kernels_has_examples(command: list[str]) -> None:
    result = CliRunner().invoke(main, ["kernels", *command, "--help"])
    assert result.exit_code == 0
    assert "Examples:\n    memtype kernels" in result.output


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["--nonsense"], ["cache", "nonsense"], ["cache", "remove"]]
)
def test_usage_errors_end_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cache", "remove", "nothing"], "memtype: the cache holds nothing called 'nothing'"),
        (["cache", "prune", "--limit", "much"], "memtype: --limit: "),
        (["run", "--kernel", "windows:11"], "memtype: "),
        (["run", "--kernel", "set:nothing"], "memtype: no set of kernels is called 'nothing'"),
        (["kernels", "fetch", "windows:11"], "memtype: kernel 'windows:11': no such kind of kernel"),
        (["kernels", "remove", "nothing"], "memtype: "),
        (
            ["kernels", "fetch", "debian:bokworm"],
            "memtype: kernel 'debian:bokworm': no such Debian suite; did you",
        ),
        (["run", "--accel", "kvmm"], "memtype: --accel 'kvmm': there is no such choice; did you mean 'kvm'?"),
        (
            ["run", "--layout", "wb-devise"],
            "memtype: no layout is called 'wb-devise'; did you mean 'wb-device'?",
        ),
        (["run", "--guest", "debian:bookwurm"], "memtype: guest 'debian:bookwurm': not known; did you mean"),
        (["run", "/dev/null"], "memtype: /dev/null: is neither a file nor a folder; name tests"),
        (["run", "nosuch.py"], "memtype: nosuch.py: no such file"),
        (["run", "nosuch.py::test_it"], "memtype: nosuch.py: no such file"),
        (["run", "--kernel"], "memtype: argument --kernel: expected one argument"),
        (
            ["run", "--observe", "--layout", "wb-devise"],
            "memtype: no layout is called 'wb-devise'; did you mean",
        ),
        (
            ["run", "--observe", "--accel", "kvmm"],
            "memtype: --accel 'kvmm': there is no such choice; did you",
        ),
        (["shell", "--layout", "wb-devise"], "memtype: no layout is called 'wb-devise'; did you mean"),
        (["layouts", "show", "wb-devise"], "memtype: no layout is called 'wb-devise'; did you mean"),
        (
            ["bugs", "show", "vma-split-laek"],
            "memtype: no bug is called 'vma-split-laek'; did you mean 'vma-",
        ),
        (["bugs", "run", "vma-split-laek"], "memtype: no bug is called 'vma-split-laek'; did you mean 'vma-"),
    ],
)
@pytest.mark.usefixtures("cache")
def test_our_own_errors_are_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("cache")
def test_debug_shows_the_traceback() -> None:
    result = CliRunner().invoke(main, ["--debug", "cache", "remove", "nothing"])
    assert result.exception is not None
    assert "nothing called 'nothing'" in str(result.exception)


def test_what_the_system_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path) -> list[Path]:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), f"{folder}/layouts")

    # Which calls of pathlib pass a refusal on differs from one Python to the next.
    monkeypatch.setattr(layout_file, "folders_of_tests", refused)
    arguments = ["layouts", "--tests", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"memtype: {tmp_path}/layouts: File name too long; memtype --debug shows")
    assert result.stderr.count("\n") == 1
    assert isinstance(CliRunner().invoke(main, ["--debug", *arguments]).exception, OSError)


def test_cache_lists_prunes_and_removes(cache: Path) -> None:
    bundle = cache / "bundles" / "6.1.0-1-cloud-amd64-0123456789abcdef"
    bundle.mkdir(parents=True)
    (bundle / "image").write_bytes(bytes(3 << 20))
    template = cache / "templates" / "00ff" / "ready"
    template.mkdir(parents=True)
    (template / "template.json").write_text('{"notes": {"greeting": {"release": "6.1.0-1\\u001b[2J"}}}')

    listing = CliRunner().invoke(main, ["cache"]).output
    assert "bundle    6.1.0-1-cloud-amd64" in listing
    assert "template  6.1.0-1\\x1b[2J" in listing
    assert "\x1b" not in listing
    assert "in 2 entries" in listing

    assert "in 1 entries" in CliRunner().invoke(main, ["cache", "prune"]).output
    assert CliRunner().invoke(main, ["cache", "remove", bundle.name]).output == (
        f"removed bundle {bundle.name}, 3 MiB\n"
    )
    assert not bundle.exists()


def test_a_file_that_is_to_have_colours_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CI sets FORCE_COLOR, and names were cut at 80 columns there."""
    name = "a" * 100
    (tmp_path / "layouts").mkdir()
    (tmp_path / "layouts" / f"{name}.toml").write_text('default = "WC"\n')
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert name in CliRunner().invoke(main, ["layouts", "--tests", str(tmp_path)]).output


def test_layouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "layouts").mkdir()
    (tmp_path / "layouts" / "mine.toml").write_text('description = "mine [bold]alone"\ndefault = "WC"\n')
    (tmp_path / "layouts" / "broken.toml").write_text('description = "broken"\nsize = "\x1b[2J"\n')
    named = CliRunner().invoke(main, ["layouts", "--tests", str(tmp_path)]).output
    monkeypatch.chdir(tmp_path)
    here = CliRunner().invoke(main, ["layouts"]).output
    for listing in (named, here):
        assert "mine [bold]alone" in listing
        assert "broken.toml: Illegal character" in listing
        assert "wc-framebuffer" in listing
        assert "\x1b" not in listing

    shown = CliRunner().invoke(main, ["layouts", "show", "mine"])
    assert shown.exit_code == 0
    assert "mine: mine [bold]alone" in shown.output
    assert "test device, BAR 0" in shown.output

    drawing = tmp_path / "mine.svg"
    assert CliRunner().invoke(main, ["layouts", "show", "mine", "--svg", str(drawing)]).output == (
        f"wrote {drawing}\n"
    )
    assert drawing.read_bytes().startswith(b"<?xml")


def test_every_command_knows_the_layouts_and_bugs_of_the_users_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the root of his project and from below; what lies elsewhere isn't known."""
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = checks\n")
    for folder in ("checks/layouts", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    broken = (
        'description = "mine alone"\ndefault = "UC"\n[[ranges]]\nbase = 4096\nsize = "16K"\ntype = "WB"\n'
    )
    (tmp_path / "checks" / "layouts" / "mine.toml").write_text(broken)
    (tmp_path / "checks" / "helper.py").write_text("TITLE = 'it leaks [bold]here'\n")
    (tmp_path / "checks" / "test_leak.py").write_text(
        '"""It leaks."""\nimport pytest\nfrom helper import TITLE\n'
        'pytestmark = pytest.mark.bug(id="my-leak", title=TITLE, core="Process.write", fixed="6.16")\n'
        "def test_leak(guest, bug): ...\n"
    )
    (tmp_path / "checks" / "test_broken.py").write_text(
        "import pytest, nosuch\npytestmark = pytest.mark.bug(id='b', title='t', core='c')\n"
    )
    for here in (tmp_path, tmp_path / "elsewhere", tmp_path / "checks"):
        monkeypatch.chdir(here)
        assert "mine alone" in CliRunner().invoke(main, ["layouts"]).output
        # Found by each, and none of them is started: the MTRRs can't hold it.
        for command in (["layouts", "show"], ["run", "--observe", "--layout"], ["shell", "--layout"]):
            result = CliRunner().invoke(
                main, [*command, "mine", *(["--offline"] * (command[0] != "layouts"))]
            )
            assert "layout 'mine': range 1 (16K WB at 0x1000): base 0x1000 isn't a multiple" in result.output
        listed = CliRunner().invoke(main, ["bugs"])
        assert "my-leak" in listed.output
        assert "it leaks [bold]here" in listed.output
        assert "memtype: not read: " in listed.stderr
        assert "No module named 'nosuch'" in listed.stderr
        missing = CliRunner().invoke(main, ["bugs", "show", "my-laek"])
        assert "did you mean 'my-leak'" in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "memtype: no layout is called 'nothing'; known are all-registers-used, "),
        (["firmware", "--memory", "much"], "memtype: hardware: memory 'much' is not a size"),
        (["firmware", "--svg", "missing/a.svg"], "memtype: missing/a.svg: can't be written"),
        (["big"], "memtype: layout 'big': range 1 (16K WB at 0x1000): base 0x1000 isn't a multiple"),
    ],
)
def test_layout_that_cannot_be_shown(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "big.toml").write_text(
        'description = ""\ndefault = "UC"\n[[ranges]]\nbase = "4K"\nsize = "16K"\ntype = "WB"\n'
    )
    result = CliRunner().invoke(main, ["layouts", "show", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_what_stays_of_a_removed_kernel_is_said() -> None:
    """Templates, and drivers and modules for a kernel, are none of its folders."""
    said = " ".join(CliRunner().invoke(main, ["kernels", "remove", "--help"]).output.split())
    assert "Templates, and drivers and modules for them, stay: memtype cache lists and removes those." in said


def test_kernels_are_listed_and_removed(cache: Path) -> None:
    known = Kernel("6.12.43+deb12-cloud-amd64", "6.12.43-1~bpo12+1", "bookworm-backports", "image", False)
    kit = cache / "kits" / f"{known.release}-0123456789abcdef"
    (kit / "memtype").mkdir(parents=True)
    (kit / "memtype" / "kernel.json").write_text(json.dumps(asdict(known)))
    (kit / "memtype" / "vmlinuz").write_bytes(bytes(3 << 20))
    bundle = cache / "bundles" / f"{known.release}-fedcba9876543210"
    bundle.mkdir(parents=True)
    (bundle / "image").write_bytes(bytes(2 << 20))
    kept = cache / "bundles" / "6.1.0-1-cloud-amd64-fedcba9876543210"
    kept.mkdir()

    listing = CliRunner().invoke(main, ["kernels", "list"]).output
    assert "6.12.43+deb12-cloud-amd64  6.12.43-1~bpo12+1  bookworm-backports" in listing
    assert "no headers" in listing
    assert f"{cache}: 2 kernels, 5 MiB" in listing
    assert CliRunner().invoke(main, ["kernels"]).output == listing

    result = CliRunner().invoke(main, ["kernels", "remove", known.release])
    assert result.output == f"removed {known.release}, 5 MiB\n"
    assert not kit.exists()
    assert not bundle.exists()
    assert kept.exists()


def test_fetching_tells_what_failed_and_why_and_ends_with_3(cache: Path) -> None:
    result = CliRunner().invoke(main, ["kernels", "fetch", f"tree:{cache}/nothing", f"tree:{cache}"])
    assert result.exit_code == 3
    lines = result.stderr.splitlines()
    assert sorted(lines[:2]) == [f"tree:{cache}/nothing: failed", f"tree:{cache}: failed"]
    assert lines[2:] == [
        f"memtype: kernel 'tree:{cache}/nothing': there is no folder {cache}/nothing; "
        "name the one the kernel was built in",
        f"memtype: kernel 'tree:{cache}': {cache} has no .config; name the folder a kernel was built in",
    ]
    assert result.stdout == "0 of 2 kernels are ready\n"
