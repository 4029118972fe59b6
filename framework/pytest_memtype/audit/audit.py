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
    """How much an audit looked at, and how long that took.

    :param roots: Number of address spaces.
    :param tables: Number of page tables, of all levels.
    :param leaves: Number of entries that map a page.
    :param pages: Number of pages of 4 KiB that are mapped anywhere.
    :param walk_ms: Time to read the page tables; like all times in milliseconds.
    :param types_ms: Time to work out the types of all entries, and to group them by page.
    :param findings_ms: Time to find the faults.
    :param roots_ms: Time to find the roots; 0 where they were given.
    :param stop_ms: How long the guest was stopped for it all.
    :param first_stop_ms: How long it was stopped before that, to learn which roots are loaded.
    :param search_ms: How long roots were looked for while the guest ran.
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
        """Milliseconds for walk, types and findings together."""
        return self.walk_ms + self.types_ms + self.findings_ms


@dataclass(frozen=True)
class Audit:
    """The result of an audit: its findings, and what it could not look at.

    :param findings: By kind and address, the benign ones too.
    :param dangling_entries: Entries that lead nowhere. Tables that weren't read are among them.
    :param seen: The mappings of any page, when asked.
    :param cut: What is missing, in words, because there is too much of it. Tables that weren't read aren't
        named here.
    """

    findings: tuple[Finding, ...]
    figures: Figures
    dangling_entries: tuple[Unfollowed, ...]
    seen: Mappings = field(repr=False, compare=False)
    cut: tuple[str, ...] = ()

    @property
    def conflicts(self) -> tuple[Finding, ...]:
        """The findings of conflicting effective types that aren't benign."""
        return tuple(
            each for each in self.findings if each.kind is FindingKind.CONFLICT and each.benign is None
        )

    @property
    def worst(self) -> Severity:
        """The highest severity of the findings that aren't benign; OK when there are none."""
        return max((each.danger for each in self.findings if each.benign is None), default=Severity.OK)


@dataclass(frozen=True)
class Snapshot:
    """The page tables of a guest, read while it was stopped.

    :param tables: The page tables.
    :param roots: The address spaces that they were read for.
    :param frames: The number of the highest frame of RAM, plus one.
    :param walk_ms: Milliseconds that it took to read them.
    """

    tables: Walk
    roots: tuple[Root, ...]
    frames: int
    walk_ms: float


def snapshot(ram: Ram, processors: Processors, roots: Sequence[Root]) -> Snapshot:
    """Read all page tables that some roots lead to. The guest may go on afterwards.

    :param ram: The RAM of the stopped guest.
    :param processors: The CPUs of the guest.
    :param roots: The address spaces. Of too many, those that no CPU has loaded are left out first.
    :raises UsageError: no CPU is in 64-bit mode, or the memory can't be read.
    """
    started = time.perf_counter()
    tables = walk(
        # The loaded ones come first: of too many roots the last are left out.
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
    """Find the faults in page tables that were read.

    :param taken: The page tables.
    :param processors: The CPUs of the guest, as they were then.
    :param owners: Who owns which memory, ascending; without owners RAM and devices aren't told apart.
    :param tracked: The memory whose type the guest keeps track of; None when it wasn't asked.
    :raises UsageError: no CPU is in 64-bit mode, or the registers of one hold reserved types.
    """
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

    :param ram: The RAM of the stopped guest.
    :param processors: The CPUs of the guest.
    :param roots: The address spaces, such as :func:`pytest_memtype.audit.roots.find_roots` has them;
        ``processors.roots`` are those loaded.
    :param owners: Who owns which memory, ascending; without owners RAM and devices aren't told apart.
    :param tracked: The memory whose type the guest keeps track of; None when it wasn't asked.
    :raises UsageError: no CPU is in 64-bit mode, the registers of one hold reserved types, or the memory
        can't be read.
    """
    return analyse(snapshot(ram, processors, roots), processors, owners=owners, tracked=tracked)
