"""A run as GitHub Actions shows it: a summary of the job in Markdown, and annotations of failures.

Guests print what they like. In the summary all that may be theirs is code, in which Markdown and HTML mean
nothing; in an annotation it is escaped as the runner wants it (actions/toolkit,
packages/core/src/command.ts).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from pytest_memtype.errors import HostError, harmless
from pytest_memtype.host.files import opened
from pytest_memtype.report.properties import DISAGREEMENTS, VERDICTS, summed
from pytest_memtype.report.result import Result, Status, by_kernel

SUMMARY: Final = "GITHUB_STEP_SUMMARY"
"""The variable of the environment by which GitHub Actions names the file of a step's summary."""

LARGEST: Final = 1 << 20
"""Bytes that GitHub takes of the summary of a step."""

MOST_ANNOTATIONS: Final = 10
"""Errors that GitHub shows of a step."""

_MOST_FAILURES: Final = 30
_REST: Final = b"\n\n(The rest is left out: GitHub takes 1 MiB.)\n"
_LONGEST: Final = 300


def job_summary(results: Sequence[Result], *, run: str) -> str:
    """The summary of a run: what came of the tests of each kernel, the failures, and the reported bugs.

    :param results: The results of the run's tests.
    :param run: The run's folder, for the reader of the logs.
    """
    bad = [each for each in results if each.status.is_bad]
    tests = f"{len(results)} test{'' if len(results) == 1 else 's'}"
    verb = f"{len(bad)} of {tests} failed" if bad else f"{tests}, as expected"
    parts = [f"## memtype: {verb}", _kernels(results)]
    if bad:
        parts += ["### Failures", *map(_failure, bad[:_MOST_FAILURES])]
        if len(bad) > _MOST_FAILURES:
            parts.append(f"... and {len(bad) - _MOST_FAILURES} more.")
    bugs = _bugs(results)
    if bugs:
        parts += ["### Reported bugs", bugs]
    parts.append(f"Records and logs: {code(run, in_table=False)}")
    return "\n\n".join(parts) + "\n"


def error_lines(results: Iterable[Result]) -> list[str]:
    """A line for each of the first failures, by which GitHub marks it in the test's file."""
    bad = [each for each in results if each.status.is_bad]
    return [
        f"::error file={_property(each.file)},line={max(each.line, 1)},title={_property(each.name)}::"
        + _message(each.headline or each.status.value)
        for each in bad[:MOST_ANNOTATIONS]
    ]


def add_to_summary(text: str) -> None:
    """Add Markdown to the summary of the step that GitHub Actions runs; elsewhere nothing is done.

    :param text: The Markdown. What GitHub wouldn't take is left out.
    :raises HostError: the file can't be written.
    """
    named = os.environ.get(SUMMARY)
    if not named:
        return
    path = Path(named)
    try:
        room = LARGEST
        if path.exists():
            with opened(path) as file:
                room -= os.fstat(file.fileno()).st_size
        added = text.encode()
        if len(added) > room:
            # Of a file that is larger GitHub shows nothing at all.
            lines = added[: max(room - len(_REST), 0)].rpartition(b"\n")[0]
            added = lines + _REST if len(_REST) <= room else b""
        # Others may have it open: it isn't replaced.
        with path.open("ab") as out:
            out.write(added)
    except OSError as error:
        raise HostError(f"{path}: {SUMMARY} can't be written ({error.strerror}); unset it") from None


def code(text: str, *, in_table: bool = True) -> str:
    """Any text as code in a line of Markdown.

    :param text: The text.
    :param in_table: Is the line one of a table? Elsewhere the backslash before a bar would be shown.
    """
    text = harmless(" ".join(text.split()))[:_LONGEST]
    text = text.replace("|", "\\|") if in_table else text
    longest = max((len(each) for each in re.findall("`+", text)), default=0)
    # A space at both ends isn't shown. Without any the fence could join a backtick of the text's.
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if text else ""


def _kernels(results: Iterable[Result]) -> str:
    head = "| kernel | passed | failed | skipped | mappings asked for | verifier and Linux disagree |"
    lines = [head, "|---|---:|---:|---:|---:|---:|"]
    for kernel, found in by_kernel(results).items():
        counts = Counter(each.status for each in found)
        failed = sum(count for status, count in counts.items() if status.is_bad)
        skipped = counts[Status.SKIPPED]
        sums = summed(each.properties for each in found)
        asked = sum(int(text) for name, text in sums.items() if name.startswith(VERDICTS))
        release = sums.get("kernel", "")
        name = code(kernel or "none") + (f" {code(release)}" if release and release not in kernel else "")
        cells = (name, len(found) - failed - skipped, failed, skipped, asked, sums.get(DISAGREEMENTS, 0))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _failure(result: Result) -> str:
    evidence = result.properties.get("evidence", "")
    more = f"<br>evidence: {code(evidence, in_table=False)}" if evidence else ""
    test, headline = code(result.test, in_table=False), code(result.headline, in_table=False)
    return f"- {test} {result.status.value}<br>{headline}{more}"


def _bugs(results: Iterable[Result]) -> str:
    seen = [each for each in results if "bug" in each.properties]
    if not seen:
        return ""
    lines = ["| bug | kernel | |", "|---|---|---|"]
    lines += [
        f"| {code(each.properties['bug'])} | {code(each.kernel)} | "
        f"{code(each.properties.get('bug.outcome', each.status.value))} |"
        for each in seen
    ]
    return "\n".join(lines)


def _message(text: str) -> str:
    return harmless(text)[:_LONGEST].replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
