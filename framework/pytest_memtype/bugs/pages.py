"""A page of documentation for each bug, from the same data that its test uses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pytest_memtype.bugs.catalogue import Reproducer, is_suites
from pytest_memtype.bugs.facts import Bug
from pytest_memtype.errors import UsageError
from pytest_memtype.host.files import write_atomically
from pytest_memtype.report.compare_table import escaped

SUITES = Path("docs/bugs")
"""The pages of the suite's own bugs, in a checkout."""

_INDEX = "README.md"
_MADE = '<!-- Made by "memtype bugs pages"'


def pages(reproducers: Iterable[Reproducer], folder: Path = SUITES) -> dict[str, str]:
    """The text of each page by the name of its file, the index among them.

    :param reproducers: The reproducers of the bugs.
    :param folder: Where the pages are, which their links start from.
    """
    reproducers = list(reproducers)
    made = {f"{each.bug.id}.md": _page(each, folder) for each in reproducers}
    return made | {_INDEX: _index(reproducers)}


def write_pages(folder: Path, reproducers: Iterable[Reproducer]) -> list[Path]:
    """Write the pages of bugs, and remove pages of bugs that no longer exist.

    :param folder: Where the pages are; it is made if it isn't there.
    :param reproducers: The reproducers of the bugs.
    :returns: The files that were written.
    :raises UsageError: a file that wasn't made here is in the way; then nothing is changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = pages(reproducers, folder)
    for path in (folder / name for name in made):
        if path.exists() and not _is_ours(path):
            raise UsageError(f"{path}: not made by memtype bugs pages; move it away, or name another folder")
    for old in folder.glob("*.md"):
        if old.name not in made and _is_ours(old):
            old.unlink()
    for name, text in made.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in made]


def lines_about(bug: Bug) -> list[tuple[str, str]]:
    """The facts of a bug in words, as (name, text)."""
    fixed = [bug.fixed, *sorted(bug.backports)] if bug.fixed else []
    return [
        ("kind", bug.kind),
        ("since", ", ".join(bug.introduced) or "not known; the oldest kernel tried has it"),
        ("fixed in", ", ".join(each for each in fixed if each) or "none"),
        ("core operation", f"{bug.core}: without it nothing goes wrong"),
    ]


def _page(reproducer: Reproducer, folder: Path) -> str:
    bug = reproducer.bug
    rows = "\n".join(f"| {name} | {text} |" for name, text in lines_about(bug))
    path, link = _place(reproducer, folder)
    return f"""{_MADE} from {path}; change that. -->

# {bug.id}: {bug.title}

| | |
|---|---|
{rows}
| reproducer | [{path}]({link}) |

{_markdown(reproducer.story)}

## Reproducer

`memtype bugs run {bug.id} --kernel debian:bullseye --kernel debian:trixie-backports` runs it, and
`memtype bugs show {bug.id}` prints each operation with the answers.

```python
{reproducer.source}
```
"""


def _place(reproducer: Reproducer, folder: Path) -> tuple[str, str]:
    """Where a reproducer is, as people write it, and as a page links to it."""
    if is_suites(reproducer):
        path = f"testcases/bugs/{reproducer.path.name}"
        return path, f"../../{path}"
    return os.path.relpath(reproducer.path), os.path.relpath(reproducer.path, folder)


def _index(reproducers: Sequence[Reproducer]) -> str:
    rows = "\n".join(
        f"| [{bug.id}]({bug.id}.md) | {escaped(bug.title)} | {bug.kind} | {bug.fixed or '-'} |"
        for bug in (each.bug for each in reproducers)
    )
    ours = all(map(is_suites, reproducers))
    where = "testcases/bugs/" if ours else "the tests"
    how = "\n`memtype bugs run`." + " How to add one: [reproduce-a-bug.md](../reproduce-a-bug.md)." * ours
    return f"""{_MADE}; change {where}. -->

# Reported bugs

Each has a test that shows the harm on the kernels that have it, and its absence on the others:{how}

| bug | what goes wrong | kind | fixed in |
|---|---|---|---|
{rows}
"""


def _is_ours(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith(_MADE.encode())


def _markdown(text: str) -> str:
    return re.sub(r"^(Symptom|Cause|Fix|Source):", r"**\1:**", text.replace("``", "`"), flags=re.MULTILINE)
