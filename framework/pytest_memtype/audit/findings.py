"""The faults that an audit finds in page tables."""

from __future__ import annotations

import bisect
import enum
import functools
import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from pytest_memtype.audit import vector
from pytest_memtype.audit.frame_runs import FrameRuns, merge_overlapping
from pytest_memtype.audit.mappings import MOST, Listing, Mappings, PageMapping
from pytest_memtype.audit.processors import Processors
from pytest_memtype.audit.types import TypedWalk, conflicts, effective_at, grade
from pytest_memtype.audit.walk import PAGE_SIZES
from pytest_memtype.machine.memory_map import Kind, Owner
from pytest_memtype.x86.effective import (
    EFFECTIVE_TYPES,
    Effective,
    EffectiveType,
    Severity,
    danger,
    danger_reason,
    effective_code,
)
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import UNDEFINED, memory_type_at
from pytest_memtype.x86.mtrr_runs import runs

_WB: Final = 1 << effective_code(MemType.WB)
_UNDEFINED: Final = 1 << effective_code(EffectiveType.UNDEFINED)
#: Where SMM has its memory when the chipset has no TSEG (Intel SDM vol. 3, "SMRAM"; q35 with SeaBIOS).
LEGACY_SMRAM: Final = (0xA0000, 0xC0000)


class FindingKind(enum.Enum):
    """The kinds of faults that an audit finds."""

    CONFLICT = "conflict"
    """Pages that are mapped with more than one effective type."""
    RAM_NOT_WB = "RAM not write-back"
    """RAM of which all mappings have one effective type, another than WB."""
    MIXED = "large page over several MTRR types"
    UNDEFINED = "undefined overlap of MTRRs"
    CPUS_DISAGREE = "CPUs disagree"
    """CPUs whose PAT or MTRRs give a page different types."""
    SMRAM = "SMRAM is reachable"
    UNMAPPED = "tracked, but not mapped"
    UNTRACKED = "device memory that nobody tracks"
    TRACKED_OTHERWISE = "tracked with another type"
    """A record says one page attribute, and the page tables another."""

    def __str__(self) -> str:
        return self.value


@shown_in_hexadecimal("start", "size")
@dataclass(frozen=True)
class Tracked:
    """Memory whose type is on record.

    :param start: Guest-physical address of its first byte.
    :param size: Size in bytes.
    :param who: Whose record it is, for people.
    :param memtype: The page attribute that its mappings should have; None where that isn't said.
    """

    start: int
    size: int
    who: str
    memtype: MemType | None = None


@shown_in_hexadecimal("start")
@dataclass(frozen=True)
class Finding:
    """A fault, and the memory that it is about.

    :param danger: How bad: of a conflict, by the table of :func:`pytest_memtype.x86.effective.danger`.
    :param start: Guest-physical address of the first byte of the memory.
    :param pages: Number of pages of 4 KiB.
    :param effective: All effective types that the pages are mapped with.
    :param owner: Name of the owner of the memory.
    :param reason: Why it is a fault, as half a sentence.
    :param benign: Why it is none after all; None unless :mod:`pytest_memtype.audit.benign` knows a reason.
    :param seen: Where mappings are looked up; None lists none.
    :param most: How many mappings are listed at most.
    """

    kind: FindingKind
    danger: Severity
    start: int
    pages: int
    effective: tuple[Effective, ...]
    owner: str
    reason: str
    benign: str | None = None
    seen: Mappings | None = field(default=None, repr=False, compare=False)
    most: int = field(default=MOST, repr=False, compare=False)

    @property
    def end(self) -> int:
        """Guest-physical address of the first byte behind the memory."""
        return self.start + (self.pages << 12)

    @property
    def mappings(self) -> tuple[PageMapping, ...]:
        """The mappings of the pages, looked up when asked; at most :attr:`most`."""
        return self._listing.mappings

    @property
    def complete(self) -> bool:
        """Are :attr:`mappings` all there are?"""
        return self._listing.complete

    @functools.cached_property
    def _listing(self) -> Listing:
        # A disagreement of CPUs is about no page in particular.
        if self.seen is None or self.kind is FindingKind.CPUS_DISAGREE:
            return Listing((), True)
        return self.seen.listing(self.start >> 12, self.pages, most=self.most)

    def more(self, shown: int) -> str:
        """How many mappings there are beside the first ``shown``, in words; empty when there are none."""
        rest = len(self.mappings) - shown
        if not self.complete:
            return f"and at least {max(rest, 0) + 1} more"
        return f"and {rest} more" if rest > 0 else ""

    def __str__(self) -> str:
        types = "/".join(map(str, self.effective))
        where = f"[mem {self.start:#x}-{self.end - 1:#x}]"
        seen = "; ".join(
            f"{each.memtype} at {each.virtual:#x} ({each.where})" for each in self.mappings[:_SHOWN]
        )
        more = self.more(_SHOWN)
        seen = f"{seen} {more}" if more else seen
        return f"{self.kind} ({self.danger.name}) {where} {self.owner}, {types}: {seen}: {self.reason}"


