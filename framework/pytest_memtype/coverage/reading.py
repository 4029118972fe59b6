"""Readings: the counters of one guest's kernel at one moment, as files in the folder of a run.

A clone starts with the counters of its template, which are those of its boot. So each template is read once,
by the first of its clones, and a test's own counters are those of its guest less those of the template.
"""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pytest_memtype.errors import UsageError
from pytest_memtype.host.files import read_file

FOLDER = "coverage"
"""The folder of a run that has its readings."""

# Bytes. A kernel of which everything is profiled has some 30 MiB of counters.
_LARGEST = 1 << 28


@dataclass(frozen=True)
class Reading:
    """The counters of a guest's kernel, or why there are none.

    :param test: The node id of the test whose guest it was; empty for a template.
    :param kernel: The spec of the guest's kernel.
    :param template: The template that the guest was cloned from, or that was read; empty for a guest whose
        counters began at 0.
    :param names: The files below debugfs that the counters are of, in their order.
    :param packed: The files' contents one after the other, compressed by gzip, as base64.
    :param lost: Why the counters couldn't be read; empty where they were.
    """

    test: str
    kernel: str
    template: str
    names: tuple[str, ...] = ()
    packed: str = ""
    lost: str = ""

    @property
    def data(self) -> bytes:
        """The contents of the files, one after the other.

        :raises UsageError: they are damaged.
        """
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            found = unpacker.decompress(base64.b64decode(self.packed, validate=True), _LARGEST)
        except (ValueError, zlib.error) as error:
            raise UsageError(f"the counters of {self.test or self.template} are damaged: {error}") from None
        if not unpacker.eof:
            raise UsageError(f"the counters of {self.test or self.template} are cut short")
        return found


def write(reading: Reading, folder: Path, name: str) -> None:
    """Write a reading into a run's folder; one that is there stays.

    :param reading: The reading.
    :param folder: The run's folder.
    :param name: Its name there.
    """
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    part = place / f".{name}-{os.getpid()}"
    part.write_bytes(msgspec.json.encode(reading))
    # Workers may read the same template at the same time; any of the readings will do. Not by a link, which
    # would fail where a file is, and on file systems that have none.
    if has(folder, name):
        part.unlink()
    else:
        part.replace(place / f"{name}.json")


def has(folder: Path, name: str) -> bool:
    """Has a run's folder a reading of a name?"""
    return (folder / FOLDER / f"{name}.json").exists()


def readings(folder: Path) -> Iterator[Reading]:
    """Read all readings of a run.

    :param folder: The run's folder.
    :raises UsageError: there is none, or one can't be used.
    """
    paths = sorted((folder / FOLDER).glob("*.json"))
    if not paths:
        raise UsageError(f"{folder}: no counters; name a run of memtype coverage, below .memtype/runs")
    for path in paths:
        try:
            yield msgspec.json.decode(read_file(path, most=_LARGEST), type=Reading)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}: not the counters of a guest: {error}") from None
