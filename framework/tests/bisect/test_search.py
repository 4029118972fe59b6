"""The search, with made-up kernels; with real ones it is shown in docs/compare-kernels.md."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_memtype.bisect import search
from pytest_memtype.bisect.attempt import FAILED, PASSED, UNKNOWN, Attempt
from pytest_memtype.bisect.search import Search, State, TryAll, between, git_script, look_for
from pytest_memtype.cli import main
from pytest_memtype.errors import HostError, KernelError, MemtypeError, UsageError
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.index import Kernel


def searched(answers: list[str], at_once: int = 1) -> tuple[Search, int]:
    """A search that is done, over kernels with these answers, and how many rounds it took."""
    search = Search([str(number) for number in range(len(answers))], at_once=at_once)
    rounds = 0
    while releases := search.next():
        rounds += 1
        assert len(set(releases)) == len(releases) <= at_once
        assert not set(releases) & set(search.tried)
        for release in releases:
            answer = answers[int(release)]
            search.tried[release] = Attempt(answer, (answer, answer))
    return search, rounds


def changing(count: int, first_bad: int, unknown: frozenset[int] = frozenset()) -> list[str]:
    changed = [FAILED if at >= first_bad else PASSED for at in range(count)]
    return [UNKNOWN if at in unknown else answer for at, answer in enumerate(changed)]


@settings(deadline=None)
@given(st.data())
def test_neighbours_are_found_in_few_tries(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 200))
    first_bad = data.draw(st.integers(1, count - 1))
    search, _ = searched(changing(count, first_bad))
    assert search.bounds == (first_bad - 1, first_bad)
    assert search.counted <= search.most == math.ceil(math.log2(count)) + 2


def logarithm(number: int, base: int) -> int:
    """Rounded up, of integers alone."""
    return next(power for power in range(number) if base**power >= number)


@settings(deadline=None)
@given(st.data())
def test_several_at_once_find_the_same_in_fewer_rounds(data: st.DataObject) -> None:
    """Without the ends there are ceil(log(n + 1)) rounds; with them the first divides by two less."""
    count = data.draw(st.integers(2, 200))
    at_once = data.draw(st.integers(2, 12))
    first_bad = data.draw(st.integers(1, count - 1))
    search, rounds = searched(changing(count, first_bad), at_once)
    assert search.bounds == (first_bad - 1, first_bad)
    assert rounds <= search.rounds <= logarithm(count, at_once + 1) + 1
    assert search.rounds == logarithm(math.ceil((count - 1) / (at_once - 1)), at_once + 1) + 1
    assert search.counted <= search.most
    # With the ends known, as after an interruption.
    resumed = Search(search.kernels, {end: search.tried[end] for end in ("0", str(count - 1))}, at_once)
    again = 0
    while releases := resumed.next():
        again += 1
        for release in releases:
            answer = changing(count, first_bad)[int(release)]
            resumed.tried[release] = Attempt(answer, (answer, answer))
    assert resumed.bounds == search.bounds
    assert again <= logarithm(count - 1, at_once + 1)


def test_rounds_are_what_is_promised_at_worst() -> None:
    for count in (2, 3, 35, 36, 37, 100):
        for at_once in (1, 2, 3, 6, 7):
            each = [searched(changing(count, first_bad), at_once) for first_bad in range(1, count)]
            most = each[0][0].rounds
            assert max(rounds for _, rounds in each) == most or at_once == 1
    assert searched(changing(35, 17), 6)[1] == 2


@settings(deadline=None)
@given(st.data())
def test_kernels_that_can_not_be_tried_are_skipped(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 60))
    at_once = data.draw(st.integers(1, 9))
    first_bad = data.draw(st.integers(1, count - 1))
    unknown = data.draw(st.frozensets(st.integers(1, count - 2))) if count > 2 else frozenset()
    answers = changing(count, first_bad, unknown)
    search, _ = searched(answers, at_once)
    good, bad = search.bounds
    assert good < first_bad <= bad
    assert set(range(good + 1, bad)) <= unknown
    assert (good, bad) == searched(answers)[0].bounds


@settings(deadline=None)
@given(st.data())
def test_an_answer_that_changes_more_than_once(data: st.DataObject) -> None:
    """What is found is one of the changes, and what was seen beyond it is told."""
    inner = data.draw(st.lists(st.sampled_from([PASSED, FAILED, UNKNOWN]), max_size=40))
    answers = [PASSED, *inner, FAILED]
    search, _ = searched(answers, data.draw(st.integers(1, 9)))
    good, bad = search.bounds
    assert (answers[good], answers[bad]) == (PASSED, FAILED)
    assert set(answers[good + 1 : bad]) <= {UNKNOWN}
    seen = [int(each) for each, made in search.tried.items() if made.answer == PASSED]
    assert sorted(map(int, search.good_again)) == sorted(at for at in seen if at > bad)


@pytest.mark.parametrize(("first_bad", "word"), [(0, "said to be good"), (9, "said to be bad")])
@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_ends_that_do_not_differ(first_bad: int, word: str, at_once: int) -> None:
    with pytest.raises(UsageError, match=word):
        searched(changing(9, first_bad), at_once)


def test_an_end_that_can_not_be_tried() -> None:
    search = Search(["a", "b"], {"a": Attempt(UNKNOWN, (UNKNOWN,), "it doesn't boot")})
    with pytest.raises(UsageError, match="unknown"):
        search.next()


@pytest.mark.parametrize("end", ["a", "b"])
def test_an_end_that_this_host_can_not_try(end: str) -> None:
    """No other argument would help."""
    search = Search(["a", "b"], {end: Attempt(UNKNOWN, (UNKNOWN,), "the disk is full", trouble=True)})
    with pytest.raises(
        HostError, match=rf"bisect: {end}, said to be .*, couldn't be tried: the disk is full"
    ):
        search.next()


def made_up(answers: list[str], stopped: list[str]) -> TryAll:
    """Tries kernels whose release is a number, the last one first; notes which of them weren't waited for."""

    def try_all(specs: Sequence[str], _test: str) -> Generator[tuple[str, Attempt]]:
        waiting = list(specs)
        try:
            while waiting:
                spec = waiting.pop()
                answer = answers[int(spec.removeprefix("debian:"))]
                yield spec, Attempt(answer, (answer,))
        finally:
            stopped.extend(waiting)

    return try_all