_SHOWN: Final = 8
#: Findings of one kind at most. More help no reader, and a guest may map every other page with another type.
MOST_FINDINGS: Final = 4096
#: Findings, of all kinds, that have :data:`MOST` mappings listed; further ones have a few.
_LISTED: Final = 256
_FEW: Final = 8
#: Records of tracked memory that are compared: many times what any kernel has.
MOST_TRACKED: Final = 1 << 16
#: Bytes that any processor can address (Intel SDM vol. 3: MAXPHYADDR is 52 at most).
_ADDRESSES: Final = 1 << 52
#: Owners of records that a finding names at most, and the characters of each: the guest chooses both.
_NAMED: Final = 8
_NAME_LENGTH: Final = 256
_START: Final = operator.attrgetter("start")


def find_all(
    walk: TypedWalk,
    seen: Mappings,
    processors: Processors,
    owners: Sequence[Owner],
    tracked: Sequence[Tracked] | None,
    cut: list[str],
) -> Iterator[Finding]:
    """Find all faults in page tables, by kind and address; of each kind at most :data:`MOST_FINDINGS`.

    :param walk: The page tables, with the types of what they map.
    :param seen: Where the mappings of a page are looked up.
    :param processors: The CPUs of the guest.
    :param owners: Who owns which memory, ascending; without owners RAM and devices can't be told apart.
    :param tracked: The memory whose type the guest keeps track of; None when it wasn't asked.
    :param cut: A list that is added to, in words: what was left out because there is too much of it.
    """
    kinds = [
        _conflicts(walk, seen, owners),
        _undefined(walk, seen, owners),
        _ram_not_wb(walk, seen, owners),
        _mixed(walk, seen, owners),
        _smram(walk, seen, processors),
        _cpus_disagree(walk, seen, processors),
    ]
    if tracked is not None:
        possible = [each for each in tracked if each.start + each.size <= _ADDRESSES]
        if len(possible) < len(tracked):
            cut.append(f"{len(tracked) - len(possible)} records are of memory that no processor can address")
        tracked = possible
        if len(tracked) > MOST_TRACKED:
            cut.append(
                f"only {MOST_TRACKED} of {len(tracked)} records of tracked memory were compared, so that "
                "memory without a record wasn't looked for"
            )
        else:
            kinds.append(_untracked(walk, seen, owners, tracked))
        tracked = tracked[:MOST_TRACKED]
        kinds += [_unmapped(walk, seen, owners, tracked), _tracked_otherwise(seen, owners, tracked)]
    count = 0
    for each in kinds:
        found = list(itertools.islice(each, MOST_FINDINGS + 1))
        if len(found) > MOST_FINDINGS:
            cut.append(f"there are more than {MOST_FINDINGS} findings of the kind {found[0].kind}")
        for number, finding in enumerate(found[:MOST_FINDINGS], start=count):
            yield finding if number < _LISTED else replace(finding, most=_FEW)
        count += len(found)
    if walk.unseen:
        cut.append(f"{walk.unseen} large pages over several MTRR types were not looked at page by page")


def _conflicts(walk: TypedWalk, seen: Mappings, owners: Sequence[Owner]) -> Iterator[Finding]:
    for frame, frames, bits in by_owner(conflicts(walk), owners):
        if grade(bits) is not Severity.OK:
            reason = _reason(bits)
            yield _finding(FindingKind.CONFLICT, grade(bits), frame, frames, bits, owners, reason, seen)


