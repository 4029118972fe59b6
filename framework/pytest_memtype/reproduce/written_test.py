"""The test that a report becomes: its own words, and what was found out about the report."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pytest_memtype.errors import harmless
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.reproduce.attempt import Attempt
from pytest_memtype.reproduce.bug_facts import BugFacts
from pytest_memtype.reproduce.calls import Call, calls_of, helpers
from pytest_memtype.reproduce.plan import Part, Plan
from pytest_memtype.reproduce.setting import FIRMWARE
from pytest_memtype.reproduce.wanted import BOOT
from pytest_memtype.reproduce.words import expected
from pytest_memtype.x86.mtrr import MtrrRange

_WIDTH: Final = 108
_PLAIN: Final = Hardware()


def text_of_test(
    plan: Plan,
    *,
    attempt: Attempt,
    source: str,
    story: Sequence[str],
    bug: BugFacts | None = None,
) -> str:
    """The file of a test.

    :param plan: What has to be done.
    :param attempt: What a kernel said when that was done.
    :param source: The name of the report.
    :param story: What was found out, in lines.
    :param bug: The facts for the marker ``bug``; None for a test without it.
    """
    calls = [calls_of(part) for part in plan.parts]
    lines = [*_docstring(source, story), "", "from __future__ import annotations", ""]
    lines += _imports(plan, calls, bug, attempt)
    if bug is not None:
        lines += ["", *_marker(bug, plan, calls)]
    for text in helpers([call for some in calls for call in some]):
        lines += ["", "", text.rstrip()]
    for number, (part, some) in enumerate(zip(plan.parts, calls, strict=True), start=1):
        words = expected(part, attempt.made)
        warned = number - 1 in attempt.warned and bug is None
        name = "test_the_kernel_says_it_again" if len(calls) == 1 else f"test_part_{number}"
        lines += ["", "", *_test(name, part, some, words, bug=bug is not None, warned=warned)]
    return "\n".join(lines) + "\n"


def _docstring(source: str, story: Sequence[str]) -> list[str]:
    first = f"What {quoted(source)} reports, made again."
    body = [line for each in story for line in (_wrapped(quoted(each)) or [""])]
    return [f'"""{first}', "", *body, '"""']


def quoted(text: str) -> str:
    """A text of a report as it may stand in a docstring: printable, ASCII, without quotes and backslashes."""
    plain = harmless(text).encode("ascii", "backslashreplace").decode()
    return re.sub(r"\s+", " ", plain.replace("\\", "/").replace('"""', "'''").replace('"', "'")).strip()


def _literal(value: object) -> str:
    """A value as Python text; text with the quotes that formatters like."""
    # JSON has two halves for what is beyond 16 bits, which Python would take for two letters.
    return json.dumps(value) if isinstance(value, str) and value.isascii() else ascii(value)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_long_words=True, break_on_hyphens=False)


def _imports(
    plan: Plan,
    calls: Sequence[Sequence[Call]],
    bug: BugFacts | None,
    attempt: Attempt,
) -> Iterator[str]:
    body = [str(call) for some in calls for call in some]
    names = ["Guest"]
    if any("MemType." in line for line in body) or any(part.setting.layout.default for part in plan.parts):
        names.append("MemType")
    if any(part.setting.layout != FIRMWARE for part in plan.parts):
        names.append("Layout")
    if any(part.setting.layout.ranges for part in plan.parts):
        names.append("MtrrRange")
    if bug is not None:
        names.append("Sighting")
    if any(not call.on for some in calls for call in some):
        names.append("Process")
    if any(call.may_fail for some in calls for call in some):
        yield from ("import contextlib", "")
    if bug is not None or attempt.warned or any(map(_markers, plan.parts)):
        yield from ("import pytest", "")
    yield f"from pytest_memtype import {', '.join(sorted(names))}"