def test_an_interrupted_round_keeps_what_is_known() -> None:
    answers, stopped = changing(35, 12), list[str]()
    search = Search([str(number) for number in range(35)], at_once=6)
    with closing(look_for(search, "t", made_up(answers, stopped))) as interrupted:
        known = set(islice(interrupted, 4))
    assert len(stopped) == 2
    resumed = Search(search.kernels, dict(search.tried), at_once=3)
    said = list(look_for(resumed, "t", made_up(answers, stopped)))
    assert resumed.bounds == (11, 12)
    assert not set(said) & known


def test_nothing_is_waited_for_once_an_end_is_wrong() -> None:
    stopped: list[str] = []
    search = Search([str(number) for number in range(35)], at_once=6)
    with pytest.raises(UsageError, match="said to be bad"):
        list(look_for(search, "t", made_up([PASSED] * 35, stopped)))
    assert stopped == ["debian:0"]


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


def test_what_could_not_be_tried_is_tried_when_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that was full. What the test says nothing of stays so."""
    monkeypatch.setattr(search, "resolve", lambda spec, **_: spec)
    monkeypatch.setattr(search, "every", lambda **_: [kernel(release) for release in "abcd"])
    monkeypatch.setattr(search, "report", lambda found, kernels, **_: [kernels[found.bounds[0]].release])
    test = tmp_path / "test_one.py"
    test.touch()
    name = f"{test}::test_it"
    State(tmp_path, test=name, good="a", bad="d").save(
        {
            "a": Attempt(PASSED, (PASSED,)),
            "b": Attempt(UNKNOWN, (UNKNOWN,), "disk is full", trouble=True),
            "c": Attempt(UNKNOWN, (UNKNOWN,), "skipped"),
            "d": Attempt(FAILED, (FAILED,)),
        }
    )
    asked: list[str] = []

    def try_all(specs: Sequence[str], _test: str) -> Generator[tuple[str, Attempt]]:
        asked.extend(specs)
        yield specs[0], Attempt(PASSED, (PASSED,))

    lines: list[str] = []
    search.bisect(
        name, good="a", bad="d", folder=tmp_path, say=lines.append, progress=silent, try_all=try_all
    )
    assert asked == ["debian:b"]
    assert lines[-1] == "b"


@pytest.mark.parametrize("error", [KernelError("the mirror"), HostError("disk is full")])
def test_the_result_is_told_without_a_changelog(monkeypatch: pytest.MonkeyPatch, error: MemtypeError) -> None:
    def none(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(search, "changelog", none)
    done, _ = searched([PASSED, FAILED])
    lines = search.report(done, [kernel("a"), kernel("b")], progress=silent)
    assert lines[0] == "good: linux-image-a a-1 (sid)"
    assert lines[-1] == f"no changelog: {error.message}"


def test_a_bisection_of_a_file_with_a_name_of_any_bytes(tmp_path: Path) -> None:
    test = os.fsdecode(b"caf\xe9.py::test_it")
    state = State(tmp_path, test=test, good="a", bad="b")
    state.save({"a": Attempt(PASSED, (PASSED,))})
    assert State(tmp_path, test=test, good="a", bad="b").load() == {"a": Attempt(PASSED, (PASSED,))}


def test_the_script_for_git(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    test = tmp_path / "test_one.py"
    test.write_text("")
    script = git_script(f"{test}::test_it", good=f"tree:{tmp_path}", bad="debian:6.1")
    assert script.startswith("#!/bin/sh\n")
    assert f"pytest_memtype.bisect.attempt tree:{tmp_path} {test}::test_it " in script
    with pytest.raises(UsageError, match="no git repository"):
        git_script(f"{test}::test_it", good="debian:6.1", bad=f"tree:{tmp_path / 'elsewhere'}")


@pytest.mark.parametrize(
    ("attempt", "status"),
    [
        ('echo {} > "$5"; exit 0', 0),
        ('echo {} > "$5"; exit 1', 1),
        ('echo {} > "$5"; exit 125', 125),
        ("exit 2", 125),
        # As Python ends that doesn't find the package, or whose disk is full.
        ("exit 1", 125),
        (': > "$5"; exit 1', 125),
    ],
)
def test_git_is_told_of_a_commit_what_an_attempt_has_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempt: str, status: int
) -> None:
    tree, programs = tmp_path / "a tree", tmp_path / "programs"
    (tree / ".git").mkdir(parents=True)
    programs.mkdir()
    (tree / "test_one.py").touch()
    for name, lines in (("make", "exit 0"), ("python", attempt)):
        (programs / name).write_text(f"#!/bin/sh\n{lines}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    script = git_script(f"{tree}/test_one.py::test_it", good=f"tree:{tree}", bad="debian:6.1")
    assert subprocess.run(["sh", "-c", script], check=False).returncode == status
    assert sorted(tmp_path.iterdir()) == [tree, programs]


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("tree", "debian:6.12", "kernel 'tree': no such kind of kernel"),
        ("tree:", "debian:6.12", "kernel 'tree:': no such kind of kernel"),
        ("tree:.", "nonsense", "kernel 'nonsense': no such kind of kernel"),
        ("debian:nonsense", "tree:.", "kernel 'debian:nonsense': no such Debian suite"),
    ],
)
def test_each_end_is_a_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: str, bad: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pytest_memtype.commands.bisect.usable_qemu", lambda **_: None)
    (tmp_path / ".git").mkdir()
    (tmp_path / "test_one.py").write_text("")
    result = CliRunner().invoke(main, ["bisect", "test_one.py::test_it", "--good", good, "--bad", bad])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"memtype: {said}")
