"""``memtype bisect``: the search for the two of Debian's kernels between which a test began to fail."""

from __future__ import annotations

import hashlib
import math
import os
import shlex
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import msgspec

from pytest_memtype.bisect.attempt import FAILED, PASSED, UNKNOWN, Attempt, find_test
from pytest_memtype.errors import HostError, KernelError, UsageError
from pytest_memtype.host.files import write_atomically
from pytest_memtype.host.progress import Progress
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels.bundle import resolve
from pytest_memtype.kernels.changelog import about_memory_types, changelog, new_series
from pytest_memtype.kernels.index import Kernel
from pytest_memtype.kernels.kept_indexes import every
from pytest_memtype.kernels.spec import BuildSpec, parse
from pytest_memtype.spec.linux_versions import changed, parse_version

TryAll: TypeAlias = Callable[[Sequence[str], str], Generator[tuple[str, Attempt]]]
"""Called with kernel specs and a test to try them at once: gives each spec with its attempt as it is done.

What is still being tried when the generator is closed is stopped.
"""


@dataclass
class Search:
    """An n-ary search over kernels, some of which can't be tried: each round tries several at once.

    :param kernels: Releases, the good end first.
    :param tried: What is known: release -> attempt.
    :param at_once: How many kernels a round tries.
    """

    kernels: Sequence[str]
    tried: dict[str, Attempt] = field(default_factory=dict)
    at_once: int = 1

    @property
    def rounds(self) -> int:
        """How many rounds there are at most, not counting kernels that give no answer.

        The first tries the ends too, so that it divides the kernels by two less than the others do; where
        one kernel is tried at a time, the ends are two rounds of their own.
        """
        if self.at_once == 1:
            return 2 + math.ceil(math.log2(len(self.kernels)))
        # How far apart the two neighbours may be: integers, since logarithms are inexact.
        distance, rounds = _divided(len(self.kernels) - 1, self.at_once - 1), 1
        while distance > 1:
            distance, rounds = _divided(distance, self.at_once + 1), rounds + 1
        return rounds

    @property
    def most(self) -> int:
        """How many kernels are tried at most, not counting those that give no answer."""
        return self.rounds if self.at_once == 1 else min(len(self.kernels), self.rounds * self.at_once)

    @property
    def counted(self) -> int:
        """How many kernels gave an answer."""
        return sum(attempt.answer != UNKNOWN for attempt in self.tried.values())

    @property
    def bounds(self) -> tuple[int, int]:
        """Indices of the last kernel that is known to be good and of the first that is known to be bad."""
        answers = self._answers()
        bad = answers.index(FAILED, 1) if FAILED in answers[1:] else len(answers) - 1
        good = max((at for at in range(bad) if answers[at] == PASSED), default=0)
        return good, bad

    @property
    def good_again(self) -> list[str]:
        """Releases beyond the bad bound on which the test passes: its answer changes more than once."""
        answers = self._answers()
        return [self.kernels[at] for at in range(self.bounds[1], len(answers)) if answers[at] == PASSED]

    def next(self) -> list[str]:
        """The releases of the kernels to try next, at once; none when none between the bounds is left to try.

        :raises UsageError: the ends don't differ, or the test says nothing of one of them.
        :raises HostError: one of them couldn't be tried here.
        """
        self.check_ends()
        ends = [each for each in (self.kernels[0], self.kernels[-1]) if each not in self.tried]
        if self.at_once == 1 and ends:
            return ends[:1]
        return ends + self._between(self.at_once - len(ends))

    def check_ends(self) -> None:
        """Check that the ends, as far as they have been tried, are what they are said to be.

        :raises UsageError: the ends don't differ, or the test says nothing of one of them.
        :raises HostError: one of them couldn't be tried here.
        """
        ends = ((self.kernels[0], PASSED, "good"), (self.kernels[-1], FAILED, "bad"))
        for release, wanted, word in ends:
            found = self.tried.get(release)
            if found is not None and found.answer != wanted:
                if found.trouble:
                    raise HostError(
                        f"bisect: {release}, said to be {word}, couldn't be tried: {found.reason}"
                    )
                reason = f" ({found.reason})" if found.reason else ""
                raise UsageError(
                    f"bisect: on {release}, said to be {word}, the test's answer is {found.answer}{reason}; "
                    "good is where it passes, bad where it fails"
                )

    def _answers(self) -> list[str | None]:
        return [self.tried[each].answer if each in self.tried else None for each in self.kernels]

    def _between(self, count: int) -> list[str]:
        """Releases that were not tried, as evenly spread between the bounds as those that were allow."""
        good, bad = self.bounds
        left = [at for at in range(good + 1, bad) if self.kernels[at] not in self.tried]
        chosen: list[int] = []
        for number in range(1, min(count, len(left)) + 1):
            # All of it times count + 1, so that it is integers.
            place = good * (count + 1) + number * (bad - good)
            chosen.append(min(left, key=lambda at: (abs(at * (count + 1) - place), at)))
            left.remove(chosen[-1])
        return [self.kernels[at] for at in sorted(chosen)]


