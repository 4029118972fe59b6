"""The evidence of failed tests, copied into the site: regular files of a bounded size, as plain text."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_memtype.errors import harmless

LARGEST: Final = 1 << 20
"""Bytes of a file that are copied, of its end: there stands what went wrong last."""

_MOST_FILES: Final = 64
_MOST_OF_RUN: Final = 64 << 20
_DEPTH: Final = 3
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=-]{0,99}")
_EXCERPT_LINES: Final = 40
_EXCERPT: Final = 8 << 10


@dataclass
class Copied:
    """The evidence of one test.

    :ivar links: Pairs of a file's name in the test's folder and its address from the page.
    :ivar consoles: The last lines of each guest's console, by the name of the guest's folder.
    :ivar left_out: Why not all is there; empty if it is.
    """

    links: list[tuple[str, str]]
    consoles: list[tuple[str, str]]
    left_out: str = ""


class Evidence:
    """The evidence of a run.

    :param folder: The site's folder for it; made when there is any.
    :param address: The address of that folder from the page.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address = folder, address
        self._room = _MOST_OF_RUN
        self._count = 0

    def copy(self, test: Path) -> Copied:
        """Copy the evidence of a test.

        :param test: The test's folder in the run's.
        """
        copied = Copied([], [])
        # os.walk() enters a link that it is given.
        names = [] if test.is_symlink() else _files(test)
        number, self._count = self._count, self._count + bool(names)
        for name in names[:_MOST_FILES]:
            with contextlib.suppress(OSError):
                data, cut = _end_of(test / name)
                if len(data) > self._room:
                    copied.left_out = (
                        f"the report has {_MOST_OF_RUN >> 20} MiB of evidence; the rest is in {test}"
                    )
                    break
                self._room -= len(data)
                # A browser takes a file of this name for plain text, whatever it begins with.
                target = self._folder / str(number) / f"{name}.txt"
                target.parent.mkdir(parents=True, exist_ok=True)
                note = f"[the first {cut} bytes are left out]\n".encode() if cut else b""
                target.write_bytes(note + data)
                copied.links.append((str(name), f"{self._address}/{number}/{name}.txt"))
                if name.name == "console.log":
                    copied.consoles.append((str(name.parent), _excerpt(data)))
        if len(names) > _MOST_FILES:
            copied.left_out = f"{len(names) - _MOST_FILES} more files are in {test}"
        return copied


def _files(folder: Path) -> list[Path]:
    """The files below a folder, as paths from there; neither links nor what has a strange name."""
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        here = Path(place).relative_to(folder)
        folders[:] = sorted(each for each in folders if _NAME.fullmatch(each))
        if len(here.parts) >= _DEPTH:
            folders.clear()
        found += [here / each for each in sorted(files) if _NAME.fullmatch(each)]
    return found


def _end_of(path: Path) -> tuple[bytes, int]:
    """The end of a regular file, and how many bytes stand before it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("no regular file")
        cut = max(0, status.st_size - LARGEST)
        file.seek(cut)
        return file.read(LARGEST), cut


def _excerpt(data: bytes) -> str:
    lines = data[-_EXCERPT:].decode(errors="replace").replace("\r\n", "\n").split("\n")[-_EXCERPT_LINES:]
    return harmless("\n".join(lines))
