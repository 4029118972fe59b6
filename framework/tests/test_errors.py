"""The tree of errors: all of them are in one file, and it draws them as they are."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from pytest_memtype import errors

PACKAGE = Path(errors.__file__).parent

#: Facts and models stand below the errors of the package and raise their own, which their callers turn.
BELOW = ("x86", "spec")


def drawn(cls: type[BaseException], depth: int = 0) -> Iterator[str]:
    yield "    " + "  " * depth + cls.__name__
    for each in sorted(cls.__subclasses__(), key=lambda each: each.__name__):
        if each.__module__ == errors.__name__:
            yield from drawn(each, depth + 1)


def roots() -> list[type[BaseException]]:
    own = [
        each for _, each in inspect.getmembers(errors, inspect.isclass) if each.__module__ == errors.__name__
    ]
    found = [each for each in own if issubclass(each, BaseException)]
    others = [each for each in found if not any(base in found for base in each.__bases__)]
    return sorted(others, key=lambda each: (each is not errors.MemtypeError, each.__name__))


def test_the_tree_is_drawn_as_it_is() -> None:
    assert errors.__doc__ is not None
    tree = "\n".join(line for root in roots() for line in drawn(root))
    assert tree in errors.__doc__, f"errors.py draws another tree than there is:\n{tree}"


def test_no_error_is_elsewhere() -> None:
    elsewhere = []
    known = {
        name for name, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, BaseException)
    }
    known |= {"Exception", "OSError", "ValueError", "LookupError", "KeyError", "RuntimeError"}
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] in BELOW or path == Path(errors.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                elsewhere += [f"{path.relative_to(PACKAGE)}: {node.name}"] if bases & known else []
    assert elsewhere == []
