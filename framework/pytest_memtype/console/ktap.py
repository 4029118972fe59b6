"""KTAP, in which the kernel's own tests say what came of each (Documentation/dev-tools/ktap.rst)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# Nothing is given back: a line that is no result would be tried in each of n * n * n ways.
_RESULT: Final = re.compile(
    r"(?P<failed>not )?ok (?P<number>\d++)(?:\s++-)?(?P<name>[^#]*+)"
    r"(?:# (?P<directive>SKIP|XFAIL|TODO|TIMEOUT|ERROR)\b\s*(?P<reason>.*))?",
    re.IGNORECASE,
)
_PLAN: Final = re.compile(r"1\.\.(?P<count>\d{1,9})(?:\s*# SKIP\b\s*(?P<reason>.*))?", re.IGNORECASE)
# What kselftest_harness.h says of each test, whatever comes of it.
_PASSING: Final = re.compile(r"#\s+(RUN|OK|FAIL|Starting \d+ tests)\b")
_BAIL: Final = re.compile(r"Bail out!\s*(?P<reason>.*)")

# kselftest.h's status of a program that skips all (KSFT_SKIP).
_SKIP_STATUS: Final = 4

# What a guest says may be anything.
_LONGEST: Final = 200


@dataclass(frozen=True)
class Subtest:
    """Result of one test of a program, as it says itself.

    :param name: The test's name.
    :param result: ``ok``, ``failed`` or ``skipped``.
    :param reason: Why it was skipped, or what the program said before it failed, in one line.
    """

    name: str
    result: str
    reason: str = ""


def subtests(text: str, *, status: int, program: str) -> tuple[Subtest, ...]:
    """Read what a program has printed. One that says less than its plan, or no KTAP, is judged by its status.

    Nested KTAP isn't read: programs of kselftest print none.

    :param text: All that it printed, without control characters.
    :param status: Its exit status: 0 passed, 4 skipped, others failed (kselftest.h).
    :param program: Its name, for a result that isn't one test's.
    """
    lines = text.splitlines()
    # kselftest.h counts behind it, whatever happened.
    plain = (line.strip() for line in reversed(lines) if not line.startswith("#"))
    last = next((line[:_LONGEST] for line in plain if line), "nothing")
    found: list[Subtest] = []
    planned: int | None = None
    said: list[str] = []
    for line in lines:
        if plan := _PLAN.fullmatch(line):
            planned = int(plan["count"])
            if planned == 0:
                return (Subtest(program, "skipped", (plan["reason"] or "")[:_LONGEST]),)
        elif bail := _BAIL.fullmatch(line):
            return (*found, Subtest(program, "failed", f"it gave up: {bail['reason'][:_LONGEST]}"))
        elif result := _RESULT.fullmatch(line):
            found.append(_subtest(result, said))
            said.clear()
        elif line.startswith("# ") and not _PASSING.match(line):
            said.append(line[2:].strip()[:_LONGEST])
    if planned is not None and len(found) < planned:
        ended = f"it ended with status {status} after {len(found)} of {planned} tests; its last line: {last}"
        return (*found, Subtest(program, "failed", ended))
    if not found:
        result_of = {0: "ok", _SKIP_STATUS: "skipped"}.get(status, "failed")
        return (Subtest(program, result_of, "" if result_of == "ok" else f"status {status}: {last}"),)
    if status not in (0, _SKIP_STATUS) and all(each.result != "failed" for each in found):
        return (*found, Subtest(program, "failed", f"it ended with status {status}"))
    return tuple(found)


def _subtest(result: re.Match[str], said: list[str]) -> Subtest:
    name = (result["name"].strip() or result["number"])[:_LONGEST]
    reason = (result["reason"] or "").strip()[:_LONGEST]
    match (result["directive"] or "").upper():
        case "SKIP":
            return Subtest(name, "skipped", reason)
        case "XFAIL" | "TODO":
            return Subtest(name, "ok", f"fails, as it is known to: {reason}")
        case "TIMEOUT" | "ERROR" as directive:
            return Subtest(name, "failed", directive.lower())
    if result["failed"]:
        return Subtest(name, "failed", "; ".join(said[-3:]))
    return Subtest(name, "ok")