def _marker(bug: BugFacts, plan: Plan, calls: Sequence[Sequence[Call]]) -> Iterator[str]:
    """The facts of the bug."""
    yield "pytestmark = pytest.mark.bug("
    yield f"    id={_literal(bug.id)},"
    said = next((each.raw for part in plan.parts for each in part.complaints), "")
    title = quoted(f"the kernel says: {said}")[:90]
    yield f"    title={_literal(title)},"
    if bug.introduced is not None:
        yield f"    introduced={_literal(bug.introduced)},"
    if bug.fixed is not None:
        yield f"    fixed={_literal(bug.fixed)},"
    if bug.backports:
        yield f"    backports={bug.backports!r},"
    last = next((call for some in calls for call in reversed(some) if call.on != "guest"), None)
    core = "Guest" if last is None else f"{'Driver' if last.on == 'driver' else 'Process'}.{last.method}"
    yield f"    core={_literal(core)},"
    yield '    kind="observed",'
    yield ")"


def _markers(part: Part, *, warned: bool = False) -> list[str]:
    """The markers of a part's test."""
    found = []
    layout, hardware = part.setting.layout, part.setting.hardware
    if layout != FIRMWARE:
        found.append(f"@pytest.mark.layout({_layout(layout)})")
    given = [
        f"{name}={_literal(getattr(hardware, name))}"
        for name in ("cpu", "memory", "cpus", "cmdline")
        if getattr(hardware, name) != getattr(_PLAIN, name)
    ]
    if given:
        found.append(f"@pytest.mark.hardware({', '.join(given)})")
    if warned:
        found.append('@pytest.mark.expect_oops(match="WARNING")')
    return found


def _layout(layout: Layout) -> str:
    given = [_literal(layout.name)]
    if layout.default is not None:
        given.append(f"default=MemType.{layout.default.name}")
    if layout.ranges:
        given.append(f"ranges=[{', '.join(map(_range, layout.ranges))}]")
    if layout.fixed is not None:
        given.append(f"fixed=[{', '.join(f'{each:#x}' for each in layout.fixed)}]")
    given += [f"{name}=False" for name in ("enabled", "fixed_enabled") if not getattr(layout, name)]
    return f"Layout({', '.join(given)})"


def _range(each: MtrrRange) -> str:
    rest = f", ignored_bits={each.ignored_bits:#x}" if each.ignored_bits else ""
    rest += "" if each.register is None else f", register={each.register}"
    return f"MtrrRange({each.base:#x}, {each.size:#x}, MemType.{each.memtype.name}{rest})"


def _test(
    name: str, part: Part, calls: Sequence[Call], words: Sequence[str], *, bug: bool, warned: bool
) -> Iterator[str]:
    yield from _markers(part, warned=warned)
    yield f"def {name}(guest: Guest{', bug: Sighting' if bug else ''}) -> None:"
    for call in calls:
        if call.may_fail:
            yield "    with contextlib.suppress(OSError):"
            yield f"        {_unused(call, calls)}"
        else:
            yield f"    {_unused(call, calls)}"
    yield ""
    if any(each.kind in BOOT for each in part.complaints):
        yield '    log = guest.shell("dmesg | grep -i -e mtrr -e pat").output'
    else:
        yield '    log = "\\n".join(guest.log)'
    lines = list(words)
    if bug:
        yield from _each_line(lines)
        yield "    said = [line for line in wanted if line in log]"
        yield '    bug.harm(said == wanted, f"the kernel says {said}")'
        return
    if lines:
        yield from _each_line(lines)
        yield "    assert [line for line in wanted if line in log] == wanted"
    for each in part.entries:
        start, end = each.span.start + part.setting.offset, each.span.end + 1 + part.setting.offset
        yield f"    region = guest.region({start:#x}, {end - start:#x})"
        yield "    types = {each.memtype for each in guest.memtype_list(region)}"
        yield f"    assert types == {{MemType.{each.memtype.name}}}"


def _each_line(lines: Iterable[str]) -> Iterator[str]:
    yield "    wanted = ["
    yield from (f"        {_literal(line)}," for line in lines)
    yield "    ]"


def _unused(call: Call, calls: Sequence[Call]) -> str:
    """The call, without a variable that no other uses."""
    text = str(call)
    used = re.compile(rf"\b{re.escape(call.result)}\b") if call.result else None
    others = [str(each) for each in calls if each is not call]
    if used is not None and not any(used.search(each) for each in others):
        return text.partition(" = ")[2].removesuffix(f".{call.attribute}" if call.attribute else "")
    return text
