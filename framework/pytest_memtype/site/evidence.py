"""The evidence of failed tests, copied into the site: regular files of a bounded size, as plain text."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from pytest_memtype.errors import harmless
from pytest_memtype.report.kept import KeptTest
from pytest_memtype.run.folder import test_folder

LARGEST: Final = 1 << 20
"""Bytes of a file that are copied, of its end: there stands what went wrong last."""

_MOST_FILES: Final = 64
_MOST_OF_RUN: Final = 64 << 20
_DEPTH: Final = 3
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=-]{0,99}")
# A plain name, so that nothing outside of the run's folder is read.
_FOLDER: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9_.=-]{1,200}")
_MOST_FOLDERS: Final = 8
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
        self._copied: dict[Path, Copied] = {}

    def copy(self, test: Path) -> Copied:
        """Copy the evidence in a folder; another time it is there already.

        :param test: The folder of a test, or of guests that tests share, in the run's.
        :raises OSError: the site can't be written.
        """
        if test not in self._copied:
            self._copied[test] = self._copy(test)
        return self._copied[test]

    def of_test(self, run: Path, test: KeptTest) -> Copied:
        """Copy the evidence of a test from its own folder, and from those that other tests use, too.

        :param run: The run's folder.
        :param test: The test, whose names of folders may be hostile.
        :raises OSError: the site can't be written.
        """
        own = self.copy(test_folder(run, test.test))
        copied, left = Copied([*own.links], [*own.consoles]), [own.left_out]
        for name in filter(_FOLDER.fullmatch, test.folders[:_MOST_FOLDERS]):
            other = self.copy(run / name)
            copied.links += [(f"{name}/{file}", address) for file, address in other.links]
            copied.consoles += [(str(PurePath(name, guest)), text) for guest, text in other.consoles]
            left.append(other.left_out)
        copied.left_out = "; ".join(filter(None, left))
        return copied

    def _copy(self, test: Path) -> Copied:
        copied, left = Copied([], []), []
        # os.walk() enters a link that it is given.
        names = [] if test.is_symlink() else _files(test)
        number, self._count = self._count, self._count + bool(names)
        unread = 0
        for name in names[:_MOST_FILES]:
            try:
                data, cut = _end_of(test / name)
            except OSError:
                unread += 1
                continue
            if len(data) > self._room:
                left.append(f"the report has {_MOST_OF_RUN >> 20} MiB of evidence; the rest is in {test}")
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
            left.append(f"{len(names) - _MOST_FILES} more files are in {test}")
        if unread:
            left.append(f"{unread} files of {test} can't be read, or are no plain files")
        copied.left_out = "; ".join(left)
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
