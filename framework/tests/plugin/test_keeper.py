from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from memtype_support.inner_pytest import run

from pytest_memtype.audit.findings import Finding, FindingKind
from pytest_memtype.plugin import keeper
from pytest_memtype.plugin.fixtures import GUESTS
from pytest_memtype.report.kept import kept_facts, kept_layouts, kept_tests
from pytest_memtype.run import folder
from pytest_memtype.run.alias_check import Checked
from pytest_memtype.x86.effective import Severity

TESTS = """
import pytest
from pytest_memtype import MemType

def test_that_fails(guest):
    bar = guest.mmio(pages=1)
    assert guest.driver("fb").ioremap(bar, MemType.WB) is None, "a reason"

@pytest.mark.skip(reason="not today")
def test_left_out(guest):
    pass

@pytest.mark.xfail(reason="one day")
def test_expected_to_fail(guest):
    assert False

@pytest.mark.layout("wb-device")
@pytest.mark.expect_alias
def test_alias_at_the_end(guest):
    bar = guest.mmio(pages=1)
    process = guest.process("X")
    process.read(process.mmap(bar, MemType.WB, via="insert_pfn").mapping, 0)
    guest.driver("fb").ioremap(bar, MemType.WC)
"""


def memtype_run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """memtype run, whose process knows the kernels that its workers test."""
    program = "from pytest_memtype.cli import main; main()"
    return pytester.run(sys.executable, "-c", program, "run", "--accel", "tcg", *arguments)


def latest(pytester: pytest.Pytester) -> Path:
    return (pytester.path / ".memtype" / "latest").resolve()


DIES = """
import os, pytest

def test_that_kills_its_worker(guest):
    os._exit(3)

def test_with_half_a_character(guest):
    assert False, "\\udcff"

def test_after_it(guest):
    pass
"""


def test_half_a_character_ends_no_run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """As os.fsdecode() makes them of a name that isn't UTF-8. pytest prints such texts."""
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:backslashreplace")
    pytester.makepyfile(test_it=DIES)
    names = ("--kernel", "debian:bookworm", "--kcidb=kcidb.json", "--ktap=run.ktap", "--junitxml=junit.xml")
    done = run(pytester, "-n", "0", *names, "-k", "not kills")
    done.assert_outcomes(passed=1, failed=1)
    (headline,) = (each.headline for each in kept_tests(latest(pytester)) if each.status == "failed")
    assert "\\udcff" in headline


def test_a_test_whose_worker_has_died_is_kept(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=DIES)
    names = ("--kernel", "debian:bookworm", "--kcidb=kcidb.json", "--memtype-html", "report")
    done = memtype_run(pytester, "-n", "1", *names, "-k", "kills or after")
    # Whatever killed it, no verdict differs.
    assert done.ret == 3, done.stderr
    kept = {each.test: each for each in kept_tests(latest(pytester))}
    died = kept["test_it.py::test_that_kills_its_worker[debian:bookworm]"]
    assert (died.status, died.system, died.path) == ("missed", "minimal", "test_it.py")
    assert died.tested.startswith("debian:6.1.")
    assert "crashed while running" in died.headline
    told = json.loads((pytester.path / "kcidb.json").read_text())["tests"]
    assert sorted(each["status"] for each in told) == ["MISS", "PASS"]


def test_what_is_kept_of_a_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TESTS)
    done = run(pytester, "-n", "0", "--memtype-html", "report")
    assert done.ret == 1
    kept = {
        each.test.partition("[")[0].removeprefix("test_it.py::"): each
        for each in kept_tests(latest(pytester))
    }
    assert {name: each.status for name, each in kept.items()} == {
        "test_that_fails": "failed",
        "test_left_out": "skipped",
        "test_expected_to_fail": "failed as expected",
        "test_alias_at_the_end": "passed",
    }
    failed = kept["test_that_fails"]
    assert failed.headline.startswith("AssertionError: a reason")
    assert "run guest 1 again: " in failed.details
    assert failed.path == "test_it.py"
    assert failed.tested.startswith("debian:6.1")
    assert kept["test_left_out"].headline == "not today"
    (audit,) = kept["test_alias_at_the_end"].audits
    assert audit.findings[0]["kind"] == "conflict"
    assert audit.excused == [True]
    assert audit.picture.startswith("<?xml")
    assert {each.layout for each in kept_layouts(latest(pytester))} == {"firmware", "wb-device"}
    facts = kept_facts(latest(pytester))
    assert facts.exit_status == 1
    assert "pytest-memtype" in facts.versions
    done.stdout.fnmatch_lines(["report: report/index.html"])
    assert "test_that_fails" in (pytester.path / "report" / latest(pytester).name / "index.js").read_text()


