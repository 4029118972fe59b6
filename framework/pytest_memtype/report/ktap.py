"""Results as KTAP (Documentation/dev-tools/ktap.rst): kernels, in each its files, in each its tests.

``console/ktap.py`` reads KTAP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from pytest_memtype.errors import harmless
from pytest_memtype.report.result import Result, Status, by_kernel

_NO_KERNEL: Final = "no kernel"
# Where the kernel's parser stops reading, wherever it stands (Linux 6.1,
# tools/testing/kunit/kunit_parser.py).
_END: Final = re.compile(
    "(?<=List of all partitions):|(?<=not syncing): (?=VFS:)|(?<=reboot): (?=System halted)"
)
_INDENT: Final = "  "
_MOST_LINES: Final = 200
_LONGEST: Final = 500


def ktap(results: Iterable[Result]) -> str:
    """The results of a run in KTAP, with what pytest says of each failure as diagnostics above its result."""
    tops = []
    for kernel, of_kernel in by_kernel(results).items():
        files: dict[str, list[Result]] = {}
        for each in of_kernel:
            files.setdefault(each.file, []).append(each)
        inner = [
            (file, [_test(each, number) for number, each in enumerate(tests, start=1)], _good(tests))
            for file, tests in files.items()
        ]
        parts = [_subtest(*each, number) for number, each in enumerate(inner, start=1)]
        tops.append((kernel or _NO_KERNEL, parts, _good(of_kernel)))
    lines = [line for number, top in enumerate(tops, start=1) for line in _subtest(*top, number)]
    return "\n".join(["KTAP version 1", f"1..{len(tops)}", *lines]) + "\n"


def _good(results: Sequence[Result]) -> bool:
    return not any(each.status.is_bad for each in results)


def _subtest(name: str, parts: Sequence[list[str]], good: bool, number: int) -> list[str]:
    """The lines of a test that has others in it: those indented, and its own result behind them."""
    inner = ["KTAP version 1", f"# Subtest: {_name(name)}", f"1..{len(parts)}"]
    inner += [line for part in parts for line in part]
    return [*(_INDENT + line for line in inner), f"{'ok' if good else 'not ok'} {number} {_name(name)}"]


def _test(result: Result, number: int) -> list[str]:
    head = f"{'not ok' if result.status.is_bad else 'ok'} {number} {_name(result.name)}"
    said = result.details.splitlines() if result.status.is_bad else []
    if len(said) > _MOST_LINES:
        said = [f"({len(said) - _MOST_LINES} lines before)", *said[-_MOST_LINES:]]
    # A line of the guest's that looks like a result is none behind this mark. With one space it could be a
    # header.
    lines = [f"#   {_line(line)}".rstrip() for line in said]
    directives = {
        Status.SKIPPED: "SKIP",
        Status.XFAILED: "XFAIL",
        Status.ERROR: "ERROR",
        Status.MISSED: "ERROR",
    }
    directive = directives.get(result.status)
    if directive:
        head += f" # {directive} {_line(result.headline)}".rstrip()
    return [*lines, head]


def _line(text: str) -> str:
    line = harmless(" ".join(text.split()))[:_LONGEST]
    return _END.sub(": ...", line)


def _name(text: str) -> str:
    # What follows this character is a directive.
    return _line(text).replace("#", "_")
