"""The user's own folders, seen from where a command is started: those that may belong to tests.

Pytest has a root folder, which it finds by a configuration file, and ``testpaths`` and ``python_files`` in
that file. Commands that run no test look in the same places, so that a name means the same to all of them.
"""

from __future__ import annotations

import configparser
import fnmatch
import itertools
import os
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

#: Where pytest reads its settings, in this order, and in which section. pytest 9.0 brought the first two, and
#: settings right below ``tool.pytest``.
_FILES: Final = (
    ("pytest.toml", "pytest"),
    (".pytest.toml", "pytest"),
    ("pytest.ini", "pytest"),
    (".pytest.ini", "pytest"),
    ("pyproject.toml", "tool.pytest"),
    ("tox.ini", "pytest"),
    ("setup.cfg", "tool:pytest"),
)

#: Those that make their folder the root even without the section.
_PYTESTS_ALONE: Final = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini")

#: Folders that pytest doesn't enter by itself (norecursedirs), and folders with other people's files.
_SKIPPED: Final = frozenset({"build", "dist", "node_modules", "venv", "_darcs", "CVS", "__pycache__"})

#: Settings that are read of them: each a list, in some files as words of a shell.
_READ: Final = ("testpaths", "python_files")

#: Pytest's own ``python_files``.
_FILES_OF_TESTS: Final = ("test_*.py", "*_test.py")

#: Folders deeper below the root than this aren't looked into, nor are more than so many.
_DEPTH: Final = 5
_MOST_FOLDERS: Final = 2000


def root_of(folder: Path) -> Path:
    """The nearest folder from ``folder`` upwards that has settings of pytest's; itself if none has."""
    start = folder.absolute()
    for each in (start, *start.parents):
        if _settings(each) is not None:
            return each
    return start


def folders_here(start: Path | None = None, *, named: Iterable[Path] = ()) -> list[Path]:
    """Folders that may hold something of the user's, nearest first.

    The named folders come first, then the folder where the command runs with those above it up to the
    root, ``testpaths``, and what lies below.

    :param start: Where the command runs; None is for the current folder.
    :param named: Folders or files that the user named.
    """
    here = (start or Path()).absolute()
    root = root_of(here)
    own = [each if each.is_dir() else each.parent for each in (Path(each).absolute() for each in named)]
    upwards = [each for each in (here, *here.parents) if each.is_relative_to(root)]
    patterns = (_settings(root) or {}).get("testpaths", [])
    paths = [each for pattern in patterns for each in _matching(root, pattern) if each.is_dir()]
    below = [folder for each in (*own, here, *paths) for folder in _below(each)]
    return list(dict.fromkeys([*own, *upwards, *paths, *below]))


def patterns_of_tests(start: Path | None = None) -> tuple[str, ...]:
    """The patterns by which pytest knows a file of tests: ``python_files`` of the project, or pytest's own.

    :param start: Where the command runs; None is for the current folder.
    """
    own = (_settings(root_of(start or Path())) or {}).get("python_files")
    return _FILES_OF_TESTS if own is None else tuple(own)


def is_of_tests(file: Path, patterns: Iterable[str]) -> bool:
    """Whether a file's name is one of tests.

    :param file: The absolute path of the file.
    :param patterns: The patterns, of which one with a slash is for the end of the path.
    """
    return any(
        fnmatch.fnmatch(str(file), f"*/{each}") if "/" in each else fnmatch.fnmatch(file.name, each)
        for each in patterns
    )


def _matching(root: Path, pattern: str) -> list[Path]:
    try:
        return sorted(root.glob(pattern))
    except (ValueError, NotImplementedError):  # It is empty, or absolute.
        return [root / pattern]


def _below(folder: Path) -> Iterator[Path]:
    """The folder and all folders below it that pytest would look through."""
    for place, names, _ in itertools.islice(os.walk(folder), _MOST_FOLDERS):
        path = Path(place)
        yield path
        deep = len(path.relative_to(folder).parts) >= _DEPTH
        names[:] = [] if deep else sorted(name for name in names if _entered(path / name))


def _entered(folder: Path) -> bool:
    name = folder.name
    return (
        not name.startswith(".")
        and name not in _SKIPPED
        and not name.endswith(".egg")
        and not (folder / "pyvenv.cfg").exists()
    )


def _settings(folder: Path) -> Mapping[str, list[str]] | None:
    """The settings in a folder's configuration of pytest's, as far as they are read; None if it has none."""
    for name, section in _FILES:
        file = folder / name
        if not file.is_file():
            continue
        try:
            text = file.read_text(encoding="utf-8")
            found = _of_toml(text, section) if name.endswith(".toml") else _of_ini(text, section)
        except (OSError, ValueError, configparser.Error):
            continue  # Pytest says what is wrong with it.
        if found is not None:
            return found
        if name in _PYTESTS_ALONE:
            return {}
    return None


def _of_toml(text: str, section: str) -> dict[str, list[str]] | None:
    table: object = tomllib.loads(text)
    for name in section.split("."):
        table = table.get(name) if isinstance(table, dict) else None
    if isinstance(table, dict):
        table = table.get("ini_options", table)
    if not isinstance(table, dict) or not table:
        return None
    found: dict[str, list[str]] = {}
    for name in _READ:
        value = table.get(name)
        if isinstance(value, str):
            found[name] = shlex.split(value)
        elif isinstance(value, list):
            found[name] = [str(each) for each in value]
    return found


def _of_ini(text: str, section: str) -> dict[str, list[str]] | None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    if not parser.has_section(section):
        return None
    return {
        name: shlex.split(parser.get(section, name)) for name in _READ if parser.has_option(section, name)
    }
