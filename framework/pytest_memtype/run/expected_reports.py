"""A comparison of the kernel's reports with those that a test expects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pytest_memtype.console.reports import ConsoleReport

_MOST_LINES: Final = 12
# Registers, code, marks, what the machine is, and frames that the kernel isn't sure of
# (arch/x86/kernel/dumpstack.c).
_DUMP: Final = re.compile(
    r"(\[ *\d+\.\d+\] )?"
    r"(-+\[ |R[A-Z0-9]{2}: |[FC]S: |[CD]R[0-9]: |Code: |PKRU: |Hardware name: |Modules linked| *</?TASK>"
    r"| *\? )"
)


def complaint(
    reports: Sequence[ConsoleReport], expected: Sequence[str], *, finished: bool = True
) -> str | None:
    """Say what is wrong with the reports of a test's kernels; None when nothing is.

    :param reports: The kernel's reports during the test.
    :param expected: Regular expressions; each must be found in the title or a line of some report, and
        each report must be expected by one.
    :param finished: False for a test that was broken off: then a report that didn't come yet isn't missing.
    """
    unexpected = [report for report in reports if not any(_matches(report, each) for each in expected)]
    missing = [
        each for each in expected if finished and not any(_matches(report, each) for report in reports)
    ]
    paragraphs = [
        "\n".join([f"the kernel reported {_named(report)}", *excerpt(report.lines)]) for report in unexpected
    ]
    paragraphs += [f"expect_oops: the kernel reported nothing that matches {each!r}" for each in missing]
    return "\n".join(paragraphs) or None


def excerpt(lines: Sequence[str]) -> list[str]:
    """The lines of a report that tell what happened and who called; all of it is in the guest's console.log.

    :param lines: The report's lines.
    """
    telling = [line for line in lines if not _DUMP.match(line)]
    shown = telling[:_MOST_LINES]
    left = len(lines) - len(shown)
    return [*shown, f"({left} more lines are in the guest's console.log)"] if left else shown


def _named(report: ConsoleReport) -> str:
    """The title of a report, behind its kind where the title doesn't begin with that."""
    kind, title = report.kind.value, report.title
    return title if title.casefold().startswith(kind.casefold()) else f"{kind}: {title}"


def _matches(report: ConsoleReport, pattern: str) -> bool:
    return any(re.search(pattern, text) for text in (report.title, *report.lines))
