"""Reproducing a report: the plan, the tries, and what came of them."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_memtype.dumps.facts import Complaint, Dump
from pytest_memtype.errors import HostError
from pytest_memtype.host.progress import Progress
from pytest_memtype.kernels.bundle import Bundle
from pytest_memtype.kernels.ready import ready
from pytest_memtype.machine.accelerator import Wanted as Accelerator
from pytest_memtype.reproduce.attempt import Attempt, Start, attempt, by_boot
from pytest_memtype.reproduce.nearest_kernel import Candidate, by_distance, nearest
from pytest_memtype.reproduce.plan import Plan, plan
from pytest_memtype.reproduce.wanted import Wanted, wanted
from pytest_memtype.spec.linux_versions import Version, parse_version


class Verdict(enum.Enum):
    """The verdicts on a report. The value is the word of ``--json``."""

    REPRODUCED = "reproduced"
    """The kernel that was tried says the same."""
    ANOTHER_KERNEL = "another kernel"
    """NOT ON THIS KERNEL: it doesn't."""
    NOTHING = "nothing to reproduce"
    """The report has no message about memory types."""
    CANNOT = "can't"
    """There is no way to the messages, or no guest to go it in."""

    @property
    def headline(self) -> str:
        """The verdict in capitals, for people."""
        return {
            Verdict.REPRODUCED: "REPRODUCED",
            Verdict.ANOTHER_KERNEL: "NOT ON THIS KERNEL",
            Verdict.NOTHING: "NOTHING TO REPRODUCE",
            Verdict.CANNOT: "CAN'T",
        }[self]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a report.

    :param why: One line for people.
    :param plan: What was done; None where nothing could be.
    :param version: The version of the kernel that the plan is for; None without a plan.
    :param attempts: What the kernels said: first the one that decides.
    :param unknown: Messages of the report that nothing was tried for.
    """

    verdict: Verdict
    why: str
    wanted: Wanted
    plan: Plan | None = None
    version: Version | None = None
    attempts: tuple[Attempt, ...] = ()
    unknown: tuple[Complaint, ...] = ()

    @property
    def exit_status(self) -> int:
        """The command's exit status: 3 where the guest that decides could not be used."""
        if self.verdict is Verdict.CANNOT and self.attempts and self.attempts[0].trouble:
            return HostError.exit_status
        return int(self.verdict is Verdict.ANOTHER_KERNEL)


def reproduce(
    dump: Dump,
    known: Sequence[Candidate],
    *,
    specs: Sequence[str] = (),
    accelerator: Accelerator,
    progress: Progress,
    start: Start = by_boot,
) -> Outcome:
    """Make a kernel say again what a report says.

    :param dump: The report.
    :param known: The kernels that can be had, the oldest first; at least one.
    :param specs: The kernels that the user wants it tried on, the first of which decides; empty for the
        nearest and the newest.
    :param accelerator: The accelerator that the user wants, or ``auto``.
    :param progress: Called with a line at the start of each slow stage.
    :param start: Makes each guest.
    :raises MemtypeError: a kernel can't be had, or this host can't run it.
    """
    what = wanted(dump)
    if not what.complaints:
        return _without(what)
    version = dump.kernel.version if dump.kernel is not None else None
    bundles: list[Bundle] = _made(specs) if specs else []
    first = parse_version(bundles[0].version) if bundles else nearest(version, known).version
    progress("searching the model of Linux for a way to these lines")
    found, of = _planned(what, dump, first, by_distance(version, known))
    if not found.parts:
        return Outcome(
            Verdict.CANNOT,
            "the model of Linux has no way to these lines, on any kernel that can be had: "
            + "; ".join(each.raw for each in found.stuck[:2]),
            what,
            unknown=found.stuck,
        )
    if not bundles:
        found_on = next(each.spec for each in known if each.version == of)
        # A report that doesn't name its kernel may be of any.
        decides = found_on if version is None else nearest(version, known).spec
        tried = [decides, found_on, known[-1].spec]
        bundles = _made(dict.fromkeys(tried))
    attempts = [
        attempt(found, made, accelerator=accelerator, progress=progress, start=start) for made in bundles
    ]
    return _judged(what, found, of, attempts)


def _without(what: Wanted) -> Outcome:
    if what.unknown:
        lines = "; ".join(each.raw for each in what.unknown[:2])
        return Outcome(
            Verdict.CANNOT, f"the model of Linux doesn't say these lines: {lines}", what, unknown=what.unknown
        )
    return Outcome(Verdict.NOTHING, "no line of the report is a kernel's complaint about memory types", what)


def _made(specs: Iterable[str]) -> list[Bundle]:
    return [status.made for status in ready(specs) if status.made is not None]


def _planned(what: Wanted, dump: Dump, first: Version, others: Sequence[Candidate]) -> tuple[Plan, Version]:
    """The plan for a version; where that has no way to the lines, for the nearest version that has."""
    own = plan(what, dump, first)
    known = {id(each) for each in what.unknown}
    if not [each for each in own.stuck if id(each) not in known]:
        return own, first
    for candidate in others:
        if candidate.version == first:
            continue
        other = plan(what, dump, candidate.version)
        if len(other.stuck) < len(own.stuck):
            return other, candidate.version
    return own, first


def _judged(what: Wanted, found: Plan, of: Version, attempts: Sequence[Attempt]) -> Outcome:
    decides = attempts[0]
    asked = what.complaints
    left = [each for each in asked if each in decides.missing or each in found.stuck]
    unknown = found.stuck

    def outcome(verdict: Verdict, why: str) -> Outcome:
        return Outcome(verdict, why, what, found, of, tuple(attempts), unknown)

    if decides.trouble and left:
        return outcome(Verdict.CANNOT, f"a guest of {decides.release} could not be used: {decides.trouble}")
    stuck = [each for each in asked if each in found.stuck]
    if stuck:
        return outcome(
            Verdict.CANNOT, f"there is no way to {len(stuck)} of {len(asked)} lines: {stuck[0].raw}"
        )
    if not left:
        return outcome(Verdict.REPRODUCED, f"{decides.release} says the same")
    others = [
        each.release for each in attempts[1:] if not set(asked) & set(each.missing) and not each.trouble
    ]
    where = f"; {', '.join(others)} does" if others else ""
    return outcome(Verdict.ANOTHER_KERNEL, f"{decides.release} doesn't say {left[0].raw!r}{where}")
