"""The differences between Linux' versions: a table, with the version and the source file of each row.

Versions are those of the kernel's own Makefile, ``(6, 1, 162)``. Debian's release names don't have the last
number before 6.12; ``/proc/version`` does.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Version: TypeAlias = tuple[int, int, int]


class Topic(enum.Enum):
    """The topics that Linux' versions differ in."""

    USER_RESERVATION = "who holds the reservation of a user mapping"
    FREE = "which reservation memtype_free() takes"
    FAILED_FORK = "what the half-made child of a fork() that failed gives back"
    MREMAP_NOTHING = "mremap() where nothing is mapped"
    MREMAP_SEVERAL = "mremap() of a range of more than one VMA to another address"
    WRITECOMBINE_OF_NONCACHED = "pgprot_writecombine(pgprot_noncached(prot))"
    NO_MTRR = "the PAT on a CPU without MTRRs"
    NO_MTRR_WRITE_BACK = "what a request for WB becomes on a CPU without MTRRs"
    HUGE_PFNMAP = "whether a fault on page frames may be answered with a large page"
    NOPAT_DSYNC = "/dev/mem with O_SYNC when the PAT is off"


class Behaviour(enum.Enum):
    """The behaviours of Linux' versions, grouped by topic."""

    EACH_VMA = "each VMA with VM_PAT, by its present size"
    SHARED = "one context, shared by all VMAs that became of the mapping"

    EXACT_OR_TAIL = "one of exactly that range, else the tail of one that ends there"
    EXACT = "one of exactly that range"

    PARENTS = "the parent's reservation too"
    ITS_OWN = "its own reservations only"

    SHRUNK = "shrunk all the same, which is success in place"
    REFUSED = "EFAULT, and nothing has changed"

    UNCHECKED = "what is to go is unmapped first, then a move is EFAULT"
    MOVED = "moved, gaps and all, when nothing is to go; else EFAULT, and nothing has changed"

    ORED = "UC: the bits of both"
    REPLACED = "WC: the last word"

    PAT_OFF = "off"
    PAT_CLAIMED = "called on, but the register keeps what it had at reset"
    PAT_ON = "on"

    SMALL = "4 KiB, whatever the driver has"
    LARGE = "2 MiB by huge_fault()"

    WRITE_BACK = "WB"
    UNCACHED_MINUS = "UC-"


@dataclass(frozen=True)
class Row:
    """A behaviour, and the versions that have it.

    :param since: The first version of each series that has it; the highest is mainline's, and holds for
        all that came later.
    :param source: Where it is in the kernel's source.
    """

    topic: Topic
    behaviour: Behaviour
    since: tuple[Version, ...]
    source: str

    def holds(self, version: Version) -> bool:
        return reached(self.since, version)


def reached(since: Collection[Version], version: Version) -> bool:
    """Does a version have a change, by the first version of each series that has it?

    :param since: Those first versions; the highest is mainline's, and holds for all that came later.
    :param version: The version in question.
    """
    return any(version >= first and (version[:2] == first[:2] or first == max(since)) for first in since)


_ALWAYS: tuple[Version, ...] = ((0, 0, 0),)
_PAT = "arch/x86/mm/pat/memtype.c"