def _undefined(walk: TypedWalk, seen: Mappings, owners: Sequence[Owner]) -> Iterator[Finding]:
    reason = "MTRRs overlap here with types for which the manuals define no result"
    pieces = by_owner(walk.pieces.only(walk.pieces.bits == _UNDEFINED), owners)
    for frame, frames, _ in pieces:
        yield _finding(FindingKind.UNDEFINED, Severity.ERROR, frame, frames, _UNDEFINED, owners, reason, seen)


def _ram_not_wb(walk: TypedWalk, seen: Mappings, owners: Sequence[Owner]) -> Iterator[Finding]:
    reason = "no mapping of this RAM is write-back"
    for owner in owners:
        if owner.kind is not Kind.RAM:
            continue
        for frame, frames, bits in walk.pieces.within(owner.start >> 12, owner.end >> 12):
            # Pages of several types are conflicts, and reported as such.
            if bits not in (_WB, _UNDEFINED) and not bits & (bits - 1):
                yield _finding(
                    FindingKind.RAM_NOT_WB, Severity.INFO, frame, frames, bits, owners, reason, seen
                )


def _mixed(walk: TypedWalk, seen: Mappings, owners: Sequence[Owner]) -> Iterator[Finding]:
    reason = "the TLB may use one MTRR type for all of the page, and it isn't said which"
    for level, each in walk.levels.items():
        pages = 1 << 9 * (level - 1)
        for frame in np.unique(each.frame[each.mixed])[: MOST_FINDINGS + 1].tolist():
            bits = int(np.bitwise_or.reduce(walk.pieces.within(frame, frame + pages).bits))
            yield _finding(FindingKind.MIXED, Severity.WARNING, frame, pages, bits, owners, reason, seen)


def _smram(walk: TypedWalk, seen: Mappings, processors: Processors) -> Iterator[Finding]:
    mtrr = processors.typing.mtrr
    if mtrr is None:
        return
    first, last = (address >> 12 for address in LEGACY_SMRAM)
    for frame, frames, bits in walk.pieces.within(first, last):
        # SMM uses its memory without paging, so the MTRRs alone give the type there; one run of mappings may
        # lie over several of theirs.
        for run in runs(mtrr, frame << 12, (frame + frames) << 12):
            theirs = memory_type_at(mtrr, run.start, in_smm=True)
            smm = EffectiveType.UNDEFINED if theirs is UNDEFINED else theirs
            worst = max(danger(each, smm) for each in _types(bits))
            reason = f"system-management mode uses this memory as {smm}"
            pages = (run.end - run.start) >> 12
            yield Finding(
                FindingKind.SMRAM, worst, run.start, pages, _types(bits), "SMRAM", reason, seen=seen
            )


def _cpus_disagree(walk: TypedWalk, seen: Mappings, processors: Processors) -> Iterator[Finding]:
    pages = 1 << processors.physical_bits - 12
    for each in processors.disagreements():
        how_bad, reason = Severity.ERROR, f"{each.text}: a page's type depends on the CPU that uses it"
        if each.slot is not None and not _is_used(walk, each.slot):
            how_bad, reason = Severity.INFO, f"{each.text}; no entry uses it now"
        yield Finding(FindingKind.CPUS_DISAGREE, how_bad, 0, pages, (), "all memory", reason, seen=seen)


def _is_used(walk: TypedWalk, slot: int) -> bool:
    """Does an entry that maps a page choose this slot of the PAT?"""
    return any(
        bool((vector.pat_indexes(each.leaves.entry, PAGE_SIZES[level]) == slot).any())
        for level, each in walk.levels.items()
    )


def _unmapped(
    walk: TypedWalk, seen: Mappings, owners: Sequence[Owner], tracked: Sequence[Tracked]
) -> Iterator[Finding]:
    records: dict[tuple[int, int], list[str]] = {}
    for each in tracked:
        place = each.start >> 12, -(-(each.start + each.size) >> 12)
        records.setdefault(place, []).append(each.who)
    for (first, last), who in sorted(records.items()):
        if not walk.pieces.any_within(first, last):
            reason = f"{_named(who, ' and ')}: nothing maps it"
            yield _finding(FindingKind.UNMAPPED, Severity.INFO, first, last - first, 0, owners, reason, seen)


