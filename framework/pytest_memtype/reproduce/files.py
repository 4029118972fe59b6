"""The files that are left of a report: a test, a layout, and a summary to mail."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from pytest_memtype.errors import UsageError, reason
from pytest_memtype.explain.layout_text import layout_text
from pytest_memtype.host.files import write_atomically
from pytest_memtype.reproduce.attempt import Attempt
from pytest_memtype.reproduce.bug_facts import bug_facts
from pytest_memtype.reproduce.outcome import Outcome
from pytest_memtype.reproduce.setting import FIRMWARE
from pytest_memtype.reproduce.sources import sources
from pytest_memtype.reproduce.summary import summary
from pytest_memtype.reproduce.written_test import text_of_test

_MADE = "\n\n# Made by memtype reproduce, which replaces this file as long as this line ends it.\n"
#: A summary is for a mail, and has no such line.
_SUMMARY = "\n\nThe report says:\n"


def check_names(folder: Path, *, name: str, bug: str | None = None) -> None:
    """Refuse to go on where files of others have the names that a report's may get.

    :param folder: Where they would go.
    :param name: What their names are made of.
    :param bug: The id of the bug that the test is to be marked with; None for a test without.
    :raises UsageError: there is one.
    """
    _check([folder / _test(name, bug), folder / f"{name}.toml", folder / _summary(name)])


def _check(paths: Iterable[Path]) -> None:
    for path in paths:
        if not path.exists():
            continue
        text = b""
        with suppress(OSError):
            text = path.read_bytes() if path.is_file() else b""
        ours = _SUMMARY.encode() in text if path.suffix == ".txt" else text.endswith(_MADE.encode())
        if not ours and not (path.suffix == ".toml" and _is_unmarked(text)):
            raise UsageError(
                f"{path} is there, and not made by this command; name another folder with --into"
            )


def _is_unmarked(layout: bytes) -> bool:
    """Whether it is a layout from before there was a last line of its own, and not one that has lost it."""
    comment = b" ".join(each.lstrip(b"# ") for each in takewhile(_is_comment, layout.splitlines()))
    marked = _MADE.strip().encode() in layout or layout.endswith(b"\n\n")
    return layout.startswith(b"# Of ") and b", for a guest." in comment and not marked


def _is_comment(line: bytes) -> bool:
    return line.startswith(b"#")


def _test(name: str, bug: str | None) -> str:
    return f"test_{(bug or name).replace('-', '_').replace('.', '_')}.py"


def _summary(name: str) -> str:
    # Not NAME.txt, which the report may be.
    return f"{name}-summary.txt"


def leave(
    outcome: Outcome, folder: Path, *, name: str, source: str, answer: str, bug: str | None = None
) -> list[Path]:
    """Write the files of a report.

    :param outcome: What came of it.
    :param folder: Where they go; it is made if it isn't there.
    :param name: What their names are made of: letters, digits and dashes.
    :param source: The name of the report.
    :param answer: What the report says, in words.
    :param bug: The id of the bug that the test is to be marked with; None for a test without.
    :returns: The files; only a summary where nothing was done.
    :raises UsageError: a file can't be written there.
    """
    test = folder / _test(name, bug)
    files: dict[Path, str] = {}
    plan = outcome.plan
    if plan is not None and outcome.version is not None:
        shown = _best(outcome)
        facts = None if bug is None else bug_facts(bug, plan, outcome.version)
        story = _story(outcome, answer)
        files[test] = text_of_test(plan, attempt=shown, source=source, story=story, bug=facts) + _MADE
        for number, part in enumerate(plan.parts, start=1):
            if part.setting.layout != FIRMWARE:
                title = name if len(plan.parts) == 1 else f"{name}-{number}"
                comments = [f"Of {source}, for a guest.", *part.setting.notes]
                files[folder / f"{title}.toml"] = layout_text(part.setting.layout, comments) + _MADE
    written = test.name if test in files else ""
    files[folder / _summary(name)] = summary(outcome, source=source, test=written)
    _check(files)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{reason(error)}; name another folder with --into") from None
    for path, text in files.items():
        write_atomically(path, text.encode(errors="backslashreplace"))
    return list(files)


def _best(outcome: Outcome) -> Attempt:
    """The try that said most."""
    return min(outcome.attempts, key=lambda each: (bool(each.trouble), len(each.missing)))


def _story(outcome: Outcome, answer: str) -> list[str]:
    """The lines that a reader of the test has to know."""
    lines = [answer, "", "The report's lines:"]
    lines += [f"    {each.raw}" for each in outcome.wanted.complaints[:8]]
    lines += [
        "",
        "The sequence of operations was found in the model of Linux: the shortest that leads to them.",
    ]
    for each in outcome.attempts:
        said = "says the same" if each.reproduced else "doesn't say all of them"
        lines.append(f"Linux {each.version} ({each.release}) {each.trouble or said}.")
    notes = [note for part in (outcome.plan.parts if outcome.plan else ()) for note in part.setting.notes]
    lines += [*([""] if notes else []), *dict.fromkeys(notes)]
    where = sources([complaint.kind for complaint in outcome.wanted.complaints])
    return [*lines, "", f"Source: {', '.join(where)}."] if where else lines