TABLE = (
    Row(Topic.USER_RESERVATION, Behaviour.EACH_VMA, _ALWAYS, f"{_PAT}, untrack_pfn()"),
    # "mm: rewrite pfnmap tracking and remove VM_PAT", 6.16-rc1.
    Row(Topic.USER_RESERVATION, Behaviour.SHARED, ((6, 16, 0),), "mm/memory.c, pfnmap_track_ctx_alloc()"),
    Row(Topic.FREE, Behaviour.EXACT_OR_TAIL, _ALWAYS, "arch/x86/mm/pat/memtype_interval.c, memtype_erase()"),
    # "x86/mm/pat: remove MEMTYPE_*_MATCH", the same series.
    Row(Topic.FREE, Behaviour.EXACT, ((6, 16, 0),), "arch/x86/mm/pat/memtype_interval.c, memtype_erase()"),
    Row(Topic.FAILED_FORK, Behaviour.PARENTS, _ALWAYS, f"{_PAT}, track_pfn_copy()"),
    # dc84bc2aba85 "x86/mm/pat: Fix VM_PAT handling when fork() fails in copy_page_range()", 6.15-rc1.
    Row(
        Topic.FAILED_FORK,
        Behaviour.ITS_OWN,
        ((6, 1, 162), (6, 12, 25), (6, 15, 0)),
        f"{_PAT}, track_pfn_copy() and untrack_pfn_copy()",
    ),
    Row(Topic.MREMAP_NOTHING, Behaviour.SHRUNK, _ALWAYS, "mm/mremap.c, mremap()"),
    # 550a7d60bd5e "mm, hugepages: add mremap() support for hugepage backed vma", 5.16-rc1, looks first.
    Row(Topic.MREMAP_NOTHING, Behaviour.REFUSED, ((5, 16, 0),), "mm/mremap.c, mremap()"),
    Row(Topic.MREMAP_SEVERAL, Behaviour.UNCHECKED, _ALWAYS, "mm/mremap.c, vma_to_resize()"),
    # d23cb648e365 "mm/mremap: permit mremap() move of multiple VMAs", 6.17-rc1.
    Row(Topic.MREMAP_SEVERAL, Behaviour.MOVED, ((6, 17, 0),), "mm/mremap.c, check_prep_vma(), remap_move()"),
    Row(Topic.WRITECOMBINE_OF_NONCACHED, Behaviour.ORED, _ALWAYS, f"{_PAT}, pgprot_writecombine()"),
    # Seen with 6.12.95 and 7.3.4; in which version in between isn't known better than 6.16.
    Row(Topic.WRITECOMBINE_OF_NONCACHED, Behaviour.REPLACED, ((6, 16, 0),), f"{_PAT}, pgprot_writecombine()"),
    Row(Topic.HUGE_PFNMAP, Behaviour.SMALL, _ALWAYS, "mm/huge_memory.c, hugepage_vma_check()"),
    # Drivers with huge_fault() are asked from 6.6 or 6.7 on; seen with 6.12 and 7.3, and not with 6.1.
    Row(Topic.HUGE_PFNMAP, Behaviour.LARGE, ((6, 6, 0),), "mm/huge_memory.c, thp_vma_allowable_orders()"),
    # "MTRRs disabled, skipping PAT initialization too."
    Row(Topic.NO_MTRR, Behaviour.PAT_OFF, _ALWAYS, "arch/x86/kernel/cpu/mtrr/mtrr.c, mtrr_bp_init()"),
    # 72cbc8f04fe2 "x86/PAT: Have pat_enabled() properly reflect state when running on Xen", 5.19.
    Row(Topic.NO_MTRR, Behaviour.PAT_CLAIMED, ((5, 19, 0),), f"{_PAT}, init_cache_modes()"),
    # The PAT was untied from the MTRRs in 6.2; seen with 6.12.
    Row(Topic.NO_MTRR, Behaviour.PAT_ON, ((6, 2, 0),), "arch/x86/kernel/cpu/cacheinfo.c, cache_bp_init()"),
    Row(Topic.NO_MTRR_WRITE_BACK, Behaviour.WRITE_BACK, _ALWAYS, f"{_PAT}, pat_x_mtrr_type()"),
    # Where the PAT is called on without MTRRs, nothing says that the memory may be cached.
    Row(Topic.NO_MTRR_WRITE_BACK, Behaviour.UNCACHED_MINUS, ((5, 19, 0),), f"{_PAT}, pat_x_mtrr_type()"),
    # 90b926e68f50 "x86/pat: Fix pat_x_mtrr_type() for MTRR disabled case", 6.2-rc4 and 6.1.7 ...
    Row(Topic.NO_MTRR_WRITE_BACK, Behaviour.WRITE_BACK, ((6, 1, 7),), f"{_PAT}, pat_x_mtrr_type()"),
    # ... until f9f57da2c2d1 "x86/mtrr: Revert 90b926e68f50", before 6.2 and in 6.1.33.
    Row(
        Topic.NO_MTRR_WRITE_BACK,
        Behaviour.UNCACHED_MINUS,
        ((6, 1, 33), (6, 2, 0)),
        f"{_PAT}, pat_x_mtrr_type()",
    ),
    Row(Topic.NOPAT_DSYNC, Behaviour.UNCACHED_MINUS, _ALWAYS, f"{_PAT}, phys_mem_access_prot_allowed()"),
    # 1b3f2bd04d90 "x86/devmem: Remove duplicate range_is_allowed() definition"; no report is known.
    Row(Topic.NOPAT_DSYNC, Behaviour.WRITE_BACK, ((6, 16, 0),), f"{_PAT}, phys_mem_access_prot_allowed()"),
)
"""Within a topic a later row replaces the earlier ones."""


def _rows(version: Version) -> Mapping[Topic, Row]:
    return {row.topic: row for row in TABLE if row.holds(version)}


def behaviours(version: Version) -> Mapping[Topic, Behaviour]:
    """The behaviour of a version in each topic."""
    return {topic: row.behaviour for topic, row in _rows(version).items()}


def changed(older: Version, newer: Version) -> list[Row]:
    """The rows that hold for the newer version, where the older behaves otherwise."""
    before, after = behaviours(older), _rows(newer)
    return [row for row in after.values() if row.behaviour is not before[row.topic]]


# Behind "#": before it /proc/version has the compiler's version, "gcc (Debian 12.2.0-14+deb12u1)".
_OF_DEBIAN = re.compile(r"#\d+ .*\bDebian (\d+)\.(\d+)\.(\d+)-")
_PLAIN = re.compile(r"(?:Linux version )?(\d+)\.(\d+)(?:\.(\d+))?")


def parse_version(text: str) -> Version:
    """The version of a kernel, from its ``/proc/version``, its release, or its package's version.

    A release of Debian's lacks the last number, which ``/proc/version`` has further behind.

    :param text: A text that begins with the version, or with what ``/proc/version`` has before it.
    :raises ValueError: it doesn't.
    """
    match = _OF_DEBIAN.search(text) or _PLAIN.match(text)
    if match is None:
        raise ValueError(f"no kernel version in {text!r}")
    major, minor, patch = match.groups(default="0")
    return int(major), int(minor), int(patch)
