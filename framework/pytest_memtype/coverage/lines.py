"""Lines, branches and functions that were run, as gcc's ``gcov`` tells them from counters."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_memtype.errors import HostError, KernelError

_SECONDS = 600
_NAME = re.compile(r"[^\0]*[^\0/]\.gcda")


@dataclass
class SourceFile:
    """A source file of the kernel, with what was run of it.

    :param name: Its path in the tree.
    :param lines: How often each line with code was run, by its number from 1.
    :param branches: How often each way out of a line was taken, by the line's number.
    :param functions: How often each function was called, by its name.
    :param within: The functions that each line stands in, by its number.
    """

    name: str
    lines: dict[int, int] = field(default_factory=dict)
    branches: dict[int, list[int]] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)
    within: dict[int, set[str]] = field(default_factory=dict)

    @property
    def lines_run(self) -> tuple[int, int]:
        """Number of lines that were run, and of all with code."""
        return _above_zero(self.lines.values()), len(self.lines)

    @property
    def branches_taken(self) -> tuple[int, int]:
        """Number of branches that were taken, and of all."""
        all_ways = [way for ways in self.branches.values() for way in ways]
        return _above_zero(all_ways), len(all_ways)

    @property
    def functions_called(self) -> tuple[int, int]:
        """Number of functions that were called, and of all."""
        return _above_zero(self.functions.values()), len(self.functions)


def _above_zero(numbers: Iterable[int]) -> int:
    # gcov computes some from differences of others, and a counter may change while it is read: -1 is nothing.
    return sum(number > 0 for number in numbers)


def gcov_program(compiler: Sequence[str]) -> str:
    """The ``gcov`` of the compiler that a kernel was built with.

    :param compiler: The arguments of make that name the compiler, such as ``CC=gcc-12``.
    :raises KernelError: it isn't gcc, whose counters these are.
    """
    name = next((each.removeprefix("CC=") for each in compiler if each.startswith("CC=")), "clang")
    if "gcc" not in name:
        raise KernelError("coverage: the kernel was built with clang, whose counters aren't read; use gcc")
    return name.replace("gcc", "gcov")


class Notes:
    """A folder in which counters lie beside gcc's notes of what they count, as ``gcov`` wants it.

    :param place: The folder.
    :param names: The names of the files of counters, paths of the build tree as debugfs has them.
    :param build: The build tree.
    :raises KernelError: the tree has no notes for a file, or the file isn't of the tree.
    """

    def __init__(self, place: Path, names: Sequence[str], build: Path) -> None:
        self.place, self.build = place, build.resolve()
        self.units: dict[str, str] = {}
        for name in names:
            # They come from a guest. The tree may have been named by a link.
            if not _NAME.fullmatch(name):
                raise KernelError(f"coverage: {name!r} is no name of a file of counters")
            unit = Path(os.path.realpath(Path("/", name))).with_suffix("")
            if not unit.is_relative_to(self.build):
                raise KernelError(
                    f"coverage: the counters are of {unit}, which is not in the tree {self.build}"
                )
            # Of "x509.asn1" with_suffix() makes "x509.gcno".
            notes = unit.with_name(f"{unit.name}.gcno")
            # Path.is_file() raises an error where the name is too long.
            if not os.access(notes, os.R_OK):
                raise KernelError(
                    f"coverage: {notes} isn't there; the tree must be as it was built, at the same place"
                )
            self.units[name] = str(unit.relative_to(self.build))

    def put(self, name: str, data: bytes, *, copy: str = "") -> Path:
        """Put a file of counters beside the notes of its unit.

        :param name: Its name.
        :param data: Its contents.
        :param copy: Tells several files of one unit apart.
        :returns: the path of the file.
        """
        path = self.place / f"{self.units[name]}{copy}.gcda"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        notes = path.with_suffix(".gcno")
        if not notes.exists():
            notes.symlink_to(self.build / f"{self.units[name]}.gcno")
        return path


def source_files(gcov: str, notes: Notes, paths: Sequence[Path]) -> Iterator[SourceFile]:
    """Tell what was run of the source file of each unit, by its counters; headers are left out.

    :param gcov: The program.
    :param notes: The folder with the counters.
    :param paths: The files of counters.
    :raises HostError: the program isn't there, or can't read them.
    """
    with tempfile.TemporaryDirectory(prefix="memtype-gcov-") as folder:
        command = [gcov, "--json-format", "--stdout", "--branch-probabilities", *map(str, paths)]
        try:
            done = subprocess.run(
                command, cwd=folder, timeout=_SECONDS, capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise HostError(
                f"coverage: {gcov} is not on the PATH; it comes with the kernel's compiler"
            ) from None
        except subprocess.TimeoutExpired:
            raise HostError(f"coverage: {gcov} was not done in {_SECONDS} s") from None
    documents = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or len(documents) != len(paths):
        last = (done.stderr.splitlines() or ["no message"])[-1]
        raise HostError(f"coverage: {gcov} can't read the counters: {last}")
    for document in documents:
        yield _source_file(json.loads(document), notes)


def _source_file(document: dict[str, Any], notes: Notes) -> SourceFile:
    unit = os.path.relpath(document["data_file"], notes.place).removesuffix(".gcda")
    found = SourceFile(f"{unit.partition('@')[0]}.c")
    for file in document["files"]:
        # Relative to the build tree, which make O= puts elsewhere than the source.
        path = os.path.normpath(Path(document["current_working_directory"], file["file"]))
        if path.endswith(f"/{found.name}"):
            add(found, file["lines"], file["functions"])
    return found


def add(found: SourceFile, lines: Iterable[dict[str, Any]], functions: Iterable[dict[str, Any]]) -> None:
    """Add what gcov says of a file's lines and functions. A line may stand in several functions.

    :param found: The source file.
    :param lines: Its lines, as in gcov's JSON.
    :param functions: Its functions, likewise.
    """
    for line in lines:
        number = line["line_number"]
        found.lines[number] = found.lines.get(number, 0) + line["count"]
        # gcc leaves the name out of a line that it has put outside of all.
        if "function_name" in line:
            found.within.setdefault(number, set()).add(line["function_name"])
        if line["branches"]:
            ways = [branch["count"] for branch in line["branches"]]
            found.branches.setdefault(number, []).extend(ways)
    for function in functions:
        found.functions[function["name"]] = function["execution_count"]
