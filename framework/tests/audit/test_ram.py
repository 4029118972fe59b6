"""RAM as a file and as a process's memory has it, with a hole below 4 GiB."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

import numpy as np
import pytest

from pytest_memtype.audit.ram import FRAME, ProcessRam, Ram, RamFile, RamRange
from pytest_memtype.errors import UsageError

FRAMES = 6
#: Three frames from address 0 on, three from 16 frames on.
RANGES = (RamRange(0, 3 * FRAME, 0), RamRange(16 * FRAME, 3 * FRAME, 3 * FRAME))


def contents() -> bytes:
    """Each word is 1000 times its frame in the file and its slot."""
    return b"".join(
        (1000 * frame + slot).to_bytes(8, "little") for frame in range(FRAMES) for slot in range(512)
    )


def check(ram: Ram) -> None:
    assert ram.frames == 19
    asked = np.array([0, 2, 3, 15, 16, 18, 19, 1 << 50], np.uint64)
    assert ram.holds(asked).tolist() == [True, True, False, False, True, True, False, False]
    frames = np.array([1, 2, 16, 18], np.uint64)
    words = ram.read(frames)
    assert words.shape == (4, 512)
    assert words[:, 7].tolist() == [1007, 2007, 3007, 5007]
    assert ram.column(frames, 511).tolist() == [1511, 2511, 3511, 5511]
    assert ram.read(np.empty(0, np.uint64)).shape == (0, 512)


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ram"
    file.write_bytes(contents())
    check(RamFile(file, RANGES))
    assert RamFile(file).frames == FRAMES


def test_the_memory_of_a_process() -> None:
    buffer = ctypes.create_string_buffer(contents(), FRAMES * FRAME + FRAME)
    # Offsets must be whole pages: the buffer's contents begin anywhere, so they are moved to one.
    start = -(-ctypes.addressof(buffer) // FRAME) * FRAME
    ctypes.memmove(start, contents(), FRAMES * FRAME)
    ranges = [RamRange(each.start, each.size, start + each.offset) for each in RANGES]
    with contextlib.closing(ProcessRam(os.getpid(), ranges)) as ram:
        check(ram)
        ram.close()


@pytest.mark.parametrize("size", [0, 100])
def test_a_file_of_less_than_a_page(tmp_path: Path, size: int) -> None:
    file = tmp_path / "ram"
    file.write_bytes(bytes(size))
    with pytest.raises(UsageError, match="less than a page"):
        RamFile(file)


def test_a_file_that_is_too_short_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "ram"
    file.write_bytes(bytes(5 * FRAME))
    with pytest.raises(UsageError, match=f"has {5 * FRAME} bytes, and RAM should go to {6 * FRAME}"):
        RamFile(file, RANGES)
    with pytest.raises(UsageError, match="can't be read"):
        RamFile(tmp_path / "nowhere")


def test_memory_that_is_gone() -> None:
    # Nothing is mapped at address 0.
    with (
        contextlib.closing(ProcessRam(os.getpid(), [RamRange(0, FRAME, 0)])) as ram,
        pytest.raises(UsageError, match="went away"),
    ):
        ram.read(np.zeros(1, np.uint64))
    with pytest.raises(UsageError, match="can't be read"):
        ProcessRam(1 << 30, [])
    with pytest.raises(UsageError, match="isn't whole pages"):
        ProcessRam(os.getpid(), [RamRange(1, FRAME, 0)])
