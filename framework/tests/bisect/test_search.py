"""The search, with made-up kernels; with real ones it is shown in docs/compare-kernels.md."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_memtype.bisect.attempt import FAILED, PASSED, UNKNOWN, Attempt
from pytest_memtype.bisect.search import Search, State, between, git_script
from pytest_memtype.errors import UsageError
from pytest_memtype.kernels.index import Kernel


def searched(count: int, first_bad: int, unknown: frozenset[int] = frozenset()) -> Search:
    search = Search([str(number) for number in range(count)])
    while (release := search.next()) is not None:
        assert release not in search.tried
        answer = FAILED if int(release) >= first_bad else PASSED
        if int(release) in unknown:
            answer = UNKNOWN
        search.tried[release] = Attempt(answer, (answer, answer))
    return search


@settings(deadline=None)
@given(st.data())
def test_neighbours_are_found_in_few_tries(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 200))
    first_bad = data.draw(st.integers(1, count - 1))
    search = searched(count, first_bad)
    assert search.bounds == (first_bad - 1, first_bad)
    assert search.counted <= search.most == math.ceil(math.log2(count)) + 2


@settings(deadline=None)
@given(st.data())
def test_kernels_that_can_not_be_tried_are_skipped(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 60))
    first_bad = data.draw(st.integers(1, count - 1))
    unknown = data.draw(st.frozensets(st.integers(1, count - 2))) if count > 2 else frozenset()
    good, bad = searched(count, first_bad, unknown).bounds
    assert good < first_bad <= bad
    assert set(range(good + 1, bad)) <= unknown


@pytest.mark.parametrize(("first_bad", "word"), [(0, "said to be good"), (9, "said to be bad")])
def test_ends_that_do_not_differ(first_bad: int, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        searched(9, first_bad)


def test_an_end_that_can_not_be_tried() -> None:
    search = Search(["a", "b"], {"a": Attempt(UNKNOWN, (UNKNOWN,), "it doesn't boot")})
    with pytest.raises(UsageError, match="unknown"):
        search.next()


def test_the_state_outlives_an_interruption(tmp_path: Path) -> None:
    state = State(tmp_path / "new", test="t", good="a", bad="b")
    assert state.load() == {}
    tried = {"a": Attempt(PASSED, (PASSED, FAILED, PASSED)), "b": Attempt(UNKNOWN, (UNKNOWN,), "no boot")}
    state.save(tried)
    assert State(tmp_path / "new", test="t", good="a", bad="b").load() == tried
    assert State(tmp_path / "new", test="other", good="a", bad="b").load() == {}
    damaged = ('{"a": 1}', '{"a": {"answer": "passed", "tries": [NaN]}}', '{"a": {"answer": 1, "tries": []}}')
    for text in ("{", "[" * 100_000, *damaged):
        state.path.write_text(text)
        assert state.load() == {}
    state.forget()
    assert not state.path.exists()


def kernel(release: str) -> Kernel:
    return Kernel(release, f"{release}-1", "sid", f"linux-image-{release}")


def test_between() -> None:
    kernels = [kernel(release) for release in "abcd"]
    assert [each.release for each in between(kernels, "b", "d")] == ["b", "c", "d"]
    assert [each.release for each in between(kernels, "c", "a")] == ["c", "b", "a"]
    for good, bad in (("a", "x"), ("x", "a"), ("a", "a")):
        with pytest.raises(UsageError, match="bisect: "):
            between(kernels, good, bad)


def test_the_script_for_git(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    test = tmp_path / "test_one.py"
    test.write_text("")
    script = git_script(f"{test}::test_it", good=f"tree:{tmp_path}", bad="debian:6.1")
    assert script.startswith("#!/bin/sh\n")
    assert f"pytest_memtype.bisect.attempt tree:{tmp_path} {test}::test_it\n" in script
    with pytest.raises(UsageError, match="no git repository"):
        git_script(f"{test}::test_it", good="debian:6.1", bad=f"tree:{tmp_path / 'elsewhere'}")
