"""Where a guest and the models disagree."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator, Sequence

from memtype_support.differential.runner import Live, Observed, Runner, Types
from memtype_support.differential.world import Expected, State, World
from pytest_memtype.errors import AgentError, ProcessFault
from pytest_memtype.guest.outcome import Outcome, TrackedMapping, Verdict
from pytest_memtype.guest.results import TypeInUse
from pytest_memtype.spec import verifier as spec
from pytest_memtype.spec.linux_reservations import Reservation
from pytest_memtype.spec.verifier import Request, TrackedPage, pages_of

PAGE_SHIFT = 12


def live(world: World) -> Live:
    """The mappings there are by the models."""
    return Live(tuple(number for number in world.kernel if number in world.mapped), tuple(world.user))


def differences(expected: Expected, state: State, seen: Observed, world: World, runner: Runner) -> list[str]:
    """What of one step isn't as the models have it, a line for each; empty when all agree."""
    return [
        *_result_differences(expected, seen.result, runner, world),
        *_state_differences(state, seen, runner, world),
    ]


def _unequal(what: str, model: object, guest: object) -> Iterator[str]:
    if model != guest:
        yield f"{what}: model {model}, guest {guest}"


def _result_differences(expected: Expected, result: object, runner: Runner, world: World) -> Iterator[str]:
    yield from _unequal("is there", expected.exists, not isinstance(result, AgentError))
    if isinstance(result, AgentError):
        yield f"the agent: {result}"
    if isinstance(result, Verdict) and expected.verdict is not None:
        yield from _verdict_differences(expected.verdict, result, runner, world)
    if isinstance(result, Outcome) and expected.verdict is not None:
        yield from _verdict_differences(expected.verdict, result.verdict, runner, world)
        yield from _unequal("the kernel was asked", expected.answer is not None, result.kernel.asked)
        if expected.answer is not None and result.kernel.asked:
            yield from _unequal("Linux", _name(expected.answer.errno), _name(result.kernel.errno))
            yield from _unequal("granted", _types(expected.answer.granted), _types(_granted(result)))
    if isinstance(result, TypeInUse) and expected.lookup is not None:
        lookup = expected.lookup
        yield from _unequal(
            "lookup",
            (lookup.memtype, lookup.in_use if not lookup.errno else result.in_use, _name(lookup.errno)),
            (result.memtype, result.in_use, _name(result.errno)),
        )
    if expected.result is not None:
        yield from _unequal("result", expected.result, _number(result))


def _granted(outcome: Outcome) -> Types:
    return () if outcome.operation == "reserve_wc" else outcome.granted_pages


def _number(result: object) -> int | None:
    """What an operation of a process came to: errno or signal, 0 when it did what it should."""
    if isinstance(result, ProcessFault):
        return result.signal
    if isinstance(result, OSError):
        return result.errno
    if isinstance(result, AgentError):
        return None
    # munmap() and mprotect() return an errno; a process is no number.
    return result if isinstance(result, int) else 0


def _verdict_differences(
    expected: spec.Verdict, verdict: Verdict, runner: Runner, world: World
) -> Iterator[str]:
    yield from _unequal("verifier", (expected.rule, expected.errno), (verdict.rule, verdict.errno))
    yield from _unequal("hazards", set(expected.hazards), set(verdict.hazards))
    if expected.rule != verdict.rule:
        return
    if not expected.conflicts:
        yield from _unequal("mapping in the way", None, verdict.conflict)
        return
    lowest = min(page.pfn for page in expected.conflicts)
    candidates = {page for page in expected.conflicts if page.pfn == lowest}
    named = set() if verdict.conflict is None else set(_pages(verdict.conflict, runner, world))
    if not candidates & named:
        yield f"mapping in the way: model one of {_sorted(candidates)}, guest {verdict.conflict}"


def _state_differences(state: State, seen: Observed, runner: Runner, world: World) -> Iterator[str]:
    windows = [range(pfn, pfn + pages) for pfn, pages in world.windows.values()]
    tracked = Counter(
        page
        for record in seen.tracked
        for page in _pages(record, runner, world)
        if any(page.pfn in window for window in windows)
    )
    if tracked != state.tracked:
        missing, extra = state.tracked - tracked, tracked - state.tracked
        yield f"tracked: only in the model {_sorted(missing)}, only in the guest {_sorted(extra)}"
    yield from _unequal("memtype list", _list(state.listed), _list(_listed(seen, runner)))
    for number, types in seen.kernel.items():
        yield from _table_differences(f"page table of m{number}", state.kernel.get(number), types)
    for (process, number), types in seen.user.items():
        expected = state.user.get((process, number))
        yield from _table_differences(f"page table of {process}'s m{number}", expected, types)


def _listed(seen: Observed, runner: Runner) -> list[Reservation] | None:
    """The list's entries in the windows, in an order that doesn't depend on when they were made."""
    if seen.listed is None:
        return None
    regions = [
        (entry.region, entry.memtype)
        for entry in seen.listed
        if any(entry.region.overlaps(window) for window in runner.windows.values())
    ]
    entries = [
        Reservation(region.start >> PAGE_SHIFT, region.end >> PAGE_SHIFT, memtype)
        for region, memtype in regions
    ]
    return sorted(entries, key=lambda each: (each.first, each.end, each.memtype))


def _table_differences(what: str, expected: Types | None, types: Types | None) -> Iterator[str]:
    yield from _unequal(
        what,
        None if expected is None else _types(expected),
        None if types is None else _types(types),
    )


def _pages(record: TrackedMapping, runner: Runner, world: World) -> Iterator[TrackedPage]:
    """The pages of a record; a pid that isn't its owner's becomes a negative one."""
    pid = record.pid
    if pid:
        own = runner.pids.get(record.owner) == pid and record.owner in world.pids
        pid = world.pids[record.owner] if own else -pid
    yield from pages_of(
        Request(
            record.region.start >> PAGE_SHIFT,
            record.region.pages,
            record.memtype,
            record.owner,
            pid,
            record.address,
        )
    )


def _sorted(pages: Counter[TrackedPage] | set[TrackedPage]) -> list[str]:
    found = pages.elements() if isinstance(pages, Counter) else iter(pages)
    ordered = sorted(found, key=lambda page: (page.pfn, page.owner, page.address))
    return [
        f"{page.owner} {page.memtype} {page.pfn:#x}" + (f" at {page.address:#x}" if page.user else "")
        for page in ordered
    ]


def _list(entries: Sequence[Reservation] | None) -> list[str] | None:
    if entries is None:
        return None
    return [f"{entry.first:#x}-{entry.end:#x} {entry.memtype}" for entry in entries]


def _types(types: Types) -> str:
    return " ".join("none" if each is None else str(each) for each in types)


def _name(number: int) -> str:
    return errno.errorcode.get(number, str(number))
