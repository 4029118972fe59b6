"""The bugs that the suite has a reproducer for, read from the reproducers themselves."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_memtype.bugs import Bug, facts
from pytest_memtype.errors import UsageError
from pytest_memtype.resources import testcases


@dataclass(frozen=True)
class Reproducer:
    """One file of ``testcases/bugs/``.

    :param story: Its docstring behind the first line: report, symptom, cause, fix, source.
    :param source: Its functions, as text.
    """

    bug: Bug
    path: Path
    story: str
    source: str


def catalogue(folder: Path | None = None) -> list[Reproducer]:
    """All of them, by id.

    :param folder: Where to look instead of the suite.
    :raises UsageError: a file can't be read, tells no facts, or tells of a bug that another tells of.
    """
    paths = sorted((folder or testcases() / "bugs").glob("test_*.py"))
    found: dict[str, Reproducer] = {}
    for each in map(_read, paths):
        twin = found.setdefault(each.bug.id, each)
        if twin is not each:
            raise UsageError(f"{each.path}: {twin.path.name} reproduces bug {each.bug.id!r} already")
    return [found[name] for name in sorted(found)]


def find(name: str) -> Reproducer:
    """The reproducer of a bug.

    :raises UsageError: there is none.
    """
    known = {each.bug.id: each for each in catalogue()}
    if name not in known:
        raise UsageError(f"no bug is called {name!r}; memtype bugs lists them")
    return known[name]


def _read(path: Path) -> Reproducer:
    try:
        module = _loaded(path)
    except Exception as error:
        raise UsageError(f"{path}: it can't be imported: {type(error).__name__}: {error}") from error
    marks = getattr(module, "pytestmark", [])
    own = [mark for mark in (marks if isinstance(marks, list) else [marks]) if mark.name == "bug"]
    if len(own) != 1:
        raise UsageError(f"{path}: a reproducer's pytestmark has one marker bug, with what is known of it")
    _, _, story = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
    return Reproducer(facts(own[0].kwargs, where=str(path)), path, story, _functions(path))


def _loaded(path: Path) -> Any:
    specification = importlib.util.spec_from_file_location(f"pytest_memtype_bug_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def _functions(path: Path) -> str:
    """From the first function, with its decorators, to the end."""
    text = path.read_text()
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    if not functions:
        raise UsageError(f"{path}: it has no test")
    first = min([functions[0].lineno, *(each.lineno for each in functions[0].decorator_list)])
    return "\n".join(text.splitlines()[first - 1 :])