def _untracked(
    walk: TypedWalk, seen: Mappings, owners: Sequence[Owner], tracked: Sequence[Tracked]
) -> Iterator[Finding]:
    reason = "no record says which type this device memory has, so nobody would notice another"
    # Without overlap, so that no frame is looked at twice.
    known = _places(tracked)
    for owner in owners:
        if owner.kind is Kind.RAM:
            continue
        for frame, frames, bits in walk.pieces.within(owner.start >> 12, -(-owner.end >> 12)):
            covering = ((start, start + count) for start, count, _ in known.within(frame, frame + frames))
            for first, last in _without(frame, frame + frames, covering):
                yield _finding(
                    FindingKind.UNTRACKED, Severity.INFO, first, last - first, bits, owners, reason, seen
                )


def _tracked_otherwise(
    seen: Mappings, owners: Sequence[Owner], tracked: Sequence[Tracked]
) -> Iterator[Finding]:
    """Find device memory whose record says one page attribute, and whose page tables say another.

    The types of RAM are kept in page flags and in no list (reserve_ram_pages_type()).
    """
    ram = [(each.start >> 12, each.end >> 12) for each in owners if each.kind is Kind.RAM]
    for memtype in MemType:
        records = [each for each in tracked if each.memtype is memtype]
        if not records:
            continue
        starts = np.array([each.start for each in records], np.uint64)
        ends = starts + np.array([each.size for each in records], np.uint64)
        wrong = by_owner(seen.mapped_otherwise(_places(records), memtype), owners)
        for frame, frames, bits in wrong:
            if any(first <= frame < last for first, last in ram):
                continue
            address = np.uint64(frame << 12)
            covering = np.flatnonzero((starts <= address) & (address < ends)).tolist()
            who = sorted({records[each].who for each in covering})
            for run in seen.mtrr_runs(frame, frames):
                theirs = [each for each in MemType if bits >> each & 1]
                types = [effective_at(run[0], each, seen.typing) for each in (memtype, *theirs)]
                how_bad = max(danger(types[0], each) for each in types[1:])
                mask = functools.reduce(operator.or_, (1 << effective_code(each) for each in types[1:]))
                says = " and ".join(map(str, theirs))
                reason = f"{_named(who, ', ')}: {memtype} is recorded, and the page tables say {says}"
                kind = FindingKind.TRACKED_OTHERWISE
                yield _finding(kind, how_bad, *run, mask, owners, reason, seen)


def _named(who: Sequence[str], between: str) -> str:
    """The owners of some records, in words: no more of them than help a reader."""
    names = [name if len(name) <= _NAME_LENGTH else f"{name[:_NAME_LENGTH]}..." for name in who[:_NAMED]]
    return between.join(names) + (f" and {len(who) - _NAMED} more" if len(who) > _NAMED else "")


def _places(records: Sequence[Tracked]) -> FrameRuns:
    """The frames that some records cover, as runs that don't overlap."""
    first = np.array([each.start >> 12 for each in records], np.int64)
    last = np.array([-(-(each.start + each.size) >> 12) for each in records], np.int64)
    return merge_overlapping(FrameRuns(first, last - first, np.ones(len(records), np.int64)))


def by_owner(pieces: FrameRuns, owners: Sequence[Owner]) -> FrameRuns:
    """Runs of frames, cut where the memory of another owner begins."""
    borders = {border >> 12 for each in owners for border in (each.start, each.end)}
    return pieces.cut(np.array(sorted(borders), np.int64))


def _finding(
    kind: FindingKind,
    how_bad: Severity,
    frame: int,
    frames: int,
    bits: int,
    owners: Sequence[Owner],
    reason: str,
    seen: Mappings,
) -> Finding:
    address = frame << 12
    whose = bisect.bisect_right(owners, address, key=_START) - 1
    known = whose >= 0 and address < owners[whose].end
    name = owners[whose].name if known else "unknown memory"
    return Finding(kind, how_bad, address, frames, _types(bits), name, reason, seen=seen)


@functools.cache
def _types(bits: int) -> tuple[Effective, ...]:
    return tuple(each for each in EFFECTIVE_TYPES if bits >> effective_code(each) & 1)


@functools.cache
def _reason(bits: int) -> str:
    types = _types(bits)
    return danger_reason(*max(((a, b) for a in types for b in types), key=lambda pair: danger(*pair)))


def _without(first: int, last: int, known: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The parts of [first, last), in frames, that no known range covers; the known ranges are ascending."""
    for start, end in known:
        if end <= first:
            continue
        if start >= last:
            break
        if first < start:
            yield first, start
        first = max(first, end)
    if first < last:
        yield first, last
