"""The rows of ``memtype mutate``: one for each fault that was tried, kept in a file as they come."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

KILLED: Final = "killed"
LIVED: Final = "lived"
EQUIVALENT: Final = "equivalent"
TROUBLE: Final = "trouble"


@dataclass(frozen=True)
class Row:
    """The outcome of a fault's trial.

    :param mutant: Its name; ``none`` for the kernel without any.
    :param outcome: ``killed``, ``lived``, ``equivalent``, which is taken from the catalogue's proof, or
        ``trouble``: this host couldn't say.
    :param killed_by: Tests that failed: the first, or all of them with ``--all``.
    :param seconds: Seconds that it took.
    :param note: Of ``trouble`` the reason.
    :param against: Hash of the kernel and of the suite that it was tried with.
    :param all_tests: Were all tests run, whatever failed?
    """

    mutant: str
    outcome: str
    killed_by: tuple[str, ...] = ()
    seconds: float = 0.0
    note: str = ""
    against: str = ""
    all_tests: bool = False


def read(file: Path, *, against: str, all_tests: bool) -> dict[str, Row]:
    """Read the rows that still hold, by fault: those of this kernel and suite that said something.

    A line that a killed run has left half is dropped.

    :param file: The file, which may not exist.
    :param against: Hash of the kernel and of the suite.
    :param all_tests: Only rows for which all tests were run, as far as a test failed.
    """
    rows: dict[str, Row] = {}
    for line in file.read_bytes().splitlines() if file.exists() else ():
        try:
            row = msgspec.json.decode(line, type=Row)
        except (ValueError, msgspec.ValidationError):
            continue
        whole = row.all_tests or row.outcome != KILLED or not all_tests
        if row.against == against and row.outcome != TROUBLE and whole:
            rows[row.mutant] = row
    return rows


def add(file: Path, row: Row) -> None:
    """Add a row to the file."""
    with file.open("a+b") as rows:
        # A killed run may have left half a line, which shall be no part of this one.
        rows.seek(-1 if rows.tell() else 0, os.SEEK_END)
        begun = rows.read(1) not in (b"", b"\n")
        rows.write(b"\n" * begun + msgspec.json.encode(row) + b"\n")


def fingerprint(identity: str, suite: Path) -> str:
    """Hash of a kernel and of the suite's files: with another one of either, everything is tried again.

    :param identity: The hash of the kernel.
    :param suite: The folder of the suite.
    """
    digest = hashlib.sha256(identity.encode())
    # An editor's lock is a link to nowhere.
    for path in sorted(path for path in suite.rglob("*.py") if path.is_file()):
        digest.update(os.fsencode(path.relative_to(suite)) + b"\0" + path.read_bytes())
    return digest.hexdigest()
