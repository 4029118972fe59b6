"""The model of Linux against what kernel-rules.md and bugs.md found in guests: their recipes, replayed."""

from __future__ import annotations

import errno

import pytest

from pytest_memtype.spec.linux import Answer, Linux, Platform
from pytest_memtype.spec.linux_reservations import Reservation, Reservations
from pytest_memtype.spec.linux_versions import (
    TABLE,
    Behaviour,
    Topic,
    Version,
    behaviours,
    changed,
    parse_version,
)
from pytest_memtype.x86.memtype import MemType

WB, WC, WT, WP, UC, UC_MINUS = (MemType[name] for name in ("WB", "WC", "WT", "WP", "UC", "UC_MINUS"))
RAM, RAM_END = 0x800, 0x10000
BAR = 0xFD000
BULLSEYE, BOOKWORM, TRIXIE, NEWEST = (5, 10, 262), (6, 1, 192), (6, 12, 95), (7, 3, 4)
ALL = (BULLSEYE, BOOKWORM, TRIXIE, NEWEST)


def kernel(version: Version, *, write_back: bool = False) -> Linux:
    linux = Linux(Platform(version, is_ram=lambda pfn: pfn < RAM_END, is_write_back=lambda _pfn: write_back))
    linux.processes.start(1)
    return linux


def entries(linux: Linux) -> list[tuple[int, int, MemType]]:
    return [(each.first - BAR, each.end - BAR, each.memtype) for each in linux.memtype_list(BAR, 64)]


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("write_back", [False, True])
def test_pairs_of_ioremaps(version: Version, write_back: bool) -> None:
    """Kernel rules 2.4: the second takes the first's type, but for the pairs named."""
    for first in (UC_MINUS, UC, WC, WT, WB):
        for second in (UC_MINUS, UC, WC, WT, WB):
            linux = kernel(version, write_back=write_back)
            alone = first if write_back or first is not WB else UC_MINUS
            assert linux.ioremap(1, BAR, 4, first) == Answer(0, (alone,) * 4)
            refused = (first, second) == (WC, WT) or (alone is WB and second in (UC_MINUS, WC, WT))
            answer = linux.ioremap(2, BAR, 4, second)
            assert answer == (Answer(errno.ENOMEM) if refused else Answer(0, (alone,) * 4))
            assert entries(linux) == [(0, 4, alone)] * (1 if refused else 2)


def test_write_protected_is_uncached_in_the_page_table() -> None:
    """Bugs 7.4."""
    linux = kernel(BOOKWORM)
    assert linux.ioremap(1, BAR, 1, WP) == Answer(0, (UC,))
    assert entries(linux) == [(0, 1, WP)]


@pytest.mark.parametrize("version", ALL)
def test_mixed_overlap(version: Version) -> None:
    """Bugs 4.9."""
    linux = kernel(version)
    linux.mmap(1, 0, BAR, 2, WC, via="sysfs")
    linux.mmap(1, 8, BAR + 2, 2, UC_MINUS, via="sysfs")
    assert linux.mmap(1, 16, BAR, 4, WC, via="sysfs") == Answer(errno.EINVAL)
    assert linux.mmap(1, 16, BAR, 4, WB, via="devmem") == Answer(errno.EAGAIN)
    assert linux.ioremap(1, BAR, 4, WC) == Answer(errno.ENOMEM)
    assert linux.ioremap(1, BAR + 4, 1, WT) == Answer(0, (WT,))


@pytest.mark.parametrize("version", ALL)
def test_the_winner_covers_all_of_the_second(version: Version) -> None:
    linux = kernel(version)
    linux.ioremap(1, BAR, 3, WC)
    assert linux.ioremap(2, BAR + 2, 3, UC_MINUS) == Answer(0, (WC,) * 3)
    assert linux.ioremap(3, BAR + 5, 1, UC_MINUS) == Answer(0, (UC_MINUS,))
    assert entries(linux) == [(0, 3, WC), (2, 5, WC), (5, 6, UC_MINUS)]