def _divided(number: int, by: int) -> int:
    """The quotient, rounded up."""
    return -(-number // by)


class State:
    """The file of a bisection, written after each kernel: it goes on where it was interrupted.

    :param folder: Where the file is.
    :param test: pytest's node id, without a kernel.
    :param good: Release of the kernel where the test passes.
    :param bad: Release of the kernel where it fails.
    :ivar path: The file, one for each test and pair of kernels.
    """

    def __init__(self, folder: Path, *, test: str, good: str, bad: str) -> None:
        name = hashlib.sha256(os.fsencode("\n".join((test, good, bad)))).hexdigest()[:8]
        self.path = folder / f"bisect-{name}.json"

    def load(self) -> dict[str, Attempt]:
        """The attempts so far, by release; none when the file can't be read."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=dict[str, Attempt])
        except (OSError, ValueError, RecursionError):
            return {}

    def save(self, tried: dict[str, Attempt]) -> None:
        """Write the attempts so far, by release, to the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, msgspec.json.encode(tried))

    def forget(self) -> None:
        """Remove the file, because the bisection is done."""
        self.path.unlink(missing_ok=True)


def between(kernels: Sequence[Kernel], good: str, bad: str) -> list[Kernel]:
    """The kernels from the good one to the bad one, which may be the older.

    :param kernels: The kernels to choose from, the oldest first.
    :param good: Release of the kernel where the test passes.
    :param bad: Release of the kernel where it fails.
    :raises UsageError: one isn't among them, or they are the same.
    """
    releases = [each.release for each in kernels]
    for release in (good, bad):
        if release not in releases:
            raise UsageError(f"bisect: the mirror has no cloud kernel {release}")
    first, last = releases.index(good), releases.index(bad)
    if first == last:
        raise UsageError(f"bisect: {good} is both the good and the bad kernel")
    return list(kernels[first : last + 1] if first < last else kernels[last : first + 1][::-1])


def bisect(
    test: str,
    *,
    good: str,
    bad: str,
    folder: Path,
    say: Callable[[str], None],
    progress: Progress,
    try_all: TryAll,
    at_once: int = 1,
) -> None:
    """Search for the two kernels between which a test began to fail, and say what was found.

    :param test: pytest's node id, without a kernel.
    :param good: Spec of a kernel where the test passes.
    :param bad: Spec of a kernel where it fails.
    :param folder: Where the state of an interrupted search is kept.
    :param say: Called with each line of the result.
    :param progress: Called with each stage of what is fetched.
    :param try_all: Tries kernels; :func:`~pytest_memtype.bisect.apart.try_apart` does on this machine.
    :param at_once: How many kernels it is to try at once.
    :raises UsageError: the arguments can't be used, or the ends don't differ.
    :raises HostError: one of the ends couldn't be tried here.
    :raises KernelError: there is no index of the mirror.
    """
    find_test(test)
    ends = [resolve(spec, progress=progress).removeprefix("debian:") for spec in (good, bad)]
    kernels = between(every(cache=cache_directory(), progress=progress), *ends)
    state = State(folder, test=test, good=ends[0], bad=ends[1])
    # What kept an end from having an answer, or another kernel from being tried, may be mended by now.
    tried = {
        release: made
        for release, made in state.load().items()
        if made.answer != UNKNOWN or not (made.trouble or release in ends)
    }
    search = Search([each.release for each in kernels], tried, at_once)
    shape = f", in {search.rounds} rounds of {at_once} at once" if at_once > 1 else ""
    say(f"{len(kernels)} kernels from {ends[0]} to {ends[1]}: {search.most} are tried at most{shape}")
    if search.tried:
        say(f"going on after {len(search.tried)} that were tried before ({state.path})")
    for release in look_for(search, test, try_all):
        state.save(search.tried)
        made = search.tried[release]
        flaky = f", flaky: {', '.join(made.tries)}" if made.flaky else ""
        reason = f": {made.reason}" if made.reason else ""
        say(f"{release}: {'skipped' if made.answer == UNKNOWN else made.answer}{flaky}{reason}")
    for line in report(search, kernels, progress=progress):
        say(line)
    state.forget()


