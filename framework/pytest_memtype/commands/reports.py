"""Reports that a user names: files, or the standard input."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from pytest_memtype.dumps.facts import Dump
from pytest_memtype.dumps.read import read
from pytest_memtype.dumps.text import MOST_BYTES
from pytest_memtype.errors import UsageError
from pytest_memtype.host.files import named_path, opened

_CUT_OUT: Final = (
    "cut out what is about memory types, and name that: grep -inE 'mtrr|PAT|memtype|ioremap|Linux version'"
)


def read_report(name: str) -> Dump:
    """What a report says.

    :param name: A file, or ``-`` for the standard input.
    :raises UsageError: it can't be read, is too large, or is no text.
    """
    data = report_bytes(name)
    where = "the standard input" if name == "-" else name
    if len(data) > MOST_BYTES:
        raise UsageError(f"{where}: is larger than the {MOST_BYTES >> 20} MiB of a report; {_CUT_OUT}")
    if not data.strip():
        raise UsageError(f"{where}: is empty; name a file with a kernel's log, /proc/mtrr, or a mail")
    # UTF-16 has a NUL in every other byte, and begins with its mark.
    if data[:2] not in (b"\xff\xfe", b"\xfe\xff") and data.count(0) * 4 > len(data):
        raise UsageError(f"{where}: is no text: {data.count(0)} of its {len(data)} bytes are NUL")
    return read(data)


def report_bytes(name: str) -> bytes:
    """The bytes of a report, of which one more than :data:`MOST_BYTES` at most.

    :param name: A file, or ``-`` for the standard input.
    :raises UsageError: it can't be read.
    """
    if name == "-":
        if sys.stdin.isatty():
            raise UsageError("nothing to read: name a file, or give a report to the standard input")
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    with opened(named_path(name, what="report")) as file:
        try:
            return file.read(MOST_BYTES + 1)
        except OSError as error:
            raise UsageError(f"{name}: can't be read ({error.strerror}); name another file") from None


def layout_name(name: str) -> str:
    """A name for the layout of a report, after its file."""
    found = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(name).name.split(".", 1)[0]).strip("-._")
    return found[:60] or "imported"