@pytest.mark.parametrize(("version", "left"), [(v, [(0, 2, UC_MINUS)]) for v in ALL[:3]] + [(NEWEST, [])])
def test_a_split_leaks(version: Version, left: list[tuple[int, int, MemType]]) -> None:
    """Bugs 4.1: mprotect of the upper half, then both halves unmapped, the lower one first."""
    linux = kernel(version)
    linux.mmap(1, 0, BAR, 4, UC_MINUS, via="sysfs")
    assert linux.processes.mprotect(1, 2, 4, "r") == 0
    linux.processes.munmap(1, 0, 2)
    linux.processes.munmap(1, 2, 4)
    assert entries(linux) == left
    assert linux.mmap(1, 8, BAR, 2, WC, via="sysfs").granted == ((UC_MINUS if left else WC),) * 2


@pytest.mark.parametrize("version", ALL)
def test_a_split_unmapped_from_above_does_not_leak(version: Version) -> None:
    linux = kernel(version)
    linux.mmap(1, 0, BAR, 4, UC_MINUS, via="sysfs")
    linux.processes.munmap(1, 2, 4)
    # Bugs 7.7: from 6.16 on the whole range stays reserved.
    assert entries(linux) == [(0, 4 if version >= (6, 16, 0) else 2, UC_MINUS)]
    linux.processes.munmap(1, 0, 2)
    assert entries(linux) == []


@pytest.mark.parametrize(("version", "left"), [(v, [(0, 2, UC_MINUS)]) for v in ALL[:3]] + [(NEWEST, [])])
def test_moving_a_half_leaks(version: Version, left: list[tuple[int, int, MemType]]) -> None:
    linux = kernel(version)
    linux.mmap(1, 0, BAR, 4, UC_MINUS, via="sysfs")
    assert linux.processes.mremap(1, 2, 2, 2, 10) == 0
    assert linux.user_page_table(1, 0, 4) == (UC_MINUS, UC_MINUS, None, None)
    assert linux.user_page_table(1, 10, 2) == (UC_MINUS, UC_MINUS)
    linux.processes.exit(1)
    assert entries(linux) == left


@pytest.mark.parametrize(
    ("version", "fork", "kept"),
    [(BULLSEYE, errno.ENOMEM, 0), (BOOKWORM, errno.ENOMEM, 1), (TRIXIE, errno.ENOMEM, 1), (NEWEST, 0, 1)],
)
def test_fork_with_a_copied_first_page(version: Version, fork: int, kept: int) -> None:
    """Bugs 4.2: on 5.10 the parent loses its reservation."""
    linux = kernel(version)
    linux.mmap(1, 0, BAR, 4, UC_MINUS, via="devmem", private=True)
    assert linux.processes.access(1, 0, write=True) == 0
    assert linux.processes.fork(1, 2) == fork
    assert len(entries(linux)) == kept
    assert linux.mmap(1, 8, BAR, 4, WC, via="sysfs").granted == ((UC_MINUS if kept else WC),) * 4


@pytest.mark.parametrize("version", ALL)
def test_fork_reserves_again_or_shares(version: Version) -> None:
    linux = kernel(version)
    linux.mmap(1, 0, BAR, 4, WT)
    assert linux.processes.fork(1, 2) == 0
    assert entries(linux) == [(0, 4, WT)] * (1 if version >= (6, 16, 0) else 2)
    linux.processes.exit(1)
    assert entries(linux) == [(0, 4, WT)]
    assert linux.user_page_table(2, 0, 4) == (WT,) * 4
    linux.processes.exit(2)
    assert entries(linux) == []