def look_for(search: Search, test: str, try_all: TryAll) -> Generator[str]:
    """Go on with a search to its end; gives each release as soon as its attempt is among the tried.

    :param search: The search, with what is known; it learns the attempts.
    :param test: pytest's node id, without a kernel.
    :param try_all: Tries kernels.
    :raises UsageError: the ends don't differ, or the test says nothing of one; others are not waited for.
    :raises HostError: one of the ends couldn't be tried here; others are not waited for.
    """
    while releases := search.next():
        with closing(try_all([f"debian:{each}" for each in releases], test)) as attempts:
            for spec, made in attempts:
                release = spec.removeprefix("debian:")
                search.tried[release] = made
                yield release
                search.check_ends()


def report(search: Search, kernels: Sequence[Kernel], *, progress: Progress) -> list[str]:
    """The result in lines: the neighbours, how many were tried, and what the changelog of the newer says."""
    good, bad = (kernels[at] for at in search.bounds)
    skipped = len(search.tried) - search.counted
    apart = f", {skipped} more could not be" if skipped else ""
    lines = [
        f"good: {_package(good)}",
        f"bad:  {_package(bad)}",
        f"kernels tried: {search.counted}, of {search.most} at most{apart}",
    ]
    unknown = search.bounds[1] - search.bounds[0] - 1
    if unknown:
        lines.append(f"{unknown} kernels between them could not be tried: it may be any of those too")
    if search.good_again:
        again = ", ".join(search.good_again)
        lines.append(f"it passes again on {again}: its answer changes more than once, and this is one change")
    flaky = [release for release, attempt in search.tried.items() if attempt.flaky]
    if flaky:
        lines.append(f"the test is flaky on {', '.join(flaky)}: don't rely on this")
    older, newer = (good, bad) if _newer(bad, good) else (bad, good)
    try:
        text = changelog(newer, cache=cache_directory(), progress=progress)
    except (KernelError, HostError) as error:
        # What was found took hours, and is of use without.
        return [*lines, f"no changelog: {error.message}"]
    found = about_memory_types(text, after=older.version, upto=newer.version)
    series = new_series(text, after=older.version, upto=newer.version)
    lines.append(f"what the changelog says about memory types from {older.version} to {newer.version}:")
    lines += [f"  {version}: {entry}" for version, entry in found] or ["  nothing"]
    if series:
        lines.append(f"it doesn't tell the changes of new upstream series: {', '.join(series)}")
    rows = [*changed(parse_version(older.version), parse_version(newer.version))]
    if rows:
        lines.append("what memtype's own table of Linux' versions has between them:")
        lines += [f"  {row.topic.value}: {row.behaviour.value} ({row.source})" for row in rows]
    return lines


def is_tree(spec: str) -> bool:
    """Does a spec name a build tree?"""
    return spec.startswith("tree:")


def git_script(test: str, *, good: str, bad: str) -> str:
    """A shell script for ``git bisect run`` in the repository of a build tree.

    The repository is that of the first spec that names a tree; one does.

    :param test: pytest's node id, without a kernel.
    :param good: Spec of a kernel where the test passes.
    :param bad: Spec of a kernel where it fails.
    :raises UsageError: there is no such test, a spec can't be used, or the tree is no git repository.
    """
    specs = [parse(spec) for spec in (good, bad)]
    test_file = find_test(test)
    tree = next(spec for spec in specs if is_tree(spec.text))
    assert isinstance(tree, BuildSpec)
    if not (tree.build / ".git").exists():
        raise UsageError(
            f"bisect: {tree.build}: no git repository; name the tree of one, or Debian's kernels"
        )
    name = f"{test_file.file}::{test_file.name}"
    attempt = shlex.join([sys.executable, "-m", "pytest_memtype.bisect.attempt", f"tree:{tree.build}", name])
    return (
        "#!/bin/sh\n"
        "# In the repository: git bisect start BAD GOOD && git bisect run THIS\n"
        "# 125 skips a commit: it doesn't build, or its kernel doesn't boot.\n"
        f"cd {shlex.quote(str(tree.build))} || exit 128\n"
        '{ make olddefconfig && make -j"$(nproc)" bzImage modules; } >bisect-build.log 2>&1 || exit 125\n'
        "answer=$(mktemp) || exit 128\n"
        f'{attempt} "$answer"\n'
        "status=$?\n"
        "# Python ends with 1, too, where it can't even begin: then nothing is in the file.\n"
        '[ "$status" -le 1 ] && [ -s "$answer" ] || status=125\n'
        'rm -f "$answer"\n'
        'exit "$status"\n'
    )


def _package(kernel: Kernel) -> str:
    return f"{kernel.image} {kernel.version} ({kernel.suite})"


def _newer(one: Kernel, other: Kernel) -> bool:
    from debian.debian_support import Version

    return Version(one.version) > Version(other.version)
