"""The journal: everything done in a guest, in order, in the form of the record file."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_memtype.guest.outcome import Mapping, Outcome, TrackedMapping, Verdict
from pytest_memtype.guest.region import PAGE_SIZE, Region
from pytest_memtype.x86.effective import Effective
from pytest_memtype.x86.memtype import MemType

_WHEN_TOUCHED = ("mmap insert_pfn", "mmap insert_mixed")
"""Beginnings of the labels of mappings whose pages appear when touched."""


@dataclass(frozen=True)
class _Live:
    """A live mapping, page by page.

    :param label: Its kind and type, such as ``ioremap UC-``.
    :param mapping: The mapping as it was made.
    :param held: For each page, whether the mapping still covers it. A page that wasn't touched yet, or was
        taken out of the page table, is held without being there.
    :param refused: Did the verifier refuse it? True also in a guest without a verifier.
    """

    label: str
    mapping: Mapping
    held: tuple[bool, ...]
    refused: bool

    def overlaps(self, region: Region) -> bool:
        """Does any page that is still held lie in the region?"""
        return any(True for _ in self.addresses(region))

    def addresses(self, region: Region) -> Iterator[int]:
        """The addresses of the pages that are still held and lie in the region."""
        before = 0
        for part in self.mapping.region.parts():
            for asked in region.parts():
                start, end = max(part.start, asked.start), min(part.end, asked.end)
                first = before + (start - part.start) // PAGE_SIZE
                # Not all pages of the mapping, of which there may be 262,144, for each alias.
                held = self.held[first : first + (end - start) // PAGE_SIZE] if start < end else ()
                yield from itertools.compress(range(start, end, PAGE_SIZE), held)
            before += part.pages

    def belongs(self, mapping: Mapping, process: str) -> bool:
        """Is it this mapping, as the process has it? A child's mapping has its parent's handle."""
        return self.mapping == replace(mapping, holder=process)

    def without(self, gone: Sequence[bool]) -> _Live:
        """The mapping without some of its pages, given as one truth value for each page."""
        return replace(self, held=tuple(was and not out for out, was in zip(gone, self.held, strict=True)))


class Journal:
    """The journal of one guest. It knows which mappings are live, to say what a new one stands beside.

    :param mtrr: Called with a region; returns the type that the MTRRs give it, None where its pages differ.
    :ivar entries: The entries so far, as the record file has them.
    :ivar ram: The regions that are RAM; tests get all others as device memory.
    """

    def __init__(self, mtrr: Callable[[Region], str | None] = lambda _region: None) -> None:
        self._mtrr = mtrr
        self.entries: list[dict[str, Any]] = []
        self.ram: list[Region] = []
        self._live: list[_Live] = []
        # Reservations map nothing, and may cover all possible memory: too large to be kept page by page.
        self._reserved: dict[Mapping, str] = {}

    def mapped(self, outcome: Outcome, label: str, arguments: dict[str, Any] | None = None) -> None:
        """Note a request for a mapping.

        :param outcome: The outcome of the request; its mapping is live from now on.
        :param label: Names the kind of request, such as ``ioremap``.
        :param arguments: Further arguments of the request; None for no others.
        """
        if outcome.requested_or_none is None:
            self._found_mapped(outcome, label, arguments or {})
            return
        beside = [each.label for each in self._live if each.overlaps(outcome.region)]
        beside += [
            each for mapping, each in self._reserved.items() if mapping.region.overlaps(outcome.region)
        ]
        conflict = outcome.verdict_or_none.conflict if outcome.verdict_or_none else None
        if conflict is not None and conflict.observed:
            beside.append(f"observed {conflict.memtype}")
        self._add(
            operation=label,
            actor=outcome.actor,
            region=_region(outcome.region),
            memory="ram" if any(outcome.region.overlaps(each) for each in self.ram) else "device",
            mtrr=self._mtrr(outcome.region),
            arguments=arguments or {},
            handle=None if outcome.mapping is None else outcome.mapping.handle,
            address=outcome.address,
            beside=list(dict.fromkeys(beside)),
            requested=str(outcome.requested),
            verdict=None if outcome.verdict_or_none is None else _verdict(outcome.verdict_or_none),
            kernel_answer={
                "asked": outcome.kernel.asked,
                "accepted": outcome.kernel.accepted,
                "errno": outcome.kernel.errno,
            },
            granted=_types(outcome.granted_pages),
            effective=_types(outcome.effective_pages),
            log=list(outcome.kernel.log),
        )
        if outcome.mapping is None:
            return
        live = f"{label} {outcome.requested}"
        if not outcome.granted_pages:
            self._reserved[outcome.mapping] = live
            return
        absent = label.startswith(_WHEN_TOUCHED)
        held = tuple(absent or memtype is not None for memtype in outcome.granted_pages)
        refused = outcome.verdict_or_none is None or outcome.verdict_or_none.rejected
        self._live.append(_Live(live, outcome.mapping, held, refused))

    def _found_mapped(self, outcome: Outcome, label: str, arguments: dict[str, Any]) -> None:
        """Note a mapping of which the test expects nothing: no answer to a request, but what a driver did."""
        self.done(
            label,
            actor=outcome.actor,
            arguments=arguments,
            result=outcome.kernel.errno,
            log=outcome.kernel.log,
            mapped=_region(outcome.region),
            granted=_types(outcome.granted_pages),
            handle=None if outcome.mapping is None else outcome.mapping.handle,
            address=outcome.address,
        )
        if outcome.mapping is not None:
            held = tuple(memtype is not None for memtype in outcome.granted_pages)
            # The test knows of no alias.
            self._live.append(_Live(label, outcome.mapping, held, refused=False))

    def forget(self) -> None:
        """Forget all mappings: the guest was reset."""
        self._live.clear()
        self._reserved.clear()
        self.ram.clear()

    def done(
        self,
        operation: str,
        *,
        actor: str,
        arguments: dict[str, Any],
        result: Any,
        log: Sequence[str],
        **more: Any,
    ) -> None:
        """Note an operation that is neither a request for a mapping nor a question.

        :param operation: Its name.
        :param actor: Name of the driver or process that did it, or ``test``.
        :param arguments: Its arguments, as JSON.
        :param result: Its result, as JSON.
        :param log: The kernel's messages meanwhile, sanitised.
        :param **more: Fields that only this operation has.
        """
        self._add(operation=operation, actor=actor, arguments=arguments, result=result, **more, log=list(log))

    def record_query(self, what: str, result: Any, region: Region | None = None) -> None:
        """Note that the test looked at the guest's state: what it looked at, and what it found."""
        arguments = {} if region is None else _region(region)
        self._add(operation=what, actor="test", arguments=arguments, result=result, log=[])

    def verified(self, region: Region, requested: str, verdict: Verdict) -> None:
        """Note a question to the verifier, and its verdict."""
        self._add(
            operation="verify",
            actor="test",
            region=_region(region),
            requested=requested,
            verdict=_verdict(verdict),
            log=[],
        )

    def ended(self, mapping: Mapping) -> None:
        """Note that a mapping is gone."""
        self._live = [each for each in self._live if each.mapping != mapping]
        self._reserved.pop(mapping, None)

    def unmapped(self, mapping: Mapping, process: str, *, offset: int, pages: int | None) -> None:
        """Note that some pages of a process's mapping are gone; all to its end where ``pages`` is None."""
        end = mapping.region.pages if pages is None else offset + pages
        gone = [offset <= page < end for page in range(mapping.region.pages)]
        self._live = [each.without(gone) if each.belongs(mapping, process) else each for each in self._live]
        # With thousands of operations, mappings that are gone must not slow down those that follow.
        self._live = [each for each in self._live if any(each.held)]

    def moved(self, mapping: Mapping, to: Mapping, process: str, *, offset: int, pages: int) -> None:
        """Note that a part of a process's mapping has moved, counted in pages; perhaps with fewer pages."""
        kept = slice(offset, offset + min(pages, to.region.pages))
        padding = to.region.pages - (kept.stop - kept.start)
        self._live += [
            replace(
                each,
                mapping=to,
                held=each.held[kept] + (False,) * padding,
            )
            for each in self._live
            if each.belongs(mapping, process)
        ]
        self.unmapped(mapping, process, offset=offset, pages=pages)

    def exited(self, process: str) -> None:
        """Note that a process is gone, with all its mappings."""
        self._live = [
            each for each in self._live if (each.mapping.kind, each.mapping.holder) != ("user", process)
        ]

    def inherited(self, parent: str, child: str) -> None:
        """Note that a process forked: its child has all its mappings."""
        self._live += [
            replace(each, mapping=replace(each.mapping, holder=child))
            for each in self._live
            if (each.mapping.kind, each.mapping.holder) == ("user", parent)
        ]

    def live(self, region: Region) -> list[Mapping]:
        """The mappings that still cover a page of a region."""
        return [each.mapping for each in self._live if each.overlaps(region)]

    def excuses(self, region: Region) -> bool:
        """Does each page of a region have a live mapping that the verifier refused and the kernel made?

        The test knows of an alias there.
        """
        refused = (each.addresses(region) for each in self._live if each.refused)
        return region.pages > 0 and set(itertools.chain.from_iterable(refused)).issuperset(region.addresses())

    def _add(self, **entry: Any) -> None:
        self.entries.append({"step": len(self.entries) + 1, **entry})


def _region(region: Region) -> dict[str, Any]:
    parts = region.parts()
    more = {} if len(parts) == 1 else {"pieces": [[each.start, each.pages] for each in parts]}
    return {"start": region.start, "pages": region.pages, **more}


def _types(pages: Sequence[MemType | Effective | None]) -> str | list[str | None] | None:
    """The type that all pages have, or a list of each page's; None when nothing is mapped."""
    # A mapping of 1 GiB has 262,144 pages, of a few types.
    names = {each: None if each is None else str(each) for each in dict.fromkeys(pages)}
    if len(names) <= 1:
        return next(iter(names.values()), None)
    return [names[each] for each in pages]


def _conflict(conflict: TrackedMapping | None) -> dict[str, Any] | None:
    if conflict is None:
        return None
    return {
        "owner": conflict.owner,
        "kind": conflict.kind,
        "memtype": str(conflict.memtype),
        **_region(conflict.region),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "accepted": verdict.accepted,
        "rule": verdict.rule,
        "errno": verdict.errno,
        "conflict": _conflict(verdict.conflict),
        "hazards": list(verdict.hazards),
    }
