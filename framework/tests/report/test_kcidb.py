"""Results as a report for KCIDB, which its own library accepts."""

from __future__ import annotations

import json
from typing import Any

import kcidb_io
import pytest
from memtype_support.results import evil, made, of_each_status

from pytest_memtype.report.kcidb import kcidb
from pytest_memtype.report.result import Result, Status


def report(results: list[Result]) -> Any:
    made = json.loads(json.dumps(kcidb(results, origin="hil", run="20261129-101010-7")))
    kcidb_io.schema.LATEST.validate_exactly(made)
    return made


def test_a_kernel_is_a_checkout_with_one_build() -> None:
    seen = report([*of_each_status(), *of_each_status("debian:trixie")])
    assert [each["id"] for each in seen["checkouts"]] == ["hil:6.1.0-1", "hil:6.12.1-1"]
    assert [each["id"] for each in seen["builds"]] == [
        "hil:6.1.0-50-cloud-amd64-6.1.0-1",
        "hil:6.12.1-cloud-amd64-6.12.1-1",
    ]
    assert {each["build_id"] for each in seen["tests"]} == {each["id"] for each in seen["builds"]}
    assert len({each["id"] for each in seen["tests"]}) == 14


def test_statuses_and_excerpts_are_those_of_the_schema() -> None:
    seen = report(of_each_status())["tests"]
    assert [each["status"] for each in seen] == ["PASS", "FAIL", "ERROR", "MISS", "SKIP", "PASS", "PASS"]
    assert seen[1]["log_excerpt"] == "it\ndid"
    assert seen[1]["path"] == "memtype.a.test_one.TestIt.test_fails"
    assert (seen[0]["start_time"], seen[0]["duration"]) == ("2023-11-14T22:13:20.500000+00:00", 1.25)
    assert "log_excerpt" not in seen[0]
    assert (
        seen[0]["environment"]["comment"] == "QEMU 7.2.22; accelerator tcg; layout firmware; hardware default"
    )
    assert seen[0]["environment"]["misc"]["verdicts.alias"] == "1"


def test_a_reported_bug_is_an_issue_and_what_was_seen_an_incident() -> None:
    bug = {"bug": "wb-first", "bug.title": "WB, then WC"}
    results = [
        made("t.py::test_a", more={**bug, "bug.outcome": "REPRODUCED"}),
        made("t.py::test_b", more={**bug, "bug.outcome": "ABSENT"}),
        made("t.py::test_c", Status.FAILED, more={**bug, "bug.outcome": "FAILED"}),
    ]
    seen = report(results)
    assert [(each["id"], each["comment"]) for each in seen["issues"]] == [
        ("hil:memtype-wb-first", "WB, then WC")
    ]
    assert [each["present"] for each in seen["incidents"]] == [True, False]
    assert [each["test_id"] for each in seen["incidents"]] == [each["id"] for each in seen["tests"][:2]]


def test_a_test_that_was_skipped_before_its_guest_belongs_to_the_kernel_of_the_others() -> None:
    skipped = Result(
        "t.py::test_s[debian:bookworm]", Status.SKIPPED, 0, 0, properties={"tested": "debian:bookworm"}
    )
    seen = report([skipped, made("t.py::test_a")])
    assert len(seen["builds"]) == 1


def test_a_kernel_that_nothing_is_known_of_still_makes_a_report() -> None:
    (build,) = report(
        [Result("t.py::t[tree:/x y]", Status.SKIPPED, 0, 0, properties={"tested": "tree:/x y"})]
    )["builds"]
    assert build["id"] == "hil:tree:/x-y"


def test_tests_without_a_kernel_are_left_out() -> None:
    assert report([Result("t.py::t", Status.PASSED, 0, 0)])["tests"] == []


@pytest.mark.parametrize("length", [1, 100_000])
def test_what_a_guest_prints_is_valid(length: int) -> None:
    result = evil()
    seen = report(
        [
            Result(
                result.test,
                result.status,
                0,
                0,
                details=result.details * length,
                properties=result.properties,
            )
        ]
    )
    assert len(seen["tests"][0]["log_excerpt"]) <= 16384