@pytest.mark.parametrize("version", ALL)
def test_zapping_a_page(version: Version) -> None:
    """Bugs 4.3."""
    linux = kernel(version)
    linux.mmap(1, 0, BAR, 4, UC_MINUS)
    linux.processes.zap("driver", BAR, BAR + 1)
    assert linux.user_page_table(1, 0, 4) == (None, UC_MINUS, UC_MINUS, UC_MINUS)
    assert entries(linux) == ([(0, 4, UC_MINUS)] if version >= (6, 16, 0) else [])
    linux.processes.exit(1)
    assert entries(linux) == []


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("lower", [(1, 0), (1, 20), (2, 0)], ids=["below", "above", "of-another"])
def test_zapping_goes_by_the_pages_in_the_file(version: Version, lower: tuple[int, int]) -> None:
    """Seen in 6.1: the part that was split off comes after the mapping whose end it has."""
    linux = kernel(version)
    pid, vpage = lower
    linux.processes.start(2)
    assert linux.mmap(1, 10, BAR + 7, 5, UC_MINUS) == Answer(0, (UC_MINUS,) * 5)
    assert linux.mmap(pid, vpage, BAR + 1, 9, UC_MINUS) == Answer(0, (UC_MINUS,) * 9)
    linux.processes.mprotect(1, 13, 14, "r")
    linux.processes.zap("driver", BAR + 9, BAR + 12)
    both = [(1, 10, UC_MINUS), (7, 12, UC_MINUS)]
    assert entries(linux) == (both if version >= (6, 16, 0) else [(7, 11, UC_MINUS)])


@pytest.mark.parametrize("version", ALL)
def test_ram(version: Version) -> None:
    """Kernel rules 2.2 and 2.4: tags without a count, and a mapping that doesn't follow them."""
    linux = kernel(version, write_back=True)
    assert linux.mmap(1, 0, RAM, 2, WC) == Answer(0, (WB, WB))
    assert linux.set_memory(1, RAM, 1, WC) == Answer(0, (WC,))
    assert linux.set_memory(2, RAM, 2, WC) == Answer(errno.EBUSY)
    assert linux.mmap(1, 8, RAM, 2, WB) == Answer(0, (WC, WC))
    assert linux.memremap(3, RAM, 2, WB) == Answer(0, (WC, WB))
    assert linux.memremap(4, RAM, 2, WC) == Answer(errno.ENOMEM)
    assert linux.ioremap(4, RAM, 2, WC) == Answer(errno.ENOMEM)
    assert linux.mmap(1, 16, RAM, 1, WB, via="devmem") == Answer(errno.EPERM)
    linux.release(1)
    assert linux.kernel_page_table(3) == (WB, WB)
    assert linux.user_page_table(1, 0, 2) == (WB, WB)
    assert linux.user_page_table(1, 8, 2) == (WC, WC)


def test_partly_ram_is_decided_by_the_first_page_and_not_reserved() -> None:
    linux = kernel(BOOKWORM)
    assert linux.mmap(1, 0, RAM_END - 1, 2, WC) == Answer(0, (WB, WB))
    assert linux.memtype_list(RAM_END - 1, 2) == ()
    assert linux.memremap(1, RAM_END - 1, 2, WB) == Answer(errno.ENOMEM)
    assert linux.ioremap(1, RAM_END - 1, 2, WB) == Answer(errno.ENOMEM)


# pat_pagerange_is_ram() and pagerange_is_ram_callback(), arch/x86/mm/pat/memtype.c, followed by hand: all
# versions that were looked at have the same. "walk" is the page frames that are RAM, of 0x200 to 0x207.
@pytest.mark.parametrize(
    ("walk", "answer"),
    [
        ("", False),
        ("01234567", True),
        ("0123", True),  # The callback isn't called for the hole behind it.
        ("0", True),
        ("4567", None),
        ("7", None),
        ("01267", None),  # A hole before more RAM.
        ("0167", None),
    ],
)
def test_what_counts_as_ram(walk: str, answer: bool | None) -> None:
    frames = {0x200 + int(number) for number in walk}
    reservations = Reservations(
        tracking=True,
        free_behaviour=Behaviour.EXACT,
        is_ram=frames.__contains__,
        is_write_back=lambda _: True,
    )
    assert reservations.ram(0x200, 0x208) is answer


