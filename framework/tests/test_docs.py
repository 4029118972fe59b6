"""The documents as a site: no warning, links within it lead somewhere, public names are told of."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import pytest_memtype
from pytest_memtype.cli import main

ROOT = Path(__file__).parents[2]

pytest.importorskip("sphinx", reason="tox -e oldest has no Sphinx")


def test_a_site_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    command += [str(ROOT / "docs"), str(tmp_path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "command-line.html").read_text()
    assert "Open a shell in a guest" in page
    assert "--html DIR" in page
    # A page of the project's own, which stands outside of docs/, is a page of the site.
    assert 'href="contributing.html"' in (tmp_path / "development.html").read_text()
    # Nothing is loaded from elsewhere.
    loads = re.compile(r'<(?:script|img)[^>]* src="(?:https?:)?//|<link[^>]* rel="stylesheet"[^>]*"http')
    assert [each.name for each in tmp_path.rglob("*.html") if loads.search(each.read_text())] == []


def test_no_paragraph_stands_twice_on_a_page() -> None:
    # As merges left one three times. Output of commands may be alike.
    twice = []
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        paragraphs = Counter(re.split(r"\n\s*\n", text))
        twice += [(path.name, each) for each, count in paragraphs.items() if count > 1 and len(each) > 60]
    assert twice == []


def test_each_public_name_is_documented() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    listed = set(re.findall(r"^\.\. (?:auto|py:)\w+:: (\w+)$", text, re.MULTILINE))
    assert listed == {*pytest_memtype.__all__}


def test_each_command_is_documented() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text()
    headings = re.findall(r"^## memtype (.+)$", text, re.MULTILINE)
    assert headings == re.findall(r"^```\{help-of\} (?!memtype$)(.+)$", text, re.MULTILINE)
    assert sorted(headings) == sorted(commands(main))


def commands(group: click.Group, above: str = "") -> Iterator[str]:
    """Its commands and theirs, as they are typed."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield f"{above}{name}"
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")
