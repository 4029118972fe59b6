"""The names that a test imports from :mod:`pytest_memtype`: all are there, each loaded when it is used."""

from __future__ import annotations

import ast
import importlib
import json
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pytest_memtype

SLOW = ("numpy", "paramiko", "pexpect", "pytest", "rich")


def names_for_type_checkers() -> dict[str, str]:
    """The module of each name, as mypy and editors read it."""
    (block,) = (
        statement
        for statement in ast.parse(Path(pytest_memtype.__file__).read_text()).body
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"
    )
    return {
        alias.name: str(statement.module)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


def in_a_fresh_python(program: str) -> Any:
    """What a program prints, which is JSON."""
    command = [sys.executable, "-c", f"import json, sys\n{program}"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True).stdout)


def test_type_checkers_know_all_names() -> None:
    assert sorted(names_for_type_checkers()) == pytest_memtype.__all__


@pytest.mark.parametrize("name", pytest_memtype.__all__)
def test_a_name_is_what_type_checkers_take_it_for(name: str) -> None:
    defined = importlib.import_module(names_for_type_checkers()[name])
    assert getattr(pytest_memtype, name) is getattr(defined, name)


def test_each_name_can_be_the_first_that_is_used() -> None:
    for name in pytest_memtype.__all__:
        program = f"from pytest_memtype import {name}\nprint(json.dumps('{name}' in globals()))"
        assert in_a_fresh_python(program)


def test_a_star_brings_all_and_nothing_else() -> None:
    program = "before = set(globals()) | {'before'}\nfrom pytest_memtype import *\n"
    assert (
        in_a_fresh_python(f"{program}print(json.dumps(sorted(set(globals()) - before)))")
        == pytest_memtype.__all__
    )


def test_they_are_listed_before_they_are_used() -> None:
    listed = in_a_fresh_python("import pytest_memtype\nprint(json.dumps(dir(pytest_memtype)))")
    assert {*pytest_memtype.__all__} <= {*listed}


def test_help_shows_them() -> None:
    text = pydoc.plain(pydoc.render_doc(pytest_memtype))
    # A class, or the other name of a type.
    shown = set(re.findall(r"^    (?:class )?(\w+)(?:\(| = )", text, re.MULTILINE))
    assert {*pytest_memtype.__all__} - shown == set()


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'pytest_memtype' has no attribute 'Laoyut'"):
        assert pytest_memtype.Laoyut  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'Laoyut'"):
        from pytest_memtype import Laoyut  # type: ignore[attr-defined]  # noqa: F401


@pytest.mark.parametrize("module", ["pytest_memtype", "pytest_memtype.cli"])
def test_what_is_slow_to_load_is_not_loaded_with_the_package(module: str) -> None:
    loaded = in_a_fresh_python(f"import {module}\nprint(json.dumps([*sys.modules]))")
    assert {*SLOW} & {*loaded} == set()
    assert [name for name in loaded if name.startswith("pytest_memtype.guest")] == []