@pytest.mark.parametrize(
    ("first", "end", "answer"),
    [
        (0x80, 0x90, False),  # Below 1 MiB nothing is RAM,
        (0xF0, 0x110, None),  # and a walk from there begins with a hole.
        (0x100, 0x110, True),
    ],
)
def test_what_counts_as_ram_at_the_first_mebibyte(first: int, end: int, answer: bool | None) -> None:
    reservations = Reservations(
        tracking=True,
        free_behaviour=Behaviour.EXACT,
        is_ram=lambda _: True,
        is_write_back=lambda _: True,
    )
    assert reservations.ram(first, end) is answer


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("first", [0, 2], ids=["all of it", "behind the first pages"])
def test_a_mapping_whose_memory_became_ram_keeps_its_reservation(version: Version, first: int) -> None:
    """The bug ``hotplug-leak``: memtype_free() and free_pfn_range() ask what the memory is now."""
    plugged: set[int] = set()
    linux = Linux(Platform(version, is_ram=plugged.__contains__, is_write_back=lambda _pfn: False))
    linux.processes.start(1)
    assert linux.ioremap(2, BAR, 4, WC) == Answer(0, (WC,) * 4)
    assert linux.mmap(1, 0, BAR, 4, WC) == Answer(0, (WC,) * 4)

    plugged.update(range(BAR + first, BAR + 8))
    linux.release(2)
    linux.processes.exit(1)
    plugged.clear()

    assert entries(linux) == [(0, 4, WC)] * 2
    assert linux.ioremap(3, BAR, 4, UC_MINUS) == Answer(0, (WC,) * 4)


def test_a_page_copied_on_write_gets_the_type_of_vm_page_prot() -> None:
    linux = kernel(BOOKWORM)
    for vpage, via, memtype in ((0, "driver", WT), (8, "sysfs", WC), (16, "devmem", UC_MINUS)):
        linux.mmap(1, vpage, BAR + vpage, 1, memtype, via=via, private=True)
        linux.processes.access(1, vpage, write=True)
        assert linux.user_page_table(1, vpage, 1) == (memtype,)


def test_access() -> None:
    linux = kernel(BOOKWORM)
    linux.mmap(1, 0, BAR, 4, WC, protection="r")
    processes = linux.processes
    assert processes.access(1, 3, write=False) == 0
    assert processes.access(1, 3, write=True) == 11
    assert processes.access(1, 4, write=False) == 11
    processes.zap("driver", BAR, BAR + 1)
    assert processes.access(1, 0, write=False) == 7


def test_mprotect_over_a_hole() -> None:
    linux = kernel(BOOKWORM)
    linux.mmap(1, 0, BAR, 6, WC)
    linux.processes.munmap(1, 2, 4)
    assert linux.processes.mprotect(1, 0, 6, "r") == errno.ENOMEM
    assert linux.processes.access(1, 1, write=True) == 11
    assert linux.processes.access(1, 4, write=True) == 0
    assert linux.processes.mprotect(1, 0, 2, "rw") == 0


@pytest.mark.parametrize(("version", "memtype"), [(TRIXIE, UC_MINUS), (NEWEST, WB)])
def test_nopat(version: Version, memtype: MemType) -> None:
    """Bugs 4.5, and no list."""
    linux = Linux(Platform(version, lambda pfn: pfn < RAM_END, lambda _pfn: True, pat=False))
    linux.processes.start(1)
    assert linux.mmap(1, 0, BAR, 1, UC_MINUS, via="devmem").granted == (memtype,)
    assert linux.mmap(1, 4, BAR, 1, WC, via="sysfs") == Answer(errno.ENOENT)
    # What isn't there can't be opened, whatever it would be mapped for.
    assert linux.mmap(1, 4, BAR, 1, WC, via="sysfs", protection="rx") == Answer(errno.ENOENT)
    assert linux.mmap(1, 4, BAR, 1, UC_MINUS, via="sysfs", protection="rx") == Answer(errno.EPERM)
    assert linux.ioremap(1, BAR, 1, WC) == Answer(0, (UC_MINUS,))
    assert entries(linux) == []


