"""Which reports of the kernel a test expects, and what to say of the others."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pytest_memtype.console.reports import ConsoleReport


def complaint(
    reports: Sequence[ConsoleReport], expected: Sequence[str], *, finished: bool = True
) -> str | None:
    """What is wrong with a test's reports, None when nothing is.

    :param reports: What the kernel reported.
    :param expected: Regular expressions; each must be found in the title or a line of some report, and
        each report must be expected by one.
    :param finished: False for a test that was broken off, of which none must have come yet.
    """
    unexpected = [report for report in reports if not any(_matches(report, each) for each in expected)]
    missing = [
        each for each in expected if finished and not any(_matches(report, each) for report in reports)
    ]
    paragraphs = [
        f"the kernel reported {report.kind.value}: {report.title}\n" + "\n".join(report.lines)
        for report in unexpected
    ]
    paragraphs += [f"expect_oops: the kernel reported nothing that matches {each!r}" for each in missing]
    return "\n".join(paragraphs) or None


def _matches(report: ConsoleReport, pattern: str) -> bool:
    return any(re.search(pattern, text) for text in (report.title, *report.lines))
