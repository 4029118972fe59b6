"""Lines of the kernel that no guest can run, each with what excludes it: encryption, hardware of others.

They count against nobody's tests, so ``memtype coverage`` tells its figures with and without them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from pytest_memtype.coverage.lines import SourceFile
from pytest_memtype.errors import UsageError, reason


@dataclass(frozen=True)
class Unreachable:
    """Code that no guest runs.

    :param file: Its path in the tree.
    :param why: What excludes it.
    :param functions: Whole functions, by name.
    :param lines: Texts of single lines, without the space around them; within ``functions``, if any.
    """

    file: str
    why: str
    functions: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


def unreachable(path: Path) -> list[Unreachable]:
    """Read the list of code that no guest runs.

    :param path: A TOML file with a table ``unreachable`` for each entry.
    :raises UsageError: the file isn't one.
    """
    try:
        entries = tomllib.loads(path.read_text())["unreachable"]
        return msgspec.convert(entries, list[Unreachable])
    except OSError as error:
        raise UsageError(reason(error)) from None
    except (ValueError, KeyError) as error:
        raise UsageError(f"{path}: {error}") from None


def reachable(
    files: Mapping[str, SourceFile], known: Sequence[Unreachable], source: Path
) -> dict[str, SourceFile]:
    """Leave the lines out that can't be reached.

    A line that was run all the same stays: the list is wrong there, and counts for nothing.

    :param files: The files, by their names.
    :param known: The list.
    :param source: The top of the sources, whose lines are compared with the list's.
    """
    left = {}
    for name, file in files.items():
        own = [each for each in known if each.file == name]
        out = {number for number in _numbers(file, own, source) if file.lines[number] <= 0}
        left[name] = replace(
            file,
            lines={number: times for number, times in file.lines.items() if number not in out},
            branches={number: ways for number, ways in file.branches.items() if number not in out},
            functions={
                function: times
                for function, times in file.functions.items()
                if times > 0 or not any(function in each.functions and not each.lines for each in own)
            },
        )
    return left


def _numbers(file: SourceFile, known: Sequence[Unreachable], source: Path) -> Iterator[int]:
    if not known:
        return
    try:
        texts = (source / file.name).read_text(errors="replace").splitlines()
    except OSError:
        texts = []
    for number in file.lines:
        text = texts[number - 1].strip() if number <= len(texts) else ""
        inside = file.within.get(number, set())
        for each in known:
            of_function = bool(inside & set(each.functions)) if each.functions else True
            if of_function and (text in each.lines if each.lines else bool(each.functions)):
                yield number
                break
