"""Page tables that no test kernel makes: five levels, 1 GiB pages, cycles, tables that aren't memory."""

from __future__ import annotations

import numpy as np
import pytest
from memtype_support.naive_tables import ArrayRam

from pytest_memtype.audit.ram import Entries, Frames
from pytest_memtype.audit.reverse import Path, Paths
from pytest_memtype.audit.roots import Root, find_roots
from pytest_memtype.audit.types import CacheRegisters, assign_types, conflicts
from pytest_memtype.audit.walk import Walk, most_roots, most_tables, walk
from pytest_memtype.x86.effective import EffectiveType, Vendor, effective_code
from pytest_memtype.x86.pat import RESET_PAT

# Intel SDM vol. 3, "4-Level Paging and 5-Level Paging": present and writable; PCD and PWT choose UC by the
# PAT as it is at reset; bit 7 makes a page of an entry above the last level.
POINTER, PAGE, UC, LARGE = 3, 3, 0x18, 1 << 7
FRAMES = 64
TYPING = CacheRegisters(RESET_PAT, None, Vendor.INTEL)


def memory(entries: dict[tuple[int, int], int], frames: int = FRAMES) -> ArrayRam:
    """RAM with these entries: (frame of the table, slot) to what is written there."""
    words = np.zeros((frames, 512), np.uint64)
    for (frame, slot), entry in entries.items():
        words[frame, slot] = entry
    return ArrayRam(words)


def reached(found: Walk, level: int) -> list[Path]:
    leaves = found.leaves[level]
    return [
        path
        for table, slot in zip(leaves.table.tolist(), leaves.slot.tolist(), strict=True)
        for path in Paths(found).to(level, table, slot)
    ]


def test_five_levels() -> None:
    ram = memory(
        {
            (1, 511): 2 << 12 | POINTER,
            (2, 511): 3 << 12 | POINTER,
            (3, 510): 4 << 12 | POINTER,
            (4, 0): 5 << 12 | POINTER,
            (5, 1): 9 << 12 | PAGE,
        }
    )
    found = walk(ram, [1], depth=5)
    assert len(found) == 1
    assert found.dangling_entries == ()
    assert reached(found, 1) == [Path(1, 0xFFFFFFFF80001000)]


def test_a_page_of_1_gib_beside_one_of_4_kib() -> None:
    ram = memory(
        {
            (1, 0): 2 << 12 | POINTER,
            (2, 1): 1 << 30 | PAGE | LARGE,
            (2, 2): 3 << 12 | POINTER,
            (3, 0): 4 << 12 | POINTER,
            (4, 7): (1 << 30) + (5 << 12) | PAGE | UC,
        }
    )
    found = assign_types(walk(ram, [1]), TYPING, frames=ram.frames)
    both = 1 << effective_code(EffectiveType.WB) | 1 << effective_code(EffectiveType.UC)
    assert list(conflicts(found)) == [((1 << 18) + 5, 1, both)]
    assert reached(found.walk, 3) == [Path(1, 1 << 30)]


def test_a_cycle_ends() -> None:
    # Each table of the highest level maps itself: at the last level its entries are pages.
    ram = memory({(1, 0): 1 << 12 | POINTER})
    found = walk(ram, [1])
    assert len(found) == 1
    assert reached(found, 1) == [Path(1, 0)]


def test_what_is_not_followed_is_named() -> None:
    ram = memory(
        {
            (1, 0): FRAMES << 12 | POINTER,
            (1, 1): 1 << 45 | POINTER,
            (1, 2): 2 << 12 | POINTER | LARGE,
            (1, 3): 3 << 12 | POINTER,
            (3, 0): 1 << 13 | PAGE | LARGE,
        }
    )
    found = walk(ram, [1, FRAMES + 5], physical_bits=40)
    assert {(each.reason, each.level, each.slot) for each in found.dangling_entries} == {
        ("a root isn't RAM", 5, 0),
        ("a table isn't RAM", 4, 0),
        ("reserved bits are set", 4, 1),
        ("the reserved bit PS is set", 4, 2),
        ("a large page's reserved bits are set", 3, 0),
    }