def test_of_many_aliases_the_worst_are_kept() -> None:
    """The audit lists them by address."""
    aliases = [
        Finding(FindingKind.CONFLICT, Severity.WARNING, each << 12, 1, (), "RAM", "") for each in range(40)
    ]
    worst = Finding(FindingKind.CONFLICT, Severity.FATAL, 1 << 30, 1, (), "VRAM", "")
    kept = keeper._audit(Checked((6, 1), (*aliases, worst), (aliases[1], worst), 1.0))
    assert (kept["findings"][0]["danger"], kept["findings"][1]["start"]) == ("FATAL", 0)
    assert len(kept["findings"]) + kept["left"] == 41
    assert kept["excused"][:3] == [False, True, False]


def test_the_folders_of_a_tests_logs(tmp_path: Path) -> None:
    nodeid = "t.py::test"

    def folders(name: str, target: object = None) -> list[str]:
        session = SimpleNamespace(target=target)
        guests = SimpleNamespace(logs=tmp_path / name, session=session)
        item = SimpleNamespace(nodeid=nodeid, stash={GUESTS: guests})
        return keeper._folders(cast(pytest.Item, item))

    own = folder.test_folder(tmp_path, nodeid).name
    assert folders(own) == []
    assert folders("t.py-gw0-1234") == ["t.py-gw0-1234"]
    assert folders(own, SimpleNamespace(logs=tmp_path / "target-2")) == ["target-2"]


SHARED = """
def test_that_fails(guest):
    assert guest is None
"""


def test_the_report_has_the_logs_of_a_shared_guest(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=SHARED)
    assert run(pytester, "-n", "0", "--shared-guest", "--memtype-html", "report").ret == 1
    (kept,) = kept_tests(latest(pytester))
    (name,) = kept.folders
    assert (latest(pytester) / name / "guest-1" / "console.log").is_file()
    failures = (pytester.path / "report" / latest(pytester).name / "failures-0.js").read_text()
    assert f"{name}/guest-1/console.log" in failures


def test_another_folder_is_refused_before_any_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TESTS)
    done = run(pytester, "-n", "0", "--memtype-html", ".")
    assert done.ret == 4
    done.stderr.fnmatch_lines(["*holds other files than a report; name a new folder for it*"])
    assert not (pytester.path / ".memtype").exists()


def test_memtype_run_has_the_option_by_its_short_name(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TESTS)
    command = "from pytest_memtype.cli import main; main()"
    for words in (["--html=."], ["--html", "."]):
        done = pytester.run(
            sys.executable, "-c", command, "run", "--kernel", "debian:6.1", *words, "test_it.py"
        )
        assert done.ret == 2
        done.stderr.fnmatch_lines(["memtype: .: holds other files than a report; name a new folder for it"])


LATE = """
import pytest

@pytest.fixture
def memtype_variant():
    return None

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "teardown":
        report.memtype_kept = {"tested": "k", "kernel": "k", "system": "minimal"}
    return report
"""


def test_a_report_that_can_not_be_written_is_a_line_and_a_status(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(LATE)
    pytester.makepyfile(
        """
        import pathlib

        def test_it():
            pathlib.Path("report").mkdir()
            pathlib.Path("report/other").touch()
        """
    )
    done = run(pytester, "-n", "0", "--memtype-html", "report")
    assert done.ret == 2
    done.stdout.fnmatch_lines(["memtype: report: holds other files than a report*"])


def test_other_suites_leave_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    assert run(pytester, "-n", "0").ret == 0
    assert not (pytester.path / ".memtype").exists()


def test_what_a_worker_says_is_checked(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(LATE.replace('"tested": "k"', '"tested": ["k"]'))
    pytester.makepyfile("def test_it(): pass")
    done = run(pytester, "-n", "0")
    assert done.ret == 3
    assert "what its worker says of it makes no sense" in done.stdout.str()