@pytest.mark.parametrize(
    ("version", "wc", "wb", "listed"),
    [
        (BULLSEYE, UC_MINUS, WB, []),
        (BOOKWORM, UC_MINUS, UC_MINUS, [(0, 1, WC), (1, 2, UC_MINUS)]),
        (TRIXIE, WC, UC_MINUS, [(0, 1, WC), (1, 2, UC_MINUS)]),
    ],
)
def test_without_mtrrs(
    version: Version, wc: MemType, wb: MemType, listed: list[tuple[int, int, MemType]]
) -> None:
    linux = Linux(Platform(version, lambda pfn: pfn < RAM_END, lambda _pfn: False, has_mtrr=False))
    assert linux.ioremap(1, BAR, 1, WC).granted == (wc,)
    assert linux.ioremap(2, BAR + 1, 1, WB).granted == (wb,)
    assert entries(linux) == listed
    linux.processes.start(1)
    assert linux.mmap(1, 0, BAR + 8, 1, WP).granted == ((WP,) if wc is WC else (UC_MINUS,))
    listed_as = [each.memtype for each in linux.memtype_list(BAR + 8, 1)]
    assert listed_as == ([] if not listed else [WP] if wc is WC else [UC_MINUS])


def test_seeded() -> None:
    linux = kernel(BOOKWORM)
    linux.reservations.seed([Reservation(BAR, BAR + 4, WT)])
    assert linux.ioremap(1, BAR + 3, 2, UC_MINUS) == Answer(0, (WT, WT))


def test_a_fix_in_an_old_series_says_nothing_of_the_series_between() -> None:
    def fork(version: Version) -> object:
        return behaviours(version)[Topic.FAILED_FORK]

    assert (
        fork((6, 1, 161)) == fork((6, 5, 0)) == fork((6, 12, 24)) == fork((5, 10, 262)) != fork((6, 1, 162))
    )
    assert fork((6, 1, 162)) == fork((6, 12, 25)) == fork((6, 15, 0)) == fork((7, 3, 4))


def test_every_topic_has_a_behaviour_for_the_oldest() -> None:
    assert set(behaviours((5, 10, 0))) == set(Topic)
    assert all(row.source for row in TABLE)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        # /proc/version of Debian's kernels, of one built by Debian's compiler, and of Ubuntu's.
        (
            "Linux version 6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian "
            "12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40) #1 SMP PREEMPT_DYNAMIC "
            "Debian 6.1.192-2 (2026-11-16)",
            (6, 1, 192),
        ),
        (
            "Linux version 6.12.118-mine (me@host) (gcc (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU "
            "Binutils for Debian) 2.40) #3 SMP PREEMPT_DYNAMIC Sun Nov 29 03:00:00 UTC 2026",
            (6, 12, 118),
        ),
        (
            "Linux version 6.8.0-45-generic (builder@host) (x86_64-linux-gnu-gcc-13 (Ubuntu "
            "13.2.0-23ubuntu4) 13.2.0, GNU ld (GNU Binutils for Ubuntu) 2.42) #45~22.04.1-Ubuntu SMP",
            (6, 8, 0),
        ),
        ("6.1.192-2", (6, 1, 192)),
        ("7.3.4-1~bpo13+1", (7, 3, 4)),
        ("6.17.0-rc3-00012-g0123456789ab", (6, 17, 0)),
        ("6.16", (6, 16, 0)),
        ("5.10.262", (5, 10, 262)),
    ],
)
def test_parse_version(text: str, version: Version) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["mainline", "#45~22.04.1-Ubuntu SMP"])
def test_parse_version_of_nonsense(text: str) -> None:
    with pytest.raises(ValueError, match=f"no kernel version in '{text}'"):
        parse_version(text)


