"""``memtype shell``, as a person uses it: on the console, and in the state that a test left."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pexpect
import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main
from pytest_memtype.commands import shell

KERNEL = "debian:bookworm"

TEST = """
import pytest
from pytest_memtype import Guest, MemType

@pytest.mark.layout("firmware")
def test_it(guest: Guest) -> None:
    bar = guest.mmio(pages=4)
    guest.process("keeper").mmap(bar, MemType.WC)
    assert guest.tracked(bar) == ()
"""


@pytest.mark.timeout(1200)  # The distribution's image may have to be made first.
@pytest.mark.parametrize("guest", [("--kernel", KERNEL), ("--guest", "debian:bookworm")])
def test_a_shell_on_the_console(guest: tuple[str, str]) -> None:
    command = [sys.executable, "-c", "from pytest_memtype.cli import main; main()"]
    command += ["shell", *guest, "--layout", "wb-device"]
    child = pexpect.spawn(command[0], command[1:], timeout=600, encoding="latin-1")
    try:
        child.expect_exact("exit powers off.")
        # What is typed before may be lost: bash empties its terminal's input when it takes it over.
        child.expect(r"[/~] ?# ")
        child.sendline("cat /proc/mtrr")
        child.expect(r"base=0x0fd000000 .*size= +16MB.*write-back")
        child.sendline("exit")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    assert child.exitstatus == 0


@pytest.mark.parametrize("after", [False, True], ids=["console", "after a test"])
def test_no_progress_is_drawn_on_a_terminal_that_is_typed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """A spinner goes on by itself, over the guest's console: seen where choosing an accelerator was slow."""
    drawn = []
    when_typed = []

    @contextlib.contextmanager
    def shown(_console: object) -> Iterator[Callable[[str], None]]:
        drawn.append(True)
        yield lambda _stage: None
        drawn.pop()

    def lines(_prompt: str) -> Iterator[str]:
        when_typed.append(bool(drawn))
        yield from ()

    def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[bytes]:
        when_typed.append(bool(drawn))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(shell, "shown", shown)
    monkeypatch.setattr(shell, "typed", lines)
    monkeypatch.setattr(shell, "subprocess", SimpleNamespace(run=run))
    path = tmp_path / "state.py"
    path.write_text("def test_it(guest): pass\n")
    options = ["--after", str(path)] if after else []
    result = CliRunner().invoke(main, ["shell", "--kernel", KERNEL, *options])
    assert result.exit_code == 0, result.output
    assert when_typed == [False]


def test_a_shell_after_a_test(tmp_path: Path) -> None:
    path = tmp_path / "state.py"
    path.write_text(TEST)

    result = CliRunner().invoke(
        main,
        ["shell", "--kernel", KERNEL, "--after", str(path)],
        input="grep -c write-combining /sys/kernel/debug/x86/pat_memtype_list\n\nfalse\n",
    )

    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert any(line.startswith("the test failed: ") for line in lines)
    assert lines[-2:] == ["1", "status 1"] or lines[-3:] == ["1", "", "status 1"]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("with pytest.raises(ValueError): pass", "the test failed: DID NOT RAISE"),
        ("pytest.skip('no such device')", "the test was skipped: no such device"),
        ("guest.driver('')", "the test failed: '' is no name"),
    ],
)
def test_the_guest_is_there_however_the_test_ends(tmp_path: Path, end: str, said: str) -> None:
    path = tmp_path / "state.py"
    path.write_text(f"import pytest\ndef test_it(guest):\n    {end}\n")
    result = CliRunner().invoke(
        main, ["shell", "--kernel", KERNEL, "--after", str(path)], input="echo here\n"
    )
    assert result.exit_code == 0, result.output
    assert said in result.output
    assert result.output.splitlines()[-1] == "here"


@pytest.mark.parametrize(
    "text", ["", "def test_a(guest): ...\ndef test_b(guest): ...\n", "def test_a(x): ...\n"]
)
def test_a_file_without_the_one_test(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.py"
    path.write_text(text)

    result = CliRunner().invoke(main, ["shell", "--kernel", KERNEL, "--after", str(path)])

    assert result.exit_code == 2
    assert result.output.splitlines()[-1].startswith(f"memtype: {path}: there has to be one test")
