"""Everything done in a guest, in order, as the record file wants it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_memtype.guest.outcome import Mapping, Outcome, TrackedMapping, Verdict
from pytest_memtype.guest.region import PAGE_SIZE, Region
from pytest_memtype.x86.memtype import MemType


@dataclass(frozen=True)
class _Live:
    """A mapping; a reservation has no ``granted``."""

    label: str
    mapping: Mapping
    granted: tuple[MemType | None, ...]

    def overlaps(self, region: Region) -> bool:
        """Does any page that is still mapped, or reserved, lie in the region?"""
        if not self.mapping.region.overlaps(region):
            return False
        if not self.granted:
            return True
        pages = zip(self.mapping.region.addresses(), self.granted, strict=True)
        return any(region.start <= page < region.end for page, memtype in pages if memtype is not None)


class Journal:
    """The entries of one guest. Knows which mappings are live, to say what a new one stands beside.

    :ivar ram: The regions that are RAM; tests get all others as device memory.
    """

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.ram: list[Region] = []
        self._live: list[_Live] = []

    def mapped(self, outcome: Outcome, label: str) -> None:
        """Note a request for a mapping; ``label`` names its kind, such as ``ioremap``."""
        beside = [each.label for each in self._live if each.overlaps(outcome.region)]
        granted: Any = [None if memtype is None else str(memtype) for memtype in outcome.granted_pages]
        effective: Any = [None if each is None else str(each) for each in outcome.effective_pages]
        self._add(
            operation=label,
            actor=outcome.actor,
            region=_region(outcome.region),
            memory="ram" if any(outcome.region.overlaps(each) for each in self.ram) else "device",
            beside=list(dict.fromkeys(beside)),
            requested=str(outcome.requested),
            verdict=_verdict(outcome.verdict),
            kernel_answer={
                "asked": outcome.kernel.asked,
                "accepted": outcome.kernel.accepted,
                "errno": outcome.kernel.errno,
            },
            granted=granted[0] if len(set(granted)) == 1 else granted or None,
            effective=effective[0] if len(set(effective)) == 1 else effective or None,
            log=list(outcome.kernel.log),
        )
        if outcome.mapping is not None:
            label = f"{label} {outcome.requested}"
            self._live.append(_Live(label, outcome.mapping, outcome.granted_pages))

    def forget(self) -> None:
        """All mappings are gone."""
        self._live.clear()
        self.ram.clear()

    def done(
        self, operation: str, *, actor: str, arguments: dict[str, Any], result: Any, log: Sequence[str]
    ) -> None:
        """Note anything else."""
        self._add(operation=operation, actor=actor, arguments=arguments, result=result, log=list(log))

    def verified(self, region: Region, requested: str, verdict: Verdict) -> None:
        """Note a question to the verifier."""
        self._add(
            operation="verify",
            actor="test",
            region=_region(region),
            requested=requested,
            verdict=_verdict(verdict),
            log=[],
        )

    def ended(self, mapping: Mapping) -> None:
        """A mapping is gone."""
        self._live = [each for each in self._live if each.mapping != mapping]

    def unmapped(self, mapping: Mapping, process: str, *, offset: int, pages: int | None) -> None:
        """A part of a process's mapping is gone, counted in pages; to its end without a number."""
        end = mapping.region.pages if pages is None else offset + pages
        for index, each in enumerate(self._live):
            # A child's mapping goes by its parent's handle.
            if each.mapping == replace(mapping, holder=process):
                left = tuple(
                    None if offset <= page < end else memtype for page, memtype in enumerate(each.granted)
                )
                self._live[index] = replace(each, granted=left)
        # With thousands of operations, what is gone must not cost those that follow.
        self._live = [each for each in self._live if any(memtype is not None for memtype in each.granted)]

    def exited(self, process: str) -> None:
        """A process is gone, with all its mappings."""
        self._live = [
            each for each in self._live if (each.mapping.kind, each.mapping.holder) != ("user", process)
        ]

    def inherited(self, parent: str, child: str) -> None:
        """A process forked."""
        self._live += [
            replace(each, mapping=replace(each.mapping, holder=child))
            for each in self._live
            if (each.mapping.kind, each.mapping.holder) == ("user", parent)
        ]

    def granted(self, address: int) -> set[MemType]:
        """The types that the live mappings of a page have in their page tables."""
        types = set()
        for each in self._live:
            region = each.mapping.region
            if each.granted and region.start <= address < region.end:
                types.add(each.granted[(address - region.start) // PAGE_SIZE])
        return {memtype for memtype in types if memtype is not None}

    def _add(self, **entry: Any) -> None:
        self.entries.append({"step": len(self.entries) + 1, **entry})


def _region(region: Region) -> dict[str, int]:
    return {"start": region.start, "pages": region.pages}


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
