"""The RAM of a stopped guest, read as page tables need it: whole frames, many at once.

A frame is 4 KiB, and its number the guest-physical address shifted right by 12.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_memtype.errors import UsageError
from pytest_memtype.machine.hardware import RamRange as RamRange

Frames: TypeAlias = NDArray[np.uint64]
Entries: TypeAlias = NDArray[np.uint64]
Booleans: TypeAlias = NDArray[np.bool_]

FRAME = 4096
ENTRIES = 512

#: Frames read at once where only a word of each is wanted.
_PIECE: Final = 256


class Ram(Protocol):
    """The RAM of a guest, as a walk reads it."""

    @property
    def frames(self) -> int:
        """The number of the highest frame of RAM, plus one."""

    def holds(self, frames: Frames) -> Booleans:
        """Tell which of these frames are RAM."""

    def read(self, frames: Frames) -> Entries:
        """The contents of frames that are all RAM: an array of ``(len(frames), 512)``, little-endian."""

    def column(self, frames: Frames, slot: int) -> Entries:
        """The entry in one slot (0 to 511) of each of these frames, which are all RAM and ascending."""


class RamFile:
    """RAM in a file, as a template keeps it.

    :param file: The file, which is mapped and never written.
    :param ranges: Where RAM is in the file; None when offset and guest-physical address are the same (see
        ``Hardware.ram``).
    :raises UsageError: the file is too short for that, or can't be read.
    """

    def __init__(self, file: Path, ranges: Sequence[RamRange] | None = None) -> None:
        try:
            size = file.stat().st_size // FRAME * FRAME
            whole = np.memmap(file, "<u8", "r", shape=(size // FRAME, ENTRIES)) if size else None
        except (OSError, ValueError) as error:
            raise UsageError(f"{file}: the guest's RAM can't be read: {error}") from None
        if whole is None:
            raise UsageError(f"{file}: this is no guest's RAM: it has less than a page")
        # A plain array is quicker to take rows of.
        self._whole: Entries = np.asarray(whole)
        self._places = _Places([RamRange(0, size, 0)] if ranges is None else ranges)
        if self._places.end_of_offsets > size:
            raise UsageError(f"{file} has {size} bytes, and RAM should go to {self._places.end_of_offsets}")

    @property
    def frames(self) -> int:
        return self._places.frames

    def holds(self, frames: Frames) -> Booleans:
        return self._places.holds(frames)

    def read(self, frames: Frames) -> Entries:
        entries: Entries = self._whole[self._places.offsets(frames) // FRAME]
        return entries

    def column(self, frames: Frames, slot: int) -> Entries:
        # Only these words are touched, and not all of RAM copied.
        entries: Entries = self._whole[self._places.offsets(frames) // FRAME, slot]
        return entries


class ProcessRam:
    """RAM in the memory of a QEMU: the pages that a clone has written are its own, and no file has them.

    :param pid: QEMU's process id; the caller has stopped its guest.
    :param ranges: Where RAM is; offsets are addresses in that process.
    :raises UsageError: this host doesn't let a process look into that one.
    """

    def __init__(self, pid: int, ranges: Sequence[RamRange]) -> None:
        try:
            self._file = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(
                f"the memory of process {pid} can't be read: {error.strerror}; be root, or its owner with "
                "the sysctl kernel.yama.ptrace_scope at 0"
            ) from None
        self._places = _Places(ranges)

    @property
    def frames(self) -> int:
        return self._places.frames

    def holds(self, frames: Frames) -> Booleans:
        return self._places.holds(frames)

    def read(self, frames: Frames) -> Entries:
        entries = np.empty((len(frames), ENTRIES), "<u8")
        offsets = self._places.offsets(frames)
        # Neighbours in one call: tables were often allocated in a row.
        breaks = np.flatnonzero(np.diff(offsets) != FRAME) + 1
        bounds = [0, *breaks.tolist(), len(frames)]
        for first, last in itertools.pairwise(bounds):
            if first == last:
                continue
            wanted = (last - first) * FRAME
            try:
                got = os.preadv(self._file, [entries[first:last].data], int(offsets[first]))
            except OSError:
                # EIO where the process is about to go (Linux, mm/memory.c, access_remote_vm).
                got = 0
            if got != wanted:
                raise UsageError("the guest's memory went away while it was read")
        return entries

    def column(self, frames: Frames, slot: int) -> Entries:
        entries = np.empty(len(frames), "<u8")
        # A little at a time: what is copied stays in the cache, and the buffer's pages are used again.
        for first in range(0, len(frames), _PIECE):
            entries[first : first + _PIECE] = self.read(frames[first : first + _PIECE])[:, slot]
        return entries

    def close(self) -> None:
        """Close the memory of the process. Calling this again does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class _Places:
    def __init__(self, ranges: Sequence[RamRange]) -> None:
        for each in ranges:
            if each.start % FRAME or each.size % FRAME or each.offset % FRAME:
                raise UsageError(f"RAM at {each.start:#x}, {each.size:#x} bytes, isn't whole pages")
        self._ranges = sorted(ranges, key=lambda each: each.start)
        self.frames = max((each.start + each.size for each in ranges), default=0) // FRAME
        self.end_of_offsets = max((each.offset + each.size for each in ranges), default=0)

    def holds(self, frames: Frames) -> Booleans:
        held = np.zeros(frames.shape, np.bool_)
        for each in self._ranges:
            held |= frames - np.uint64(each.start // FRAME) < np.uint64(each.size // FRAME)
        return held

    def offsets(self, frames: Frames) -> NDArray[np.int64]:
        if len(self._ranges) == 1:
            (only,) = self._ranges
            return frames.astype(np.int64) * FRAME + (only.offset - only.start)
        starts = np.array([each.start // FRAME for each in self._ranges], np.uint64)
        shifts = np.array([each.offset - each.start for each in self._ranges], np.int64)
        return frames.astype(np.int64) * FRAME + shifts[np.searchsorted(starts, frames, "right") - 1]
