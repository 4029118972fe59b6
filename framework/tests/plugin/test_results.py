"""What other programs are told of a run: JUnit's XML, KTAP, KCIDB's report, GitHub's summary."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import kcidb_io
import pytest
from junitparser.xunit2 import JUnitXml
from memtype_support.inner_pytest import run
from memtype_support.kernel_scripts import LeftOutError
from memtype_support.kunit import parse

from pytest_memtype.report.job_summary import SUMMARY

TESTS = """
import pytest
from pytest_memtype import MemType

def test_alias(guest):
    bar = guest.mmio(pages=1)
    guest.driver("drm").ioremap(bar, MemType.WC)
    guest.driver("fbdev").ioremap(bar, MemType.UC_MINUS)

@pytest.mark.layout("wc-framebuffer")
@pytest.mark.hardware(memory="512M")
def test_fails(guest):
    outcome = guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.UC)
    print("<script>]]>\\x1b[31m::add-mask::x")
    assert outcome.kernel.rejected, "<script> & ::error::"

@pytest.mark.bug(id="made-up", title="It is made up", core="Driver.ioremap", introduced="2.6.0", fixed="99.1")
def test_reproduces(bug, guest):
    guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC)
    bug.harm(True, "there was")

@pytest.mark.distribution
def test_is_skipped(guest):
    pass

def test_has_no_guest():
    pass