@pytest.mark.parametrize("version", ALL)
def test_mremap(version: Version) -> None:
    linux = kernel(version)
    linux.mmap(1, 0, BAR, 4, WC)
    processes = linux.processes
    assert processes.mremap(1, 0, 4, 5, None) == processes.mremap(1, 0, 4, 5, 20) == errno.EFAULT
    assert processes.mremap(1, 0, 4, 0, None) == errno.EINVAL
    assert processes.mremap(1, 0, 4, 3, None) == 0
    assert processes.mremap(1, 0, 3, 2, 20) == 0
    assert processes.mremap(1, 0, 3, 2, 30) == errno.EFAULT
    assert linux.user_page_table(1, 20, 3) == (WC, WC, None)
    assert linux.user_page_table(1, 0, 4) == (None,) * 4
    processes.exit(1)
    assert entries(linux) == []


@pytest.mark.parametrize("version", ALL)
def test_vmap_has_any_type(version: Version) -> None:
    linux = kernel(version)
    assert linux.set_memory(0, RAM, 2, UC_MINUS) == Answer(0, (UC_MINUS, UC_MINUS))
    assert linux.vmap(1, RAM, 2, WC) == Answer(0, (WC, WC))
    linux.release(1)
    assert linux.mmap(1, 0, RAM, 2, WC) == Answer(0, (UC_MINUS, UC_MINUS))


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("via", ["insert_page", "insert_pages", "remap_vmalloc"])
def test_struct_pages_have_any_type(version: Version, via: str) -> None:
    linux = kernel(version)
    assert linux.set_memory(0, RAM, 2, UC_MINUS) == Answer(0, (UC_MINUS, UC_MINUS))
    assert linux.mmap(1, 0, RAM, 2, WC, via=via) == Answer(0, (WC, WC))
    assert linux.mmap(1, 4, BAR, 2, WC, via=via) == Answer(errno.EINVAL)
    assert linux.mmap(1, 8, RAM, 2, WC) == Answer(0, (UC_MINUS, UC_MINUS))
    linux.processes.zap("driver", RAM, RAM + 1)
    assert linux.user_page_table(1, 0, 2) == (None, WC)


@pytest.mark.parametrize("version", ALL)
def test_inserted_pages_are_invisible(version: Version) -> None:
    """Bugs 7.5: a UC- page inserted, then the whole mapped WC."""
    linux = kernel(version)
    assert linux.mmap(1, 0, BAR, 2, WC, via="insert_pfn") == Answer(0, (None, None))
    assert linux.mmap(1, 4, BAR, 2, WC, via="insert_pfn", private=True) == Answer(errno.EINVAL)
    assert linux.processes.access(1, 0, write=False) == 0
    assert entries(linux) == []
    assert linux.mmap(1, 8, BAR, 2, WC) == Answer(0, (WC, WC))
    linux.processes.access(1, 1, write=True)
    assert linux.user_page_table(1, 0, 2) == (UC_MINUS, WC)
    linux.processes.zap("driver", BAR, BAR + 2)
    assert linux.processes.access(1, 0, write=True) == 0
    assert linux.processes.access(1, 8, write=True) == 7


@pytest.mark.parametrize("version", ALL)
def test_a_part_is_looked_up(version: Version) -> None:
    linux = kernel(version)
    assert linux.mmap(1, 0, BAR, 4, WC, part=(1, 2)) == Answer(0, (None, UC_MINUS, UC_MINUS, None))
    assert entries(linux) == []
    linux.ioremap(1, BAR + 2, 1, WT)
    assert linux.mmap(1, 8, BAR, 4, WC, part=(1, 2)) == Answer(errno.EINVAL)
    assert linux.mmap(1, 8, BAR, 4, WC, part=(2, 1)) == Answer(0, (None, None, WT, None))
    assert linux.mmap(1, 16, BAR, 4, WC, part=(2, 1), private=True) == Answer(errno.EINVAL)


