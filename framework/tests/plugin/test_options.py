"""The options of a run that users type, and what they are told of wrong ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from memtype_support.inner_pytest import EXAMPLE, run


def usage_error(result: pytest.RunResult, message: str) -> None:
    """Pytest's status for wrong usage (its documentation, "Exit codes"), and one line."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [*result.errlines, *result.outlines]
    errors = [line for line in lines if line.startswith("ERROR: memtype: ")]
    assert len(errors) == 1, lines
    assert message in errors[0]
    assert not [line for line in lines if "Traceback" in line or "collected" in line], lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kernel", "windows:11"], "kernel 'windows:11': no such kind of kernel; known are debian:SUITE"),
        (["--kernel", "debian:potato"], "kernel 'debian:potato': no such Debian suite; known are bullseye"),
        (["--kernel", "debain:bookworm"], "did you mean 'debian:bookworm'"),
        (["--kernel", "debian:bokworm"], "did you mean 'bookworm'?"),
        (["--kernel", "set:lst"], "no set of kernels is called 'lst'; did you mean 'lts'?"),
        (["--layout", "wb-devise"], "no layout is called 'wb-devise'; did you mean 'wb-device'?"),
        (["--layout", "wb-devise", "-n", "2"], "no layout is called 'wb-devise'; did you mean 'wb-device'?"),
        (["--accel", "kvmm"], "--accel 'kvmm': there is no such choice; did you mean 'kvm'?"),
        (["--fresh", "colne"], "--fresh 'colne': there is no such choice; did you mean 'clone'?"),
        (["--guest", "debian:bookwurm"], "not known; did you mean 'debian:bookworm'?"),
        (["-n", "2", "nosuch.py"], "file or directory not found: nosuch.py"),
    ],
)
def test_what_is_written_wrongly_is_one_line_before_anything_is_collected(
    pytester: pytest.Pytester, arguments: list[str], message: str
) -> None:
    pytester.makepyfile(EXAMPLE)
    usage_error(run(pytester, *arguments), message)


def test_unknown_guest_is_a_usage_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(guest): ...")
    result = run(pytester, "--guest", "fedora:41")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*guest 'fedora:41': not known; known are minimal, debian:bookworm*"])


def test_kernels_of_pytests_settings_are_not_forgotten(tmp_path: Path) -> None:
    """What memtype run has looked up is what its own arguments say, and nothing else."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --kernel debian:bullseye\n")
    (tmp_path / "test_it.py").write_text("def test_it(guest): ...\n")
    program = "from pytest_memtype.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        program,
        "run",
        "--collect-only",
        "-q",
        "--kernel",
        "debian:bookworm",
        "test_it.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.findall(r"test_it\[debian:(\w+)\]", done.stdout) == ["bullseye", "bookworm"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_folder_of_runs_that_can_not_be_one_is_a_usage_error(
    pytester: pytest.Pytester, workers: int
) -> None:
    """Before any guest boots for a test that has no place for its logs."""
    pytester.makepyfile("def test_it(guest): ...")
    result = run(pytester, "-n", str(workers), "--kernel", "debian:bookworm", "--memtype-dir", "/dev/null/a")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (said,) = (line for line in [*result.outlines, *result.errlines] if "memtype: /dev/null/a: " in line)
    assert "can't be made or used (/dev/null is no folder); name another with --memtype-dir" in said
