"""The lines that a patch adds or changes, with whether they were run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype.coverage.lines import SourceFile
from pytest_memtype.errors import UsageError

_FILE = re.compile(r"\+\+\+ (?:[^/\s]+/)?(\S+)")
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_CODE = ".c"


@dataclass(frozen=True)
class ChangedLine:
    """A line that a patch adds or changes.

    :param file: The path of its file in the tree.
    :param number: Its number in the file as the patch leaves it, from 1.
    :param text: Its text.
    """

    file: str
    number: int
    text: str


@dataclass(frozen=True)
class PatchedLine:
    """A changed line, with how often it was run.

    :param line: The line.
    :param times: How often it was run; None where it has no code, or its file isn't profiled.
    :param profiled: Is its file profiled?
    """

    line: ChangedLine
    times: int | None
    profiled: bool


@dataclass(frozen=True)
class _Hunk:
    """A hunk of a patch, as the patch leaves it.

    :param file: The path of its file in the tree.
    :param line: The number of its first line, from 1, in the file that the patch was made of.
    :param lines: Its lines.
    :param added: Which of them the patch adds, from 0.
    """

    file: str
    line: int
    lines: list[str]
    added: list[int]


def changed_lines(patch: str, tree: Path) -> list[ChangedLine]:
    """The lines that a patch adds or changes, in its order, at their places in a tree that has it.

    A hunk is looked for by its text, nearest to where the patch has it: many patches were made of another
    version.

    :param patch: The patch, in the form of ``diff -u`` or git, with one folder before each path (``b/``).
    :param tree: The source.
    :raises UsageError: it is no patch, or the tree doesn't have it.
    """
    found: list[ChangedLine] = []
    known: dict[str, list[str]] = {}
    for hunk in _hunks(patch):
        if not hunk.added:
            continue
        if hunk.file not in known:
            try:
                known[hunk.file] = (tree / hunk.file).read_text(errors="replace").splitlines()
            except OSError as error:
                raise UsageError(f"--diff: {tree / hunk.file}: {error.strerror}") from None
        there = _place(hunk, known[hunk.file])
        if there is None:
            raise UsageError(
                f"--diff: {tree / hunk.file} doesn't have what the patch makes of it at line {hunk.line}; "
                "apply the patch, build, and run again"
            )
        found += [ChangedLine(hunk.file, there + each + 1, hunk.lines[each]) for each in hunk.added]
    return found


def _hunks(patch: str) -> list[_Hunk]:
    found: list[_Hunk] = []
    file, before, after = "", 0, 0
    for text in patch.splitlines():
        if before > 0 or after > 0:
            # "\ No newline at end of file". Some mailers cut the space off an empty line.
            if text.startswith("\\"):
                continue
            if not text.startswith("+"):
                before -= 1
            if not text.startswith("-"):
                after -= 1
                if text.startswith("+"):
                    found[-1].added.append(len(found[-1].lines))
                found[-1].lines.append(text[1:])
        elif match := _FILE.match(text):
            file = match[1]
        elif file and (match := _HUNK.match(text)):
            before, after = int(match[1] or 1), int(match[3] or 1)
            found.append(_Hunk(file, int(match[2]), [], []))
    if not found:
        raise UsageError("--diff: no patch; it has no line that begins with @@ after one with +++")
    return found


def _place(hunk: _Hunk, lines: list[str]) -> int | None:
    """The place of a hunk in a file, as the number of lines before it; None where it isn't there."""
    length = len(hunk.lines)
    places = [n for n in range(len(lines) - length + 1) if lines[n : n + length] == hunk.lines]
    return min(places, key=lambda place: abs(place + 1 - hunk.line), default=None)


def patched(lines: Iterable[ChangedLine], files: Mapping[str, SourceFile]) -> list[PatchedLine]:
    """Each changed line of C code, with how often it was run.

    :param lines: The lines.
    :param files: The profiled files, by their names.
    """
    found = []
    for line in lines:
        if not line.file.endswith(_CODE):
            continue
        file = files.get(line.file)
        times = None if file is None else file.lines.get(line.number)
        found.append(PatchedLine(line, times, file is not None))
    return found
