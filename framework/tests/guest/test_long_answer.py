"""What the agent makes of answers and files that are longer than it has room for."""

from __future__ import annotations

import ctypes
import errno
import json
import subprocess
from pathlib import Path

import pytest
from memtype_support.verifier_library import make

LIMIT_SECONDS = 60

ROOM = 128 << 10
"""LARGEST_ANSWER of guests/agent/process.c."""

FILE = 8 << 20
"""LARGEST_FILE of guests/agent/file.c."""


@pytest.mark.parametrize("surplus", [1, 4096])
def test_an_answer_that_is_cut_is_an_error(tmp_path: Path, surplus: int) -> None:
    make("process", tmp_path)

    def relayed(length: int) -> str:
        command = [str(tmp_path / "process"), str(length)]
        return subprocess.check_output(command, text=True, timeout=LIMIT_SECONDS)

    assert relayed(ROOM) == "." * ROOM
    assert json.loads(relayed(ROOM + surplus)) == {
        "error": f"munmap: the answer of process X has {ROOM + surplus} bytes, more than {ROOM}"
    }


class Buffer(ctypes.Structure):
    """struct buffer of guests/agent/buffer.h."""

    _fields_ = (("data", ctypes.c_char_p), ("length", ctypes.c_size_t), ("capacity", ctypes.c_size_t))


@pytest.mark.parametrize("surplus", [0, 1])
def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path, surplus: int) -> None:
    """A list that is cut in silence would be one with fewer reservations."""
    make("file.so", tmp_path)
    path = tmp_path / "list"
    path.write_bytes(b"x" * (FILE + surplus))
    text = Buffer()
    error = ctypes.CDLL(str(tmp_path / "file.so")).file_read(bytes(path), ctypes.byref(text))
    assert (error, text.length) == ((-errno.EFBIG, 0) if surplus else (0, FILE))
