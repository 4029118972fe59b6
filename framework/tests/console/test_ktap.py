"""Expected results by Linux 6.12: Documentation/dev-tools/ktap.rst, tools/testing/selftests/kselftest.h."""

from __future__ import annotations

import pytest

from pytest_memtype.console.ktap import Subtest, subtests

HARNESS = """TAP version 13
1..3
# Starting 3 tests from 1 test cases.
#  RUN           pfnmap.fork ...
#            OK  pfnmap.fork
ok 1 pfnmap.fork
#  RUN           pfnmap.split ...
# pfnmap.c:203:split:Expected self->addr2 (18446744073709551615) != MAP_FAILED (18446744073709551615)
# split: Test terminated by assertion
#          FAIL  pfnmap.split
not ok 2 pfnmap.split
#  RUN           pfnmap.wide ...
#      SKIP      no room
ok 3 pfnmap.wide # SKIP no room
# FAILED: 2 / 3 tests passed.
# Totals: pass:1 fail:1 xfail:0 xpass:0 skip:1 error:0
"""


def results(text: str, status: int = 0) -> list[tuple[str, str]]:
    return [(each.name, each.result) for each in subtests(text, status=status, program="it")]


def test_what_the_harness_prints() -> None:
    found = subtests(HARNESS, status=1, program="pfnmap")
    assert [(each.name, each.result) for each in found] == [
        ("pfnmap.fork", "ok"),
        ("pfnmap.split", "failed"),
        ("pfnmap.wide", "skipped"),
    ]
    assert "pfnmap.c:203:split:Expected" in found[1].reason
    assert found[2].reason == "no room"


def test_a_dash_before_the_name_and_none() -> None:
    assert results("TAP version 13\n1..2\nok 1 - first one\nok 2\n") == [("first one", "ok"), ("2", "ok")]


def test_one_that_ends_before_its_plan_has_failed() -> None:
    text = "TAP version 13\n1..5\nok 1 a\n[FAIL] BUG: unable to mremap: Invalid argument\n"
    assert results(text, 1) == [("a", "ok"), ("it", "failed")]
    (_, rest) = subtests(text, status=1, program="it")
    assert "after 1 of 5 tests" in rest.reason
    assert "unable to mremap" in rest.reason


def test_one_that_gives_up() -> None:
    assert results("TAP version 13\n1..2\nok 1 a\nBail out! no memory\n", 1) == [
        ("a", "ok"),
        ("it", "failed"),
    ]


def test_one_that_skips_all() -> None:
    found = subtests("TAP version 13\n1..0 # SKIP Cannot mmap '/dev/mem'\n", status=4, program="it")
    assert found == (Subtest("it", "skipped", "Cannot mmap '/dev/mem'"),)


@pytest.mark.parametrize(("status", "result"), [(0, "ok"), (4, "skipped"), (1, "failed"), (139, "failed")])
def test_one_that_prints_no_ktap_is_judged_by_its_status(status: int, result: str) -> None:
    assert results("whatever\n", status) == [("it", result)]
    assert results("", status) == [("it", result)]


def test_a_status_that_no_test_explains_is_a_failure() -> None:
    assert results("1..1\nok 1 a\n", 139) == [("a", "ok"), ("it", "failed")]


def test_known_failures_and_what_was_cut_short() -> None:
    text = "1..3\nnot ok 1 a # XFAIL known\nnot ok 2 b # TIMEOUT 45 seconds\nok 3 c # TODO later\n"
    assert results(text, 1) == [("a", "ok"), ("b", "failed"), ("c", "ok")]


def test_what_means_ill_is_short() -> None:
    ill = "y" * 100000
    found = subtests(
        f"1..{'9' * 400}\nok {'1' * 400} {'x' * 100000}\n# {ill}\nnot ok 2 b\n"
        f"ok 3 c # SKIP {ill}\nBail out! {ill}\n",
        status=0,
        program="it",
    )
    assert [(len(each.name), len(each.reason)) for each in found] == [
        (200, 0),
        (1, 200),
        (1, 200),
        (2, len("it gave up: ") + 200),
    ]
    assert [len(each.reason) for each in subtests(f"1..0 # SKIP {ill}", status=4, program="it")] == [200]


@pytest.mark.parametrize("line", [f"ok 1{' ' * 100_000}#", f"ok {'1' * 100_000}#", f"ok 1{' -' * 50_000}#"])
def test_a_line_that_is_nearly_a_result_takes_no_time(line: str) -> None:
    """It would be tried in as many ways as it has characters, to the third power: for days."""
    assert results(line) == [("it", "ok")]
