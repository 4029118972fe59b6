"""The bugs that the suite has a reproducer for, read from the reproducers themselves."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_memtype.bugs.facts import Bug, facts
from pytest_memtype.errors import UsageError
from pytest_memtype.host.nearest import did_you_mean
from pytest_memtype.host.project import folders_here, is_of_tests, patterns_of_tests
from pytest_memtype.host.resources import testcases


@dataclass(frozen=True)
class Reproducer:
    """A file of tests that reproduces a bug, such as those of ``testcases/bugs/``.

    :param story: Its docstring behind the first line: report, symptom, cause, fix, source.
    :param source: Its functions and classes, as text.
    """

    bug: Bug
    path: Path
    story: str
    source: str


def known_here() -> tuple[list[Reproducer], list[str]]:
    """The reproducers of the suite and the user's own, by id of the bug; then what is wrong with others.

    The user's are looked for where the command runs. A file of the user's that can't be used doesn't hide the
    others.

    :raises UsageError: as :func:`catalogue`.
    """
    found = {each.bug.id: each for each in catalogue()}
    problems = []
    for path in _of_the_user():
        try:
            each = _read(path)
        except UsageError as error:
            problems.append(error.message)
            continue
        twin = found.setdefault(each.bug.id, each)
        if twin is not each:
            problems.append(f"{path}: {twin.path} reproduces bug {each.bug.id!r} already")
    return [found[name] for name in sorted(found)], problems


def _of_the_user() -> list[Path]:
    """The user's files of tests that are marked with a bug."""
    ours = testcases().resolve()
    patterns = patterns_of_tests()
    paths = [
        path
        for folder in folders_here()
        for path in sorted(folder.glob("*.py"))
        if is_of_tests(path, patterns)
    ]
    return [
        path
        for path in dict.fromkeys(path.resolve() for path in paths)
        if not path.is_relative_to(ours) and _is_marked(path)
    ]


def _is_marked(path: Path) -> bool:
    """Whether the ``pytestmark`` of a file names a bug; false for a file that can't be read."""
    try:
        text = path.read_text(encoding="utf-8")
        statements = ast.parse(text).body if "mark.bug(" in text else []
    except (OSError, ValueError, SyntaxError, RecursionError):
        return False
    return any(
        isinstance(each, ast.Assign)
        and any(isinstance(name, ast.Name) and name.id == "pytestmark" for name in each.targets)
        and "mark.bug(" in ast.unparse(each.value)
        for each in statements
    )


def catalogue(folder: Path | None = None) -> list[Reproducer]:
    """The reproducers of a folder, by id of the bug.

    :param folder: Where to look; None is for the suite.
    :raises UsageError: a file can't be read, has no facts, or reproduces a bug that another one reproduces.
    """
    paths = sorted((folder or testcases() / "bugs").glob("test_*.py"))
    found: dict[str, Reproducer] = {}
    for each in map(_read, paths):
        twin = found.setdefault(each.bug.id, each)
        if twin is not each:
            raise UsageError(f"{each.path}: {twin.path.name} reproduces bug {each.bug.id!r} already")
    return [found[name] for name in sorted(found)]


def is_suites(reproducer: Reproducer) -> bool:
    """Whether a reproducer is the suite's, and not the user's own."""
    return reproducer.path.resolve().is_relative_to(testcases().resolve())


def find(name: str) -> Reproducer:
    """The reproducer of a bug.

    :param name: The bug's id.
    :raises UsageError: there is none.
    """
    return find_all([name])[0]


def find_all(names: Sequence[str]) -> list[Reproducer]:
    """The reproducers of some bugs. All files are read once, which takes a second.

    :param names: The bugs' ids.
    :raises UsageError: there is none of a bug.
    """
    found, problems = known_here()
    known = {each.bug.id: each for each in found}
    for name in names:
        if name not in known:
            also = f"; not read: {problems[0]}" if problems else ""
            near = did_you_mean(name, known) or ";"
            raise UsageError(f"no bug is called {name!r}{near} memtype bugs lists them{also}")
    return [known[name] for name in names]


def _read(path: Path) -> Reproducer:
    try:
        module = _loaded(path)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # pytest.skip() and importorskip() of a module raise no Exception, nor does sys.exit().
        raise UsageError(f"{path}: it can't be imported: {type(error).__name__}: {error}") from error
    marks = getattr(module, "pytestmark", [])
    listed = marks if isinstance(marks, list) else [marks]
    own = [mark for mark in listed if getattr(mark, "name", None) == "bug"]
    if len(own) != 1:
        raise UsageError(f"{path}: a reproducer's pytestmark has one marker bug, with what is known of it")
    _, _, story = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
    return Reproducer(facts(own[0].kwargs, where=str(path)), path, story, _functions(path))


def _loaded(path: Path) -> Any:
    specification = importlib.util.spec_from_file_location(f"pytest_memtype_bug_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # As pytest does, so that a test may import what is beside it.
    sys.path.insert(0, str(path.parent))
    try:
        specification.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def _functions(path: Path) -> str:
    """The text of a file from the first function or class, with its decorators, to the end."""
    text = path.read_text()
    found = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    if not found:
        raise UsageError(f"{path}: it has no test")
    first = min([found[0].lineno, *(each.lineno for each in found[0].decorator_list)])
    return "\n".join(text.splitlines()[first - 1 :])
