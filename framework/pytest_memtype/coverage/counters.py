"""Counters of GCOV, in the form of gcc's ``.gcda`` files, added to and taken from each other.

The form is that of gcc/gcov-io.h, as the kernel writes it (kernel/gcov/gcc_4_7.c). All files of one build
have the same words but for their counters, so that a sum is a sum of arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pytest_memtype.errors import UsageError

Words: TypeAlias = npt.NDArray[np.uint32]
Counts: TypeAlias = npt.NDArray[np.int64]

_MAGIC = 0x67636461
_TAG_FUNCTION = 0x01000000
_FIRST_COUNTER, _LAST_COUNTER = 0x01A10000, 0x01AF0000
_WORD = 4


@dataclass(frozen=True)
class Layout:
    """The parts that the files of one build have in common: all but the values of their counters.

    :param names: The names of the files.
    :param words: The words of all files, one after the other, with counters of 0.
    :param ends: For each file, the number of the word behind it.
    :param low: For each counter, the number of its lower word; the upper word follows.
    """

    names: tuple[str, ...]
    words: Words
    ends: tuple[int, ...]
    low: npt.NDArray[np.int64]

    def counts(self, names: tuple[str, ...], data: bytes) -> Counts:
        """The values of the counters in another reading of the same build.

        :param names: The names of its files.
        :param data: The contents of its files, one after the other.
        :raises UsageError: it is of another build.
        """
        words = _words(data)
        other = names != self.names or len(words) != len(self.words)
        if not other:
            rest = words.copy()
            rest[self.low] = rest[self.low + 1] = 0
            other = not np.array_equal(rest, self.words)
        if other:
            raise UsageError("these counters are of kernels that were built apart; name a run of one kernel")
        low, high = words[self.low].astype(np.uint64), words[self.low + 1].astype(np.uint64)
        # A counter that is negative has overflowed; none of ours does.
        found: Counts = (low | high << np.uint64(32)).astype(np.int64)
        return found

    def files(self, counts: Counts) -> Iterator[tuple[str, bytes]]:
        """The files with given values of their counters, each with its name.

        :param counts: The values.
        """
        words = self.words.copy()
        values = counts.astype(np.uint64)
        words[self.low] = (values & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        words[self.low + 1] = (values >> np.uint64(32)).astype(np.uint32)
        start = 0
        for name, end in zip(self.names, self.ends, strict=True):
            yield name, words[start:end].tobytes()
            start = end


def layout(names: tuple[str, ...], data: bytes) -> Layout:
    """Find the files and the counters in the contents of files.

    :param names: The names of the files.
    :param data: Their contents, one after the other.
    :raises UsageError: they aren't files of counters that gcc's programs write.
    """
    words = _words(data)
    ends: list[int] = []
    low: list[Any] = []
    place, unit = 0, _WORD
    while place < len(words):
        tag = int(words[place])
        if tag == _MAGIC:
            if place:
                ends.append(place)
            newest = _major(_word(words, place + 1)) >= 12
            # gcc 12 counts bytes instead of words, and has the checksum of the whole file in its head.
            unit = 1 if newest else _WORD
            place += 4 if newest else 3
            continue
        length = _word(words, place + 1) * unit // _WORD
        place += 2
        if place + length > len(words) or (
            tag != _TAG_FUNCTION and not _FIRST_COUNTER <= tag <= _LAST_COUNTER
        ):
            raise UsageError(f"these are no counters of gcc's: {tag:#x} is no tag of theirs")
        if tag != _TAG_FUNCTION:
            if length % 2:
                raise UsageError(f"these are no counters of gcc's: {length} words, and each takes two")
            low.append(np.arange(place, place + length, 2))
        place += length
    ends.append(place)
    if len(ends) != len(names):
        raise UsageError(f"these are no counters of gcc's: {len(ends)} files, and {len(names)} names")
    found = np.concatenate(low) if low else np.zeros(0, dtype=np.int64)
    empty = words.copy()
    empty[found] = empty[found + 1] = 0
    return Layout(names, empty, tuple(ends), found)


def _words(data: bytes) -> Words:
    if len(data) % _WORD:
        raise UsageError("these are no counters of gcc's: they end in the middle of a word")
    return np.frombuffer(data, dtype="<u4").astype(np.uint32)


def _word(words: Words, place: int) -> int:
    if place >= len(words):
        raise UsageError("these are no counters of gcc's: they are cut short")
    return int(words[place])


def _major(version: int) -> int:
    """The major number in the word for gcc's version: "B22*" is 12.2."""
    first, second = version >> 24, version >> 16 & 0xFF
    return (first - ord("A")) * 10 + second - ord("0") if first >= ord("A") else first - ord("0")