@pytest.mark.parametrize("version", ALL)
def test_reserve_wc_and_set_pages_array(version: Version) -> None:
    """Kernel rules 2.4."""
    linux = kernel(version, write_back=True)
    assert linux.reserve_wc(1, BAR, 2) == Answer(0)
    assert entries(linux) == [(0, 2, WC)]
    assert linux.ioremap(2, BAR + 2, 1, WB) == Answer(0, (WB,))
    assert linux.reserve_wc(3, BAR + 2, 1) == linux.reserve_wc(3, BAR + 1, 2) == Answer(errno.EBUSY)
    linux.ioremap(4, BAR + 4, 1, UC_MINUS)
    assert linux.reserve_wc(5, BAR + 4, 1) == Answer(0)
    assert linux.set_pages_array(6, RAM, 2, WC) == Answer(0, (WC, WC))
    assert linux.set_pages_array(7, RAM + 1, 2, WC) == Answer(errno.EINVAL)
    linux.release(6)
    assert linux.kernel_page_table(4) == (UC_MINUS,)
    assert linux.memremap(8, RAM, 2, WB) == Answer(0, (WB, WB))


@pytest.mark.parametrize("version", ALL)
def test_mremap_of_several(version: Version) -> None:
    """From 6.17 on all are moved, before the tail went before the error."""
    linux = kernel(version)
    linux.mmap(1, 0, BAR, 6, WC)
    processes = linux.processes
    processes.munmap(1, 2, 3)
    several = version >= (6, 17, 0)
    assert processes.mremap(1, 0, 5, 5, None) == 0
    assert processes.mremap(1, 0, 6, 5, 20) == errno.EFAULT
    assert linux.user_page_table(1, 4, 2) == (WC, WC if several else None)
    assert processes.mremap(1, 0, 5, 5, 20) == (0 if several else errno.EFAULT)
    assert linux.user_page_table(1, 20, 5) == ((WC, WC, None, WC, WC) if several else (None,) * 5)
    assert processes.mremap(1, 2, 2, 2, 30) == errno.EFAULT
    assert processes.mremap(1, 40, 2, 1, None) == (0 if version is BULLSEYE else errno.EFAULT)


@pytest.mark.parametrize(("version", "memtype"), [(BULLSEYE, UC), (BOOKWORM, UC), (TRIXIE, UC), (NEWEST, WC)])
def test_writecombine_of_noncached(version: Version, memtype: MemType) -> None:
    """Kernel rules, version differences."""
    linux = kernel(version)
    answer = linux.mmap(1, 0x1000, BAR, 2, WC, via="noncached_writecombine")
    assert answer == Answer(0, (memtype,) * 2)
    assert entries(linux) == [(0, 2, memtype)]


def test_what_changed_between_versions() -> None:
    topics = {row.topic for row in changed((6, 12, 117), (6, 16, 3))}
    assert {Topic.USER_RESERVATION, Topic.FREE} <= topics
    assert Topic.NO_MTRR not in topics
    assert [row.topic for row in changed(BOOKWORM, (6, 12, 43))] == [Topic.HUGE_PFNMAP, Topic.NO_MTRR]
    assert changed(TRIXIE, TRIXIE) == []


def test_write_back_without_mtrrs() -> None:
    """90b926e68f50 let it through in 6.1.7, f9f57da2c2d1 took that back in 6.1.33."""
    topic = Topic.NO_MTRR_WRITE_BACK
    given = {(6, 1, 6): "UC-", (6, 1, 7): "WB", (6, 1, 32): "WB", (6, 1, 33): "UC-", (6, 2, 0): "UC-"}
    given |= {(5, 18, 19): "WB", (6, 0, 19): "UC-", TRIXIE: "UC-"}
    assert {version: behaviours(version)[topic].value for version in given} == given
    (row,) = [each for each in changed((6, 1, 6), (6, 1, 8)) if each.topic is topic]
    assert row.since == ((6, 1, 7),)


@pytest.mark.parametrize("version", ALL)
def test_mprotect_splits_only_what_it_changes(version: Version) -> None:
    linux = kernel(version)
    linux.mmap(1, 0, BAR, 7, UC, protection="r")
    linux.processes.mprotect(1, 4, 7, "w")
    linux.processes.mprotect(1, 1, 5, "w")
    assert [(vma.first, vma.end) for vma in linux.processes.vmas[1]] == [(0, 1), (4, 7), (1, 4)]