"""


def _run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *workers: str) -> pytest.RunResult:
    pytester.makepyfile(test_it=TESTS)
    monkeypatch.setenv(SUMMARY, str(pytester.path / "summary.md"))
    names = ("--junitxml=junit.xml", "--ktap=run.ktap", "--kcidb=kcidb.json", "--kcidb-origin=hil")
    done = run(pytester, "--kernel", "debian:bookworm", "--accel", "tcg", *names, *workers)
    done.assert_outcomes(passed=3, failed=1, skipped=1)
    return done


def _cases(path: Path) -> dict[str, Any]:
    xml = JUnitXml.fromfile(str(path))
    return {str(case.name).partition("[")[0]: case for suite in xml for case in suite}


def _properties(of: Any) -> dict[str, str]:
    return {str(each.name): str(each.value) for each in of.properties()}


@pytest.mark.parametrize("workers", [["-n", "0"], ["-n", "2"]], ids=["one-process", "workers"])
def test_each_program_is_told_the_same(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: list[str]
) -> None:
    done = _run(pytester, monkeypatch, *workers)
    _check_junit(pytester.path)
    _check_kcidb(pytester.path)
    _check_github(pytester.path, done)
    # The last, since a host without the kernel's parser skips it.
    _check_ktap(pytester.path, monkeypatch)


def _check_junit(folder: Path) -> None:
    cases = _cases(folder / "junit.xml")
    alias = _properties(cases["test_alias"])
    assert alias["memtype.kernel"].startswith("6.1.0-")
    assert alias["memtype.kernel_version"].startswith("6.1.")
    assert alias["memtype.tested"].startswith("debian:")
    assert (alias["memtype.layout"], alias["memtype.hardware"]) == ("firmware", "default")
    assert (alias["memtype.accelerator"], alias["memtype.system"]) == ("tcg", "minimal")
    assert (alias["memtype.verdicts.accepted"], alias["memtype.verdicts.alias"]) == ("1", "1")
    assert alias["memtype.disagreements"] == "1"
    assert "memtype.evidence" not in alias
    fails = _properties(cases["test_fails"])
    assert (fails["memtype.layout"], fails["memtype.hardware"]) == ("wc-framebuffer", "memory=512M")
    # It stays valid on another machine, to which the folder goes as an artifact.
    assert (folder / fails["memtype.evidence"] / "guest-1" / "console.log").is_file()
    assert not fails["memtype.evidence"].startswith("/")
    bug = _properties(cases["test_reproduces"])
    assert (bug["memtype.bug"], bug["memtype.bug.outcome"]) == ("made-up", "REPRODUCED")
    assert _properties(cases["test_has_no_guest"]) == {}
    (suite,) = JUnitXml.fromfile(str(folder / "junit.xml"))
    whole = _properties(suite)
    assert (whole["memtype.verdicts.accepted"], whole["memtype.verdicts.alias"]) == ("3", "1")
    assert whole["memtype.bug.made-up"] == "REPRODUCED"
    assert whole["memtype.layout"] == "firmware, wc-framebuffer"
    assert (folder / whole["memtype.evidence"] / "records.jsonl").is_file()
    _check_by_gitlabs_rules(suite)


def _check_by_gitlabs_rules(suite: Any) -> None:
    """As GitLab documents them: names are unique, and a test has one of failure, error, skipped at most."""
    names = [(each.classname, each.name) for each in suite]
    assert len(names) == len(set(names))
    assert all(classname and name for classname, name in names)
    assert all(len(each.result) <= 1 for each in suite)
    assert all(float(each.time) >= 0 for each in suite)


def _check_kcidb(folder: Path) -> None:
    report = json.loads((folder / "kcidb.json").read_text())
    kcidb_io.schema.LATEST.validate_exactly(report)
    statuses = {each["path"].rpartition(".")[2]: each["status"] for each in report["tests"]}
    assert statuses == {
        "test_alias": "PASS",
        "test_fails": "FAIL",
        "test_reproduces": "PASS",
        "test_is_skipped": "SKIP",
    }
    assert len(report["builds"]) == len(report["checkouts"]) == 1
    (failed,) = (each for each in report["tests"] if each["status"] == "FAIL")
    assert "assert outcome.kernel.rejected" in failed["log_excerpt"]
    assert [each["comment"] for each in report["issues"]] == ["It is made up"]
    assert [each["present"] for each in report["incidents"]] == [True]


def _check_ktap(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_OFFLINE", "1")
    try:
        parsed = parse((folder / "run.ktap").read_text())
    except LeftOutError as error:
        pytest.skip(str(error))
    assert parsed.errors == 0
    files = [file for kernel in parsed.subtests for file in kernel.subtests]
    statuses = {each.name.partition("[")[0]: each.status for file in files for each in file.subtests}
    assert statuses == {
        "test_alias": "SUCCESS",
        "test_fails": "FAILURE",
        "test_reproduces": "SUCCESS",
        "test_is_skipped": "SKIPPED",
        "test_has_no_guest": "SUCCESS",
    }


def _check_github(folder: Path, done: pytest.RunResult) -> None:
    summary = (folder / "summary.md").read_text()
    assert summary.startswith("## memtype: 1 of 5 tests failed\n")
    assert "` made-up `" in summary
    assert "\n<script>" not in summary
    lines = done.outlines
    (stop,) = (number for number, line in enumerate(lines) if line.startswith("::stop-commands::"))
    token = lines[stop].removeprefix("::stop-commands::")
    start = lines.index(f"::{token}::")
    # All that the test printed stands where the runner takes no commands.
    masks = [number for number, line in enumerate(lines) if "add-mask" in line]
    assert masks
    assert all(stop < number < start for number in masks)
    (error,) = lines[start + 1 :]
    assert error.startswith("::error file=test_it.py,line=")
    assert "test_fails" in error


def test_without_github_no_command_of_its_is_printed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(memtype_kernel): assert False")
    done = run(pytester, "--kernel", "debian:bookworm")
    assert not [line for line in done.outlines if "::stop-commands" in line or line.startswith("::")]


def test_other_suites_get_no_summary(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile("def test_it(): assert False")
    monkeypatch.setenv(SUMMARY, str(pytester.path / "summary.md"))
    done = run(pytester)
    assert not (pytester.path / "summary.md").exists()
    assert "::stop-commands" not in done.stdout.str()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--ktap", "none/run.ktap"],
            "memtype: --ktap none/run.ktap: there is no folder none; make it, or name",
        ),
        (["--kcidb", "."], "memtype: --kcidb .: is a folder; name a file"),
        (["--kcidb-origin", "My CI"], "memtype: --kcidb-origin 'My CI': use small letters, digits and _"),
    ],
)
def test_what_can_not_be_written_is_said_before_any_test(
    pytester: pytest.Pytester, arguments: list[str], said: str
) -> None:
    pytester.makepyfile("def test_it(): pass")
    done = run(pytester, *arguments)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert said in done.stderr.str()


def test_a_summary_that_is_nearly_full_is_not_made_larger(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = pytester.path / "summary.md"
    summary.write_bytes(b"x" * ((1 << 20) - 200))
    monkeypatch.setenv(SUMMARY, str(summary))
    pytester.makepyfile("def test_it(memtype_kernel): pass")
    run(pytester, "--kernel", "debian:bookworm")
    assert (1 << 20) - 200 < summary.stat().st_size <= 1 << 20
    assert summary.read_bytes().endswith(b"(The rest is left out: GitHub takes 1 MiB.)\n")


def test_a_pipe_as_summary_is_not_waited_for(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(pytester.path / "pipe")
    monkeypatch.setenv(SUMMARY, str(pytester.path / "pipe"))
    pytester.makepyfile("def test_it(memtype_kernel): pass")
    done = run(pytester, "--kernel", "debian:bookworm")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert stat.S_ISFIFO((pytester.path / "pipe").stat().st_mode)
    assert "is a pipe; name a regular file" in done.stdout.str() + done.stderr.str()


def test_a_test_that_was_broken_off_has_not_passed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import pytest\ndef test_passes(guest): pass\ndef test_stops(guest): pytest.exit('enough')\n"
    )
    names = ("--kernel", "debian:bookworm", "--kcidb=kcidb.json", "--ktap=run.ktap")
    done = run(pytester, "-n", "0", *names)
    assert done.ret == pytest.ExitCode.INTERRUPTED
    told = json.loads((pytester.path / "kcidb.json").read_text())["tests"]
    assert [each["status"] for each in told] == ["PASS"]
    assert "test_passes" in told[0]["path"] + told[0]["comment"] + json.dumps(told[0])


def test_a_file_is_written_whatever_fails_at_the_end(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_sessionfinish(): raise RuntimeError('a plugin of the user')\n")
    pytester.makepyfile("def test_it(): pass\n")
    run(pytester, "-n", "0", "--ktap=run.ktap")
    assert "ok 1" in (pytester.path / "run.ktap").read_text()


def test_a_file_that_can_not_be_written_costs_nothing_else(pytester: pytest.Pytester) -> None:
    pytester.mkdir("out")
    pytester.makepyfile(
        "import shutil\ndef test_fails(): shutil.rmtree('out'); assert False, 'as it should'\n"
    )
    done = run(pytester, "--ktap", "out/run.ktap", "--junitxml=junit.xml")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stdout.fnmatch_lines(
        ["*FAILURES*", "*as it should*", "FAILED *test_fails*", "*1 failed*", "memtype: out/run.ktap*"]
    )
    assert JUnitXml.fromfile(str(pytester.path / "junit.xml"))
