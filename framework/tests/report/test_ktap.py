"""Results as KTAP, read by the kernel's own parser."""

from __future__ import annotations

import pytest
from memtype_support.kernel_scripts import LeftOutError
from memtype_support.kunit import Parsed, parse
from memtype_support.results import evil, made, of_each_status

from pytest_memtype.report.ktap import ktap
from pytest_memtype.report.result import Result


def parsed(results: list[Result], monkeypatch: pytest.MonkeyPatch) -> Parsed:
    # Lint has fetched it; the network is not this test's.
    monkeypatch.setenv("MEMTYPE_OFFLINE", "1")
    try:
        return parse(ktap(results))
    except LeftOutError as error:
        pytest.skip(str(error))


def test_kernels_files_and_tests_are_nested(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [
        *of_each_status(),
        *of_each_status("debian:trixie"),
        made("b/test.py::test_it", kernel="debian:trixie"),
    ]
    seen = parsed(both, monkeypatch)
    assert seen.errors == 0
    assert [each.name for each in seen.subtests] == ["debian:bookworm", "debian:trixie"]
    bookworm, trixie = seen.subtests
    assert [each.name for each in trixie.subtests] == ["a/test_one.py", "a/test_two.py", "b/test.py"]
    one, two = bookworm.subtests
    assert [(each.name, each.status) for each in one.subtests] == [
        ("test_passes[debian:bookworm]", "SUCCESS"),
        ("TestIt::test_fails[debian:bookworm]", "FAILURE"),
    ]
    assert [each.status for each in two.subtests] == ["FAILURE", "FAILURE", "SKIPPED", "SUCCESS", "SUCCESS"]
    assert (one.status, two.status, bookworm.status) == ("FAILURE", "FAILURE", "FAILURE")
    assert trixie.subtests[2].status == "SUCCESS"
    assert [line.strip(" #") for line in one.subtests[1].log] == ["it", "did"]


def test_what_a_guest_prints_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = parsed([evil(), made("a/test_one.py::test_after")], monkeypatch)
    assert seen.errors == 0
    (kernel,) = seen.subtests
    (file,) = kernel.subtests
    assert len(file.subtests) == 2
    assert [each.status for each in file.subtests] == ["FAILURE", "SUCCESS"]
    assert [each.subtests for each in file.subtests] == [[], []]


def test_reasons_are_directives() -> None:
    lines = [line.strip() for line in ktap(of_each_status()).splitlines()]
    assert "ok 3 test_skipped[debian:bookworm] # SKIP it wants #3" in lines
    assert "ok 4 test_known[debian:bookworm] # XFAIL known" in lines
    assert "not ok 2 test_no_host[debian:bookworm] # ERROR no QEMU" in lines


def test_a_run_without_tests_is_a_plan_of_none() -> None:
    assert ktap([]) == "KTAP version 1\n1..0\n"
