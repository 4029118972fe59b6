"""The page tables of a guest, walked level by level: every table once, however many roots share it.

Tables are told apart by frame and level, so that a cycle, or a table that serves at two levels, comes to an
end by itself. What can't be followed is counted and named: page tables that the guest is updating, or that
are corrupted, are a finding and no exception. A page of which most entries make no sense isn't a table, nor
is one that points to many such pages.

Bits are those of Intel SDM vol. 3, "4-Level Paging and 5-Level Paging"; AMD's APM vol. 2 has the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pytest_memtype.audit.ram import ENTRIES, Booleans, Entries, Frames, Ram
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.pte import PS, PageSize

PRESENT: Final = np.uint64(1)
_PS: Final = np.uint64(PS)
_ADDRESS: Final = np.uint64(((1 << 52) - 1) & ~0xFFF)

_SLOT_BITS: Final = ENTRIES.bit_length() - 1

#: Level of a leaf to the size of its page.
PAGE_SIZES: Final = {1: PageSize.SIZE_4K, 2: PageSize.SIZE_2M, 3: PageSize.SIZE_1G}

#: Entries with reserved bits that one page may have and still be a table.
_MANY: Final = 8

#: From so many tables on that one table points to, this many or two more are looked at before all are read...
_CROWD: Final = 128
_SAMPLES: Final = 16
#: ...and so many dubious pages among those are too many, if they are more than a quarter of what isn't empty.
#: Sound tables point to none; some that are corrupted must not have the sound ones beside them left out.
_MANY_TABLES: Final = 4

#: Bits of a pointer to a table that hardware ignores or that choose how the table is cached. A kernel has
#: the same in all of them (Linux 5.10 to 7.3: none, __KERNPG_TABLE and _PAGE_TABLE), and a page of data has
#: any. Execution (63), which page-table isolation forbids in some, isn't among them.
_MARK: Final = np.uint64(0x7FF << 52 | 0xF << 8 | 0x18)
#: Tables of a level that are read though no pointer to them is as usual. More are read only where there are
#: twice as many others: so nonsense takes half as long as the sound tables beside it, at most. (As long was
#: too long, as pages are looked at that are then not read: a memory took 2.1 times as long as the sound one.)
_FEW: Final = 32

#: Tables read at once: 256 KiB, which stay in a core's cache while they are looked through, and which malloc
#: has at hand; memory that it asks the kernel for takes ten times as long (1 MiB, glibc 2.36).
_CHUNK: Final = 64


@shown_in_hexadecimal("table", "entry")
@dataclass(frozen=True)
class Unfollowed:
    """Page-table entries that lead nowhere, for one reason.

    :param reason: Why, as half a sentence.
    :param level: Level of the tables that hold them; 1 is the lowest. For roots, one above the highest.
    :param count: How many entries there are.
    :param table: Frame number of the table with the first of them.
    :param slot: Index of that entry in the table.
    :param entry: The entry as written there.
    """

    reason: str
    level: int
    count: int
    table: int
    slot: int
    entry: int


@dataclass(frozen=True)
class Level:
    """The tables of one level, and the entries that point to them.

    :param tables: Frame numbers, each once, ascending. At the highest level they are the roots.
    :param child: For each entry that points to one of them: which one, an index into ``tables``.
    :param parent: The table that holds the entry: an index into ``tables`` of the level above.
    :param slot: Index of the entry in that table.
    """

    tables: Frames
    child: NDArray[np.int64]
    parent: NDArray[np.int64]
    slot: NDArray[np.int64]


@dataclass(frozen=True)
class Leaves:
    """Entries that map pages, all of one level.

    :param entry: As written in the table.
    :param table: The table that holds it: an index into the level's ``tables``.
    :param slot: Index of the entry in that table.
    """

    entry: Entries
    table: NDArray[np.int32]
    slot: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.entry)


@dataclass(frozen=True)
class Walk:
    """The page tables that some roots lead to.

    :param depth: How many levels there are, 4 or 5.
    :param levels: The tables, by level; 1 is the lowest.
    :param leaves: The entries that map pages, by level: 1, 2 and 3.
    :param dangling_entries: The entries that lead nowhere.
    """

    depth: int
    levels: dict[int, Level]
    leaves: dict[int, Leaves]
    dangling_entries: tuple[Unfollowed, ...]

    def __len__(self) -> int:
        return sum(map(len, self.leaves.values()))


def walk(ram: Ram, roots: Sequence[int], *, depth: int = 4, physical_bits: int = 40) -> Walk:
    """Read the page tables that some roots lead to.

    :param ram: The RAM of a stopped guest.
    :param roots: Frame numbers of the highest tables; of too many, the first are taken.
    :param depth: 5 when CR4.LA57 is set, else 4.
    :param physical_bits: MAXPHYADDR; address bits above are reserved.
    """
    dangling_entries: list[Unfollowed] = []
    limit = most_tables(ram)
    # Of too many, the first that were named.
    wanted = np.array(roots, np.uint64)
    top = np.unique(wanted[: most_roots(ram)])
    nobody = np.empty(0, np.int64)
    tables = top[ram.holds(top)]
    if len(tables) < len(top):
        lost = int(top[~ram.holds(top)][0])
        dangling_entries.append(
            Unfollowed("a root isn't RAM", depth + 1, len(top) - len(tables), lost, 0, lost << 12)
        )
    if len(wanted) > most_roots(ram):
        lost, count = int(wanted[most_roots(ram)]), len(wanted) - most_roots(ram)
        reason = f"there are more than {most_roots(ram)} roots"
        dangling_entries.append(Unfollowed(reason, depth + 1, count, lost, 0, lost << 12))
    levels = {depth: Level(tables, nobody, nobody, nobody)}
    leaves: dict[int, Leaves] = {}
    left, usual = limit - len(tables), np.uint64(0)
    for level in range(depth, 0, -1):
        complaints = _Complaints(level, levels[level].tables)
        found, down = _read_level(ram, levels[level].tables, level, physical_bits, complaints)
        if level in PAGE_SIZES:
            leaves[level] = found
        if level == depth:
            usual = _usual_mark(down.entry)
        if level > 1:
            levels[level - 1] = _next_level(ram, down, physical_bits, complaints, left, usual)
            left -= len(levels[level - 1].tables)
        dangling_entries += complaints
    return Walk(depth=depth, levels=levels, leaves=leaves, dangling_entries=tuple(dangling_entries))


def most_tables(ram: Ram) -> int:
    """How many tables a walk reads at most, of all levels.

    A thirty-second of memory is more than any kernel could use of it for page tables; the constant is for
    guests with little memory.
    """
    return ram.frames // 32 + 1024


def most_roots(ram: Ram) -> int:
    """How many address spaces a walk begins with at most: they leave as much for the tables below."""
    return most_tables(ram) // 2


def _usual_mark(entries: Entries) -> np.uint64:
    """The bits that a kernel may choose, as most pointers of the roots have them."""
    if not len(entries):
        return np.uint64(0)
    marks, counts = np.unique(entries & _MARK, return_counts=True)
    return np.uint64(marks[np.argmax(counts)])


class _Complaints:
    def __init__(self, level: int, tables: Frames) -> None:
        self._level = level
        self._tables = tables
        self._made: dict[str, Unfollowed] = {}

    def note(self, reason: str, wrong: Booleans, entries: Entries, places: NDArray[np.int64]) -> None:
        """Count entries that lead nowhere.

        :param reason: Why they do, as half a sentence.
        :param wrong: Which of ``entries`` they are.
        :param entries: Entries as written in the tables.
        :param places: Where they are: index of the table times :data:`ENTRIES`, and the slot.
        """
        count = int(np.count_nonzero(wrong))
        if not count:
            return
        before = self._made.get(reason)
        if before is None:
            first = int(np.argmax(wrong))
            table, slot = divmod(int(places[first]), ENTRIES)
            self._made[reason] = Unfollowed(
                reason, self._level, count, int(self._tables[table]), slot, int(entries[first])
            )
        else:
            self._made[reason] = replace(before, count=before.count + count)

    def __iter__(self) -> Iterator[Unfollowed]:
        return iter(self._made.values())


def _read_level(
    ram: Ram, tables: Frames, level: int, physical_bits: int, complaints: _Complaints
) -> tuple[Leaves, Leaves]:
    """The entries of a level that map pages, and those that point to further tables."""
    mapping: list[Leaves] = []
    pointing: list[Leaves] = []
    for first in range(0, len(tables), _CHUNK):
        entries = ram.read(tables[first : first + _CHUNK]).reshape(-1)
        places = np.flatnonzero(_present(entries))
        if not len(places):
            continue
        present, places = entries[places], places + first * ENTRIES
        wrong = present & _reserved(physical_bits) != 0
        if wrong.any():
            complaints.note("reserved bits are set", wrong, present, places)
            garbage = _in_no_table(wrong, places) & ~wrong
            complaints.note("most entries beside it have reserved bits set", garbage, present, places)
            wrong |= garbage
            present, places = present[~wrong], places[~wrong]
        if level == 1:
            mapping.append(_at(present, places))
            continue
        large = present & _PS != 0
        pointing.append(_at(present[~large], places[~large]))
        if level in PAGE_SIZES:
            pages, places = present[large], places[large]
            # Bit 12 is PAT; those from there to the page's own size are reserved.
            wrong = pages & np.uint64(PAGE_SIZES[level] - (1 << 13)) != 0
            complaints.note("a large page's reserved bits are set", wrong, pages, places)
            mapping.append(_at(pages[~wrong], places[~wrong]))
        else:
            complaints.note("the reserved bit PS is set", large, present, places)
    return _together(mapping), _together(pointing)


def _present(entries: Entries) -> Booleans:
    # np.flatnonzero() takes a sixteenth of its time for entries & PRESENT of full tables (numpy 2.4), being
    # quick on booleans only.
    present: Booleans = (entries.astype(np.uint8) & np.uint8(PRESENT)).view(np.bool_)
    return present


def _reserved(physical_bits: int) -> np.uint64:
    return np.uint64(((1 << 52) - 1) & ~((1 << physical_bits) - 1))


def _in_no_table(wrong: Booleans, places: NDArray[np.int64]) -> Booleans:
    """Tell which entries are in pages of which most make no sense.

    A single wrong pointer turns 512 pages of data into tables. What a processor would find in them by chance
    is no mapping that a kernel made.
    """
    tables = places >> _SLOT_BITS
    tables -= tables[0]
    wrongs = np.bincount(tables[wrong], minlength=int(tables[-1]) + 1)
    strays: Booleans = _no_table(wrongs, np.bincount(tables))[tables]
    return strays


def _no_table(wrongs: NDArray[np.int64], present: NDArray[np.int64]) -> Booleans:
    return (wrongs >= _MANY) & (2 * wrongs > present)


def _dubious(wrongs: NDArray[np.int64], present: NDArray[np.int64]) -> Booleans:
    # The kernel's small odd numbers look like entries: a page of its data, taken for a table, has them beside
    # its pointers. Several such pages are as telling as a page of nonsense.
    return (wrongs >= _MANY) & (8 * wrongs > present)


def _in_no_directory(
    ram: Ram, frames: Frames, parents: NDArray[np.int32], physical_bits: int, most: int
) -> Booleans:
    """Tell which pointers are in tables that point to pages which aren't tables.

    A table that maps pages, reached from a level too high, has 512 pages of data for tables: much to read,
    and not all of it looks like nonsense.

    :param ram: The RAM of the guest.
    :param frames: Numbers of the frames that they point to.
    :param parents: The table that holds each pointer, ascending.
    :param physical_bits: MAXPHYADDR; address bits above are reserved.
    :param most: Number of pages that are looked at, at most.
    """
    counts = np.bincount(parents)
    crowded = counts >= _CROWD
    if not crowded.any():
        return np.zeros(len(frames), np.bool_)
    first = np.searchsorted(parents, np.arange(len(crowded)))
    one_in = np.maximum(counts // _SAMPLES, 1)[parents]
    looked_at = crowded[parents] & ((np.arange(len(frames)) - first[parents]) % one_in == 0)
    # Each page once, however many point to it, and no more than may be read at all.
    pages, place = np.unique(frames[looked_at], return_inverse=True)
    dubious, empty = np.zeros(len(pages), np.bool_), np.ones(len(pages), np.bool_)
    for start in range(0, min(len(pages), most), _CHUNK):
        chunk = slice(start, min(start + _CHUNK, most))
        entries = ram.read(pages[chunk]).reshape(-1)
        places = np.flatnonzero(_present(entries))
        tables, wrong = places >> _SLOT_BITS, entries[places] & _reserved(physical_bits) != 0
        count = len(pages[chunk])
        presents = np.bincount(tables, minlength=count)
        wrongs = np.bincount(tables[wrong], minlength=count)
        dubious[chunk], empty[chunk] = _dubious(wrongs, presents), presents == 0
    owners = parents[looked_at]
    bad = np.bincount(owners, dubious[place], len(crowded))
    there = np.bincount(owners, ~empty[place], len(crowded))
    strays: Booleans = (crowded & (bad >= _MANY_TABLES) & (4 * bad > there))[parents]
    return strays


def _at(entries: Entries, places: NDArray[np.int64]) -> Leaves:
    return Leaves(
        entry=entries,
        table=(places >> _SLOT_BITS).astype(np.int32),
        slot=(places & (ENTRIES - 1)).astype(np.uint16),
    )


def _places(leaves: Leaves) -> NDArray[np.int64]:
    return leaves.table.astype(np.int64) * ENTRIES + leaves.slot


def _take(leaves: Leaves, which: Booleans) -> Leaves:
    return Leaves(entry=leaves.entry[which], table=leaves.table[which], slot=leaves.slot[which])


def _together(parts: list[Leaves]) -> Leaves:
    if len(parts) == 1:
        return parts[0]
    return Leaves(
        entry=np.concatenate([np.empty(0, np.uint64), *(part.entry for part in parts)]),
        table=np.concatenate([np.empty(0, np.int32), *(part.table for part in parts)]),
        slot=np.concatenate([np.empty(0, np.uint16), *(part.slot for part in parts)]),
    )


def _next_level(
    ram: Ram, pointers: Leaves, physical_bits: int, complaints: _Complaints, limit: int, usual: np.uint64
) -> Level:
    frames = (pointers.entry & _ADDRESS) >> np.uint64(12)
    held = ram.holds(frames)
    if not held.all():
        complaints.note("a table isn't RAM", ~held, pointers.entry, _places(pointers))
        pointers, frames = _take(pointers, held), frames[held]
    usuals = pointers.entry & _MARK == usual
    # Looking at pages that then aren't read must cost less than the tables that the kernel made.
    most = min(limit, max(_CROWD, int(np.count_nonzero(usuals)) // 2))
    garbage = _in_no_directory(ram, frames, pointers.table, physical_bits, most)
    if garbage.any():
        complaints.note("tables beside it are pages of nonsense", garbage, pointers.entry, _places(pointers))
        pointers, frames, usuals = _take(pointers, ~garbage), frames[~garbage], usuals[~garbage]
    tables, child = np.unique(frames, return_inverse=True)
    likely = np.zeros(len(tables), np.bool_)
    likely[child[usuals]] = True
    for reason, beyond in _too_many(likely, limit):
        complaints.note(reason, beyond[child], pointers.entry, _places(pointers))
        keep = ~beyond
        pointers, child = _take(pointers, keep[child]), (np.cumsum(keep) - 1)[child[keep[child]]]
        tables, likely = tables[keep], likely[keep]
    return Level(
        tables=tables,
        child=child.astype(np.int64),
        parent=pointers.table.astype(np.int64),
        slot=pointers.slot.astype(np.int64),
    )


def _too_many(likely: Booleans, limit: int) -> Iterator[tuple[str, Booleans]]:
    """Choose the tables that aren't read: why, and which of those that the choice before left.

    Pages of data that look like tables by chance must not cost more reading than the tables that the kernel
    made.

    :param likely: For each table, whether a pointer to it looks like the kernel's.
    :param limit: How many tables may still be read.
    """
    allowed = max(_FEW, int(np.count_nonzero(likely)) // 2)
    beyond = ~likely & (np.cumsum(~likely) > allowed)
    if beyond.any():
        yield f"more than {allowed} tables of a level are pointed to by entries unlike the kernel's", beyond
    likely = likely[~beyond]
    if len(likely) > limit:
        # The likely ones first.
        order = np.argsort(~likely, kind="stable")
        late = np.zeros(len(likely), np.bool_)
        late[order[max(limit, 0) :]] = True
        yield "there are more tables than a kernel could use of this memory", late
