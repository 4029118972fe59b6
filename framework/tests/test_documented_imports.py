"""Every import that the documentation shows works: neither mypy nor a test's collection sees those."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PAGES = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("docs/**/*.sh")]
IMPORT = re.compile(r"^\s*from (pytest_memtype[\w.]*) import ([\w, ]+)$", re.MULTILINE)
FOUND = {
    (match[1], name.split()[0])
    for page in PAGES
    for match in IMPORT.finditer(page.read_text())
    for name in match[2].split(",")
}


def test_there_are_some() -> None:
    assert len(FOUND) > 5


@pytest.mark.parametrize(("module", "name"), sorted(FOUND))
def test_it_can_be_imported(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)
