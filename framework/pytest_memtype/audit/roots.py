"""The roots of page tables: those in CR3, and those of every process that doesn't run at this moment.

All processes of Linux share the kernel's half of the address space, entry by entry, so a page whose second
half is like that of a root that is known is a root too. A page that was a root can be found as well: that of
an exiting process, but only with its user half empty, since Linux clears that before it frees the page
(free_pgd_range()). Under page-table isolation a root has a twin in the next frame, which user mode runs on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from pytest_memtype.audit.ram import ENTRIES, Booleans, Entries, Frames, Ram
from pytest_memtype.audit.walk import most_roots
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal

#: The accessed and dirty bits: the processor may set them in one root and not in another.
_CHANGING: Final = np.uint64(1 << 5 | 1 << 6)
#: In the kernel's copy of a user entry, page-table isolation forbids execution (arch/x86/mm/pti.c,
#: __pti_set_user_pgtbl, 4.15).
_NX: Final = np.uint64(1 << 63)
_HALF: Final = ENTRIES // 2
#: The slot that is each process's own even in the kernel's half: the LDT's place under page-table isolation
#: (arch/x86/include/asm/pgtable_64_types.h, LDT_PGD_ENTRY, 4.15).
_LDT: Final = 272

#: Frames looked at at once.
_CHUNK: Final = 1 << 14
#: Frames read whole at once: 2 MiB.
_READ: Final = 512


@shown_in_hexadecimal("frame")
@dataclass(frozen=True)
class Root:
    """An address space, by its highest page table.

    :param frame: Frame number of that table.
    :param cpus: Numbers of the CPUs that have it in CR3.
    :param pti_user_half: Is it the half that user mode runs on under page-table isolation?
    :param process: (pid, name) of the process; None where the guest doesn't say.
    """

    frame: int
    cpus: tuple[int, ...] = ()
    pti_user_half: bool = False
    process: tuple[int, str] | None = field(default=None, compare=False)


def loaded_roots(cr3s: Mapping[int, int]) -> tuple[Root, ...]:
    """The roots that CPUs have in CR3, by frame number.

    :param cr3s: CR3 of each CPU, by the CPU's number.
    """
    # Bits 11 to 0 are a PCID or caching bits, those from 52 on no address.
    frames = {cpu: (cr3 & ((1 << 52) - 1)) >> 12 for cpu, cr3 in cr3s.items()}
    return tuple(
        Root(frame, cpus=tuple(cpu for cpu, each in frames.items() if each == frame))
        for frame in sorted(set(frames.values()))
    )


def roots_from_guest(
    ram: Ram, loaded: Iterable[Root], spaces: Mapping[int, tuple[int, str]]
) -> tuple[Root, ...]:
    """The roots that are loaded, and those that the guest says are processes', with their twins.

    A page that doesn't share the kernel's half is no root any more: the process ended after the guest had
    been asked.

    :param ram: The guest's RAM.
    :param loaded: The roots that CPUs have in CR3.
    :param spaces: Guest-physical address of the highest table to (pid, name).
    """
    found = _with_partners(ram, loaded)
    pattern = _kernel_half(ram, found)
    frames = np.array(sorted(address >> 12 for address in spaces)[: most_roots(ram) + 1], np.uint64)
    frames = frames[ram.holds(frames)]
    if pattern is not None and len(frames):
        same = [_share(ram, frames[start : start + _READ], pattern) for start in range(0, len(frames), _READ)]
        frames = frames[np.concatenate(same)]
    for frame in frames.tolist():
        known = found.get(frame)
        found[frame] = Root(frame, cpus=known.cpus if known else (), process=spaces[frame << 12])
    return _with_twins(ram, found)


def find_roots(ram: Ram, known: Iterable[Root]) -> tuple[Root, ...]:
    """Find the roots that are known, and all others in RAM that share the kernel's half with them.

    It reads all of RAM, or until there are more roots than a walk would take.
    """
    found = _with_partners(ram, known)
    pattern = _kernel_half(ram, found)
    if pattern is not None:
        # One more than are walked, so that the walk says that there are more.
        for frame in itertools.islice(_alike(ram, pattern), most_roots(ram) + 1):
            found.setdefault(frame, Root(frame))
    return _with_twins(ram, found)


def still_roots(ram: Ram, loaded: Iterable[Root], likely: Iterable[Root]) -> tuple[Root, ...]:
    """The roots that are loaded, and those found while the guest ran that still are roots."""
    found = _with_partners(ram, loaded)
    pattern = _kernel_half(ram, found)
    # Twins have little of the kernel's half; they come with their partners.
    frames = np.array(sorted(root.frame for root in likely if not root.pti_user_half), np.uint64)
    frames = frames[ram.holds(frames)]
    if pattern is not None:
        for start in range(0, len(frames), _READ):
            some = frames[start : start + _READ]
            for frame in some[_share(ram, some, pattern)].tolist():
                found.setdefault(frame, Root(frame))
    return _with_twins(ram, found)


def _with_twins(ram: Ram, found: dict[int, Root]) -> tuple[Root, ...]:
    for frame in _twins(ram, sorted(found)):
        known, other = found.get(frame), found.get(frame - 1)
        found[frame] = Root(
            frame,
            cpus=known.cpus if known else (),
            pti_user_half=True,
            process=other.process if other else None,
        )
    return tuple(found[frame] for frame in sorted(found))


def _kernel_half(ram: Ram, known: Iterable[int]) -> Entries | None:
    """The kernel's half of the known root that has most of it; None when there is too little to compare.

    CR3 of a CPU in user mode may hold a twin, which has little of the kernel.
    """
    frames = np.array(sorted(known), np.uint64)
    frames = frames[ram.holds(frames)]
    if not len(frames):
        return None
    fullest: Entries = np.zeros(_HALF, np.uint64)
    for start in range(0, len(frames), _READ):
        halves = ram.read(frames[start : start + _READ])[:, _HALF:] & ~_CHANGING
        best = halves[np.argmax(np.count_nonzero(halves, axis=1))]
        if np.count_nonzero(best) > np.count_nonzero(fullest):
            fullest = best
    # One entry alone would match too much.
    return fullest if np.count_nonzero(fullest) > 1 else None


def _with_partners(ram: Ram, loaded: Iterable[Root]) -> dict[int, Root]:
    """The loaded roots by frame number. A twin that is loaded brings the root that it is the twin of."""
    found = {root.frame: root for root in loaded}
    for pti_user_half in _twins(ram, [frame - 1 for frame in found if frame % 2]):
        found.setdefault(pti_user_half - 1, Root(pti_user_half - 1))
    return found


def _alike(ram: Ram, pattern: Entries) -> Iterator[int]:
    used = np.flatnonzero(pattern)
    used = used[used != _LDT - _HALF]
    last = used[-1]
    for first in range(0, ram.frames, _CHUNK):
        frames: Frames = np.arange(first, min(first + _CHUNK, ram.frames), dtype=np.uint64)
        frames = frames[ram.holds(frames)]
        column = ram.column(frames, _HALF + int(last))
        likely = frames[column & ~_CHANGING == pattern[last]]
        if not len(likely):
            continue
        for start in range(0, len(likely), _READ):
            some = likely[start : start + _READ]
            yield from some[_share(ram, some, pattern)].tolist()


def _share(ram: Ram, frames: Frames, pattern: Entries) -> Booleans:
    """Tell which of these frames have the kernel's half."""
    used = np.flatnonzero(pattern)
    used = used[used != _LDT - _HALF]
    halves = ram.read(frames)[:, _HALF:][:, used] & ~_CHANGING
    # What the kernel maps late may be missing in a root that has not been used since.
    same: Booleans = ((halves == pattern[used]) | (halves == 0)).all(axis=1)
    enough: Booleans = np.count_nonzero(halves, axis=1) * 2 > len(used)
    return same & enough


def _twins(ram: Ram, roots: list[int]) -> list[int]:
    """The frames of the user halves beside roots, which are pairs under page-table isolation."""
    pairs = np.array([root for root in roots if root % 2 == 0], np.uint64)
    pairs = pairs[ram.holds(pairs) & ram.holds(pairs + np.uint64(1))]
    return [
        pti_user_half
        for start in range(0, len(pairs), _READ)
        for pti_user_half in _twins_of(ram, pairs[start : start + _READ])
    ]


def _twins_of(ram: Ram, pairs: Frames) -> list[int]:
    ignored = ~(_CHANGING | _NX)
    kernel = ram.read(pairs)[:, :_HALF] & ignored
    user = ram.read(pairs + np.uint64(1))[:, :_HALF] & ignored
    alike = (kernel == user).all(axis=1) & (np.count_nonzero(kernel, axis=1) > 0)
    twins: list[int] = (pairs[alike] + np.uint64(1)).tolist()
    return twins