@pytest.mark.parametrize(("wrong", "followed"), [(7, 1), (8, 0)])
def test_a_page_of_nonsense_is_no_table(wrong: int, followed: int) -> None:
    """Eight entries that can't be, and fewer that can: beside a table that has one of each."""
    sound = {(1, 0): 2 << 12 | POINTER, (2, 0): 3 << 12 | POINTER}
    sound |= {(3, 0): 4 << 12 | POINTER, (3, 1): 5 << 12 | POINTER}
    sound |= {(5, 0): 9 << 12 | PAGE, (5, 1): 1 << 45 | PAGE}
    ram = memory({**sound, (4, 511): 8 << 12 | PAGE, **{(4, slot): 1 << 45 | PAGE for slot in range(wrong)}})
    found = walk(ram, [1], physical_bits=40)
    assert len(found.leaves[1]) == 1 + followed
    beside = [
        each
        for each in found.dangling_entries
        if each.reason == "most entries beside it have reserved bits set"
    ]
    assert [(each.count, each.table, each.slot) for each in beside] == [(1, 4, 511)] * (1 - followed)
    assert {each.count for each in found.dangling_entries if each not in beside} == {1 + wrong}


@pytest.mark.parametrize(
    ("pointers", "dubious", "present", "sensible", "followed"),
    [
        (128, 4, 63, 11, False),
        (128, 4, 63, 12, True),
        (128, 4, 64, 0, True),
        (128, 3, 63, 0, True),
        (127, 15, 63, 0, True),
    ],
)
def test_a_table_of_dubious_pages_is_none(
    pointers: int, dubious: int, present: int, sensible: int, followed: bool
) -> None:
    """From 128 pointers on 16 pages are looked at: four dubious ones, over a quarter of those not empty.

    Dubious is one with eight entries that can't be, if those are more than an eighth of its entries.
    """
    tables = [1000 + slot for slot in range(pointers)]
    entries = {(1, 0): 2 << 12 | POINTER, (2, 0): 3 << 12 | POINTER, (2, 1): 4 << 12 | POINTER}
    entries |= {(3, slot): table << 12 | POINTER for slot, table in enumerate(tables)}
    looked_at = tables[::8]
    for table in looked_at[:dubious]:
        entries |= {(table, slot): 1 << 45 | PAGE for slot in range(8)}
        entries |= {(table, slot): 9 << 12 | PAGE for slot in range(8, present)}
    for table in looked_at[dubious : dubious + sensible]:
        entries[table, 0] = 9 << 12 | PAGE
    # What is beside it is followed all the same.
    entries |= {(4, 0): 5 << 12 | POINTER, (5, 0): 10 << 12 | PAGE}
    found = walk(memory(entries, frames=2000), [1], physical_bits=40)
    assert len(found.leaves[1]) == 1 + (dubious * (present - 8) + sensible if followed else 0)
    unread = [
        each for each in found.dangling_entries if each.reason == "tables beside it are pages of nonsense"
    ]
    assert [(each.level, each.count, each.table, each.slot) for each in unread] == (
        [] if followed else [(2, pointers, 3, 0)]
    )


@pytest.mark.parametrize(
    ("slot", "ways"),
    [
        (255, [Path(1, 0x7F8000000000), Path(2, 0x7F8000000000)]),
        # The kernel's half is all address spaces'.
        (256, [Path(1, 0xFFFF800000000000)]),
    ],
)
def test_shared_tables_are_walked_once(slot: int, ways: list[Path]) -> None:
    ram = memory(
        {
            (1, slot): 3 << 12 | POINTER,
            (2, slot): 3 << 12 | POINTER,
            (3, 0): 4 << 12 | POINTER,
            (4, 0): 5 << 12 | POINTER,
            (5, 0): 9 << 12 | PAGE,
        }
    )
    found = walk(ram, [1, 2])
    assert len(found) == 1
    assert reached(found, 1) == ways


def test_roots_that_share_the_kernels_half_and_their_twins() -> None:
    kernel = {256: 20, 300: 21, 510: 22, 511: 23}
    entries = {(frame, slot): table << 12 | POINTER for frame in (8, 12) for slot, table in kernel.items()}
    # Under page-table isolation the frame behind a root is what user mode runs on; NX differs.
    entries |= {
        (12, 3): 30 << 12 | POINTER | 1 << 63,
        (13, 3): 30 << 12 | POINTER,
        (13, 511): 40 << 12 | POINTER,
    }
    ram = memory(entries)
    found = find_roots(ram, [Root(8, cpus=(0,))])
    assert [(root.frame, root.pti_user_half) for root in found] == [(8, False), (12, False), (13, True)]
    # A CPU in user mode has the twin in CR3.
    assert [root.frame for root in find_roots(ram, [Root(13, cpus=(0,))])] == [8, 12, 13]


