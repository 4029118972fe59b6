"""``memtype bisect``: the search for the two of Debian's kernels between which a test began to fail."""

from __future__ import annotations

import hashlib
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pytest_memtype.bisect.attempt import FAILED, PASSED, UNKNOWN, Attempt, find_test
from pytest_memtype.errors import KernelError, UsageError
from pytest_memtype.host.files import write_atomically
from pytest_memtype.host.private_folder import temporary_folder
from pytest_memtype.host.progress import Progress
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.bundle import resolve
from pytest_memtype.kernels.changelog import about_memory_types, changelog, new_series
from pytest_memtype.kernels.index import Kernel, every
from pytest_memtype.kernels.spec import BuildSpec, parse
from pytest_memtype.machine.vcpu_registers import usable_qemu
from pytest_memtype.spec.linux_versions import changed, parse_version

# A cold fetch and build, and three tries of a test.
_ATTEMPT_SECONDS = 3600.0


@dataclass
class Search:
    """A binary search over kernels, some of which can't be tried.

    :param kernels: Releases, the good end first.
    :param tried: What is known: release -> attempt.
    """

    kernels: Sequence[str]
    tried: dict[str, Attempt] = field(default_factory=dict)

    @property
    def most(self) -> int:
        """How many kernels are tried at most, not counting those that give no answer."""
        return math.ceil(math.log2(len(self.kernels))) + 2

    @property
    def counted(self) -> int:
        """How many kernels gave an answer."""
        return sum(attempt.answer != UNKNOWN for attempt in self.tried.values())

    @property
    def bounds(self) -> tuple[int, int]:
        """Indices of the last kernel that is known to be good and of the first that is known to be bad."""
        answers = [self.tried[each].answer if each in self.tried else None for each in self.kernels]
        bad = answers.index(FAILED, 1) if FAILED in answers[1:] else len(answers) - 1
        good = max((at for at in range(bad) if answers[at] == PASSED), default=0)
        return good, bad

    def next(self) -> str | None:
        """The release of the kernel to try next; None when none between the bounds is left to try.

        :raises UsageError: the ends don't differ, or one of them can't be tried.
        """
        ends = ((self.kernels[0], PASSED, "good"), (self.kernels[-1], FAILED, "bad"))
        for release, wanted, word in ends:
            found = self.tried.get(release)
            if found is None:
                return release
            if found.answer != wanted:
                reason = f" ({found.reason})" if found.reason else ""
                raise UsageError(
                    f"bisect: on {release}, said to be {word}, the test's answer is {found.answer}{reason}; "
                    "good is where it passes, bad where it fails"
                )
        good, bad = self.bounds
        middle = (good + bad) / 2
        left = [at for at in range(good + 1, bad) if self.kernels[at] not in self.tried]
        if not left:
            return None
        return self.kernels[min(left, key=lambda at: (abs(at - middle), at))]


class State:
    """The file of a bisection, written after each kernel: it goes on where it was interrupted.

    :param folder: Where the file is.
    :param test: pytest's node id, without a kernel.
    :param good: Release of the kernel where the test passes.
    :param bad: Release of the kernel where it fails.
    :ivar path: The file, one for each test and pair of kernels.
    """

    def __init__(self, folder: Path, *, test: str, good: str, bad: str) -> None:
        name = hashlib.sha256("\n".join((test, good, bad)).encode()).hexdigest()[:8]
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
    attempt: Callable[[str, str], Attempt] | None = None,
) -> None:
    """Search for the two kernels between which a test began to fail, and say what was found.

    :param test: pytest's node id, without a kernel.
    :param good: Spec of a kernel where the test passes.
    :param bad: Spec of a kernel where it fails.
    :param folder: Where the state of an interrupted search is kept.
    :param say: Called with each line of the result.
    :param progress: Called with each stage of what is fetched.
    :param attempt: Called with a kernel spec and the test, to try them; None uses :func:`attempt_apart`.
    :raises UsageError: the arguments can't be used, or the ends don't differ.
    :raises KernelError: there is no index of the mirror.
    :raises HostError: this host's QEMU can't be used.
    """
    find_test(test)
    if attempt is None:
        # Else its fault would be the answer of every kernel.
        usable_qemu(progress=progress)
    ends = [resolve(spec, progress=progress).removeprefix("debian:") for spec in (good, bad)]
    kernels = between(every(cache=cache_directory(), progress=progress), *ends)
    state = State(folder, test=test, good=ends[0], bad=ends[1])
    # An end without an answer is tried again: what kept it from having one may be mended by now.
    tried = {
        release: made
        for release, made in state.load().items()
        if made.answer != UNKNOWN or release not in ends
    }
    search = Search([each.release for each in kernels], tried)
    say(f"{len(kernels)} kernels from {ends[0]} to {ends[1]}: {search.most} are tried at most")
    if search.tried:
        say(f"going on after {len(search.tried)} that were tried before ({state.path})")
    try_one = attempt or attempt_apart
    while (release := search.next()) is not None:
        made = try_one(f"debian:{release}", test)
        search.tried[release] = made
        state.save(search.tried)
        flaky = f", flaky: {', '.join(made.tries)}" if made.flaky else ""
        reason = f": {made.reason}" if made.reason else ""
        say(f"{release}: {'skipped' if made.answer == UNKNOWN else made.answer}{flaky}{reason}")
    for line in report(search, kernels, progress=progress):
        say(line)
    state.forget()


def attempt_apart(spec: str, test: str) -> Attempt:
    """Try a test on a kernel in a process of its own: what goes wrong there ends one attempt only."""
    with temporary_folder("attempt") as name:
        file = Path(name) / "attempt.json"
        command = [sys.executable, "-m", "pytest_memtype.bisect.attempt", spec, test, str(file)]
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                env={**os.environ, **mirror.environment()},
                timeout=_ATTEMPT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Attempt(UNKNOWN, (UNKNOWN,), f"not done in {_ATTEMPT_SECONDS / 60:.0f} minutes")
        if not file.exists():
            return Attempt(UNKNOWN, (UNKNOWN,), "the attempt ended without an answer")
        return msgspec.json.decode(file.read_bytes(), type=Attempt)


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
    flaky = [release for release, attempt in search.tried.items() if attempt.flaky]
    if flaky:
        lines.append(f"the test is flaky on {', '.join(flaky)}: don't rely on this")
    older, newer = (good, bad) if _newer(bad, good) else (bad, good)
    try:
        text = changelog(newer, cache=cache_directory(), progress=progress)
    except KernelError as error:
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


def git_script(test: str, *, good: str, bad: str) -> str:
    """A shell script for ``git bisect run`` in the repository of a build tree.

    The repository is that of the first spec that names a tree.
    :param test: pytest's node id, without a kernel.
    :param good: Spec of a kernel where the test passes.
    :param bad: Spec of a kernel where it fails.
    :raises UsageError: there is no such test, a spec can't be used, or the tree is no git repository.
    """
    trees = [parse(spec) for spec in (good, bad) if spec.startswith("tree:")]
    test_file = find_test(test)
    tree = trees[0]
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
        f"{attempt}\n"
        "status=$?\n"
        '[ "$status" -le 1 ] || status=125\n'
        'exit "$status"\n'
    )


def _package(kernel: Kernel) -> str:
    return f"{kernel.image} {kernel.version} ({kernel.suite})"


def _newer(one: Kernel, other: Kernel) -> bool:
    from debian.debian_support import Version

    return Version(one.version) > Version(other.version)
