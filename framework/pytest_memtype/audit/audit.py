"""The audit: from a stopped guest's memory and registers to a list of findings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_memtype.audit.benign import mark_benign
from pytest_memtype.audit.findings import Finding, FindingKind, Tracked, find_all
from pytest_memtype.audit.mappings import Mappings, mappings
from pytest_memtype.audit.processors import Processors
from pytest_memtype.audit.ram import Ram
from pytest_memtype.audit.roots import Root
from pytest_memtype.audit.types import assign_types
from pytest_memtype.audit.walk import Unfollowed, Walk, walk
from pytest_memtype.machine.memory_map import Owner
from pytest_memtype.x86.effective import Severity


@dataclass(frozen=True)
class Figures:
    """How much was looked at, and how long that took.

    :param roots: Address spaces.
    :param tables: Of all levels.
    :param leaves: Entries that map a page.
    :param pages: Pages of 4 KiB that are mapped anywhere.
    :param walk_ms: Reading the page tables; like all times in milliseconds.
    :param types_ms: Types of all entries, and grouping them by page.
    :param findings_ms: The rest.
    :param roots_ms: Finding the roots; 0 where they were given.
    :param stop_ms: How long the guest stood still for it all.
    :param first_stop_ms: How long it stood still before that, to learn which roots are loaded.
    :param search_ms: Looking for roots while it ran.
    """

    roots: int
    tables: int
    leaves: int
    pages: int
    walk_ms: float
    types_ms: float
    findings_ms: float
    roots_ms: float = 0.0
    stop_ms: float = 0.0
    first_stop_ms: float = 0.0
    search_ms: float = 0.0

    @property
    def audit_ms(self) -> float:
        """Walk, types and findings."""
        return self.walk_ms + self.types_ms + self.findings_ms


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    :param findings: By kind and address, the benign ones too.
    :param unfollowed: Entries that lead nowhere.
    :param seen: To ask for the mappings of any page.
    :param cut: What is missing, in words, because there is too much of it. Tables that weren't read are
        among the unfollowed.
    """

    findings: tuple[Finding, ...]
    figures: Figures
    dangling_entries: tuple[Unfollowed, ...]
    seen: Mappings = field(repr=False, compare=False)
    cut: tuple[str, ...] = ()

    @property
    def conflicts(self) -> tuple[Finding, ...]:
        """Conflicting effective types that nothing excuses."""
        return tuple(
            each for each in self.findings if each.kind is FindingKind.CONFLICT and each.benign is None
        )

    @property
    def worst(self) -> Severity:
        """Of the findings that aren't benign."""
        return max((each.danger for each in self.findings if each.benign is None), default=Severity.OK)


@dataclass(frozen=True)
class Snapshot:
    """All that needs the guest to stand still: its page tables, read."""

    tables: Walk
    roots: tuple[Root, ...]
    frames: int
    walk_ms: float


def snapshot(ram: Ram, processors: Processors, roots: Sequence[Root]) -> Snapshot:
    """Read all page tables that some roots lead to. The guest may go on afterwards.

    :raises UsageError: no CPU is in 64-bit mode, or the memory can't be read.
    """
    started = time.perf_counter()
    tables = walk(
        # Those that are loaded come first: of too many roots the last are left out.
        ram,
        [root.frame for root in sorted(roots, key=lambda root: not root.cpus)],
        depth=processors.depth,
        physical_bits=processors.physical_bits,
    )
    return Snapshot(tables, tuple(roots), ram.frames, (time.perf_counter() - started) * 1000)


def analyse(
    taken: Snapshot,
    processors: Processors,
    *,
    owners: Sequence[Owner] = (),
    tracked: Sequence[Tracked] | None = None,
) -> Audit:
    """Find the faults in what was read; parameters as of :func:`audit`."""
    started = time.perf_counter()
    typing, tables = processors.typing, taken.tables
    types = assign_types(tables, typing, frames=taken.frames)
    grouped = time.perf_counter()
    seen = mappings(types, typing, taken.roots)
    cut: list[str] = []
    findings = tuple(mark_benign(each) for each in find_all(types, seen, processors, owners, tracked, cut))
    ended = time.perf_counter()
    figures = Figures(
        roots=len(taken.roots),
        tables=sum(len(level.tables) for level in tables.levels.values()),
        leaves=len(tables),
        pages=int(types.pieces.frames.sum()),
        walk_ms=taken.walk_ms,
        types_ms=(grouped - started) * 1000,
        findings_ms=(ended - grouped) * 1000,
    )
    return Audit(findings, figures, tables.dangling_entries, seen, tuple(cut))


def audit(
    ram: Ram,
    processors: Processors,
    roots: Sequence[Root],
    *,
    owners: Sequence[Owner] = (),
    tracked: Sequence[Tracked] | None = None,
) -> Audit:
    """Look at all page tables that some roots lead to, and find the faults.

    :param roots: Such as :func:`pytest_memtype.audit.roots.find_roots` has; ``processors.roots`` are
        those loaded.
    :param owners: Whose memory is where, ascending; without it RAM and devices aren't told apart.
    :param tracked: What the guest keeps track of; None when it wasn't asked.
    :raises UsageError: no CPU is in 64-bit mode, or the memory can't be read.
    """
    return analyse(snapshot(ram, processors, roots), processors, owners=owners, tracked=tracked)