def test_a_walk_reads_no_more_tables_than_a_kernel_could_have() -> None:
    """A thirty-second of 2,048 frames, and 1,024 more: of 1,500 last tables 1,085 are read, and the rest is
    named."""
    entries = {(1, 0): 2 << 12 | POINTER}
    entries |= {(2, slot): 3 + slot << 12 | POINTER for slot in range(3)}
    entries |= {(3 + table // 500, table % 500): 100 + table << 12 | POINTER for table in range(1500)}
    entries |= {(100 + table, 0): 9 << 12 | PAGE for table in range(1500)}
    found = walk(memory(entries, frames=2048), [1])
    limit = 2048 // 32 + 1024
    assert most_tables(memory({}, frames=2048)) == limit
    assert sum(len(level.tables) for level in found.levels.values()) == limit
    (cut,) = found.dangling_entries
    assert cut.reason == "there are more tables than a kernel could use of this memory"
    assert cut.count == 1500 - (limit - 5)


@pytest.mark.parametrize("odd", [32, 33, 41, 100])
@pytest.mark.parametrize("others", [1, 80])
def test_pointers_unlike_the_others_are_followed_to_half_as_many_tables_as_those(
    odd: int, others: int
) -> None:
    """Odd ones have bit 9, which hardware ignores; 32 are allowed in any case."""
    entries = {(1, 0): 2 << 12 | POINTER, (2, 0): 3 << 12 | POINTER, (2, 1): 4 << 12 | POINTER}
    entries |= {(3, slot): 100 + slot << 12 | POINTER for slot in range(others)}
    entries |= {(4, slot): 300 + slot << 12 | POINTER | 1 << 9 for slot in range(odd)}
    entries |= {(table, 0): 9 << 12 | PAGE for table in range(100, 500)}
    found = walk(memory(entries, frames=512), [1])
    followed = min(odd, max(32, others // 2))
    assert len(found.leaves[1]) == others + followed
    assert [each.count for each in found.dangling_entries] == ([odd - followed] if odd > followed else [])


def test_a_few_corrupted_tables_leave_the_sound_ones_beside_them() -> None:
    """Three of a full directory, and each where it is looked at."""
    entries = {(1, 0): 2 << 12 | POINTER, (2, 0): 3 << 12 | POINTER}
    entries |= {(3, slot): 1000 + slot << 12 | POINTER for slot in range(512)}
    entries |= {(1000 + slot, 0): 9 << 12 | PAGE for slot in range(512)}
    for table in (1000, 1032, 1064):
        entries |= {(table, slot): 1 << 45 | PAGE for slot in range(1, 101)}
    found = walk(memory(entries, frames=2000), [1], physical_bits=40)
    assert len(found.leaves[1]) == 509
    assert "tables beside it are pages of nonsense" not in {each.reason for each in found.dangling_entries}


def test_of_tables_that_point_to_data_alone_little_is_read() -> None:
    """Eight such, of 512 pointers each: 16 pages of each are looked at, and 32 tables read of all."""

    class Counted(ArrayRam):
        frames_read = 0

        def read(self, frames: Frames) -> Entries:
            self.frames_read += len(frames)
            return super().read(frames)

    entries = {(1, 0): 2 << 12 | POINTER, (2, 0): 3 << 12 | POINTER, (3, 0): 4 << 12 | POINTER}
    entries |= {(2, slot): 10 + slot << 12 | POINTER for slot in range(1, 9)}
    for table in range(1, 9):
        entries |= {(10 + table, slot): table * 512 + slot << 12 | POINTER | 1 << 9 for slot in range(0, 512)}
    entries |= {(frame, 0): 9 << 12 | PAGE for frame in (4, *range(512, 9 * 512))}
    ram = Counted(memory(entries, frames=9 * 512).words)
    found = walk(ram, [1])
    assert len(found.leaves[1]) == 1 + 32
    assert ram.frames_read <= 1 + 1 + 9 + 33 + 8 * 17


def test_of_too_many_roots_the_first_are_walked() -> None:
    limit = most_roots(memory({}, frames=2000))
    found = walk(memory({}, frames=2000), [1999, *range(1500)])
    assert 1999 in found.levels[4].tables
    assert len(found.levels[4].tables) == limit
    (cut,) = found.dangling_entries
    assert (cut.reason, cut.count) == (f"there are more than {limit} roots", 1501 - limit)
