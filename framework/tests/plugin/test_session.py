"""What a run looks for once, before its first test: kernels, QEMU, the cache."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pexpect
import pytest
from memtype_support import broken_qemu
from memtype_support.empty_cache import empty_cache
from memtype_support.inner_pytest import EXAMPLE, run

from pytest_memtype.errors import KernelError
from pytest_memtype.plugin import session
from pytest_memtype.run.variants import Resolved, Variant


@pytest.fixture
def newer_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's QEMU says that it is one that nobody has tested."""
    empty_cache(tmp_path / "cache")
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "cache"))
    newer = broken_qemu.make(tmp_path / "bin", "newer")
    monkeypatch.setenv("PATH", str(newer.parent), prepend=os.pathsep)


@pytest.mark.usefixtures("newer_qemu")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_newer_qemu_than_was_tested_is_told_once(pytester: pytest.Pytester, workers: int) -> None:
    pytester.makepyfile("def test_a(memtype_kernel): pass\ndef test_b(memtype_kernel): pass\n")
    result = run(pytester, "-n", str(workers), "--kernel", "debian:bookworm")
    result.assert_outcomes(passed=2)
    said = [line for line in result.outlines if "newer than the newest that was tested" in line]
    assert said == ["memtype: QEMU 99.1.0 is newer than the newest that was tested, 11.1"]


@pytest.mark.usefixtures("newer_qemu")
def test_a_newer_qemu_than_was_tested_is_still_on_the_terminal_afterwards(tmp_path: Path) -> None:
    """A stage is drawn over by the next one."""
    program = "from pytest_memtype.cli import main; main()"
    arguments = ["-c", program, "run", "--kernel", "tree:/dev/null/none"]
    terminal = pexpect.spawn(sys.executable, arguments, cwd=str(tmp_path), dimensions=(24, 200))
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert isinstance(terminal.before, bytes)
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", terminal.before)
    lines = [line.strip(b"\r") for line in plain.split(b"\n")]
    assert b"QEMU 99.1.0 is newer than the newest that was tested, 11.1" in lines, plain


def test_a_kernel_that_can_not_be_had_is_looked_for_once(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def never(*specs: object, **_: object) -> list[Variant]:
        asked.append(specs)
        raise KernelError("the mirror is gone")

    monkeypatch.setattr(session, "all_variants", never)
    pytester.makepyfile(test_one="def test_it(guest): ...", test_two="def test_it(guest): ...")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret == 3
    result.stdout.fnmatch_lines(["*memtype: the mirror is gone*"])
    assert str(result.stdout).count("the mirror is gone") == 1
    assert len(asked) == 1


def test_the_kernel_of_a_distribution_that_can_not_be_had(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's own kernel is there, and that of a test's marker isn't."""

    def found(_: object, guests: object, **__: object) -> list[Variant]:
        if guests:
            raise KernelError("the mirror is gone")
        return [Variant("mine", "mine")]

    monkeypatch.setattr(session, "all_variants", found)
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.distribution("debian:trixie")
        def test_it(guest): ...
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret == 3
    result.stdout.fnmatch_lines(["*memtype: the mirror is gone*"])
    assert str(result.stdout).count("the mirror is gone") == 1


def test_the_variant_of_a_test_by_its_id(pytester: pytest.Pytester) -> None:
    """The id of a test whose worker has died; pytest escapes what isn't ASCII in it."""
    config = pytester.parseconfig()
    known = [Variant(name, name) for name in ("debian:6.1", "debian:6.1-rt", "tree:/home/jörg/a")]
    config.pluginmanager.register(Resolved((), (), tuple(known)))
    for each, found in (
        ("debian:6.1-UC", known[0]),
        ("debian:6.1-rt-UC", known[1]),
        (r"tree:/home/j\xf6rg/a", known[2]),
        ("tree:/home/jörg/a", known[2]),
        ("UC", None),
    ):
        for folder in ("", "a[1]/"):
            assert session.variant_by_id(config, f"{folder}test_it.py::test_it[{each}]") == found


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "workers"])
@pytest.mark.parametrize("trouble", ["no QEMU", "broken QEMU", "cache", "kernel"])
def test_a_host_that_can_run_nothing_is_one_line_and_status_3(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, trouble: str, workers: list[str]
) -> None:
    cases = {
        "no QEMU": "qemu-system-x86_64 is not on this host",
        "broken QEMU": "--version ended with status 127",
        "cache": "the cache folder can't be made",
        "kernel": "nearest are debian:",
    }
    arguments = ["--kernel", "debian:6.999", "--offline"] if trouble == "kernel" else []
    folder = pytester.path / ".bin"
    if trouble == "no QEMU":
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))
    if trouble == "broken QEMU":
        broken_qemu.make(folder, "status 127")
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    if trouble == "cache":
        (pytester.path / ".file").touch()
        monkeypatch.setenv("MEMTYPE_CACHE", str(pytester.path / ".file" / "cache"))
    pytester.makepyfile(test_one=EXAMPLE, test_two=EXAMPLE)
    result = run(pytester, *workers, *arguments)
    lines = [*result.outlines, *result.errlines]
    assert result.ret == 3, lines
    assert len([line for line in lines if cases[trouble] in line]) == 1, lines
    assert not [line for line in lines if "INTERNALERROR" in line or "Traceback" in line], lines


def test_other_suites_are_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    run(pytester, "--kernel", "debian:6.999").assert_outcomes(passed=1)
    assert not (pytester.path / ".memtype").exists()
