"""The check of docstrings finds what it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest
from memtype_support.docstrings import findings, main


@pytest.mark.parametrize(
    "text",
    [
        "Those of some registers.",
        "One.",
        "The same, for a process.",
        "What came of it.",
        "It ends.",
        "Of the bug.",
        "A guest.",
    ],
)
def test_a_riddle_is_found(text: str) -> None:
    source = f'"""A module of the package."""\n\ndef f():\n    """{text}"""\n'
    (line,) = findings(source, "a.py")
    assert line.startswith(f"a.py:4: {text!r} ")


@pytest.mark.parametrize(
    "text",
    [
        "The MTRRs of each CPU, as QEMU has them.",
        "Ownership of a folder.",
        "A guest that runs.",
        "Itself a guest is.",
    ],
)
def test_a_line_that_names_a_thing_passes(text: str) -> None:
    assert list(findings(f'class C:\n    """{text}\n\n    All of it.\n    """\n', "a.py")) == []


SOURCE = '''"""A module of the package."""


def take(pages: int, align: int) -> None:
    """Take a window of device memory.

    :param pages: The number of pages.{more}
    """
'''


def test_an_undocumented_parameter_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text(SOURCE.format(more=""))
    assert main(tmp_path) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("a.py:4: DOC103: ")
    assert "align: int" in line
    (tmp_path / "a.py").write_text(SOURCE.format(more="\n    :param align: Its alignment in pages."))
    assert main(tmp_path) == 0
