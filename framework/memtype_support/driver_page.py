"""The files and commands that docs/test-your-driver.md shows."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/test-your-driver.md"


def shown(marker: str) -> str:
    """What the page shows behind a marker, ``file: toy/toy.c`` or ``executed: run``."""
    found = re.search(rf"<!-- {re.escape(marker)} -->\n```\w*\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, f"{PAGE} shows no {marker}"
    return found[1]


def write_files(folder: Path, *names: str) -> None:
    """Write files of the page into a folder, as its reader would."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shown(f"file: {name}"))


def lines_of_mistake() -> list[str]:
    """The line at which the function with the deliberate mistake begins, and the one of its first brace.

    Which of the two a function's first instruction belongs to is the compiler's choice.
    """
    lines = shown("file: toy/toy.c").splitlines()
    first = next(n for n, line in enumerate(lines, start=1) if line.startswith("static int toy_mmap"))
    return [f"toy/toy.c:{number}" for number in (first, first + 1)]
