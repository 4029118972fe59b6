"""The judgement of what a worker answers: it is as little trusted as what a guest says.

An answer is bytes of compressed JSON lines. One that is too large, or says something about a test that wasn't
asked for, or holds a number or text that no run of ours produces, is refused as a whole.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
import reprlib
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pytest_memtype.bisect.attempt import FAILED, PASSED, UNKNOWN
from pytest_memtype.errors import AnswerRefused, harmless
from pytest_memtype.report.record import lacking, plain
from pytest_memtype.run import kept_logs
from pytest_memtype.run.blame import ATTRIBUTE, Blame

LARGEST: Final = 64 << 20
"""Bytes of an answer, compressed."""

LARGEST_LOG: Final = 256 << 10
"""Bytes of a log that travel: its end. The logs of a guest that booted and ran a test take 60 KiB."""

LARGEST_LOGS: Final = 16 << 20
"""Bytes of the logs of an answer together, by :func:`log_size`."""

_LARGEST_UNPACKED: Final = 128 << 20
_LONGEST_LINE: Final = 500
_FILE: Final = 1 << 10
_PHASES: Final = ("setup", "call", "teardown")
# The last one is that of a phase after which pytest-rerunfailures runs the test again.
_OUTCOMES: Final = ("passed", "failed", "skipped", "rerun")
# What pytest's own reports have, and this package's attributes. Others could replace a method.
_OF_REPORTS: Final = """
    nodeid location keywords outcome longrepr when user_properties sections duration start stop wasxfail
    $report_type memtype_records memtype_audits memtype_blame memtype_bug memtype_reproduces memtype_kept
    memtype_layouts
"""
# What the reports of subtests have besides (_pytest/subtests.py of 9.0, and the plugin pytest-subtests).
_OF_SUBTESTS: Final = "_report_type _subtest.context"
_MOST_VALUES: Final = 100
_ANSWERS: Final = (PASSED, FAILED, UNKNOWN)
_MOST_TRIES: Final = 8
# A line of these bytes, without such an escape, has no text that plain() would change. Looking at each text
# takes as long as all else that is done with an answer; one expression for both takes twelve times as long.
_PRINTED: Final = bytes(range(ord(" "), ord("~") + 1))
_ESCAPE: Final = re.compile(rb'\\[^n"\\/]')
_PART: Final = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9_.=-]*")


@dataclass
class Answer:
    """An answer that was taken.

    :ivar done: Reports of the tests that were run to their end, as pytest serialises them, by node id; of a
        bisection its one attempt, by the kernel.
    :ivar running: The test that had begun and not ended; empty if none.
    :ivar missing: Tests that aren't collected there.
    :ivar logs: Files of failed tests, by their path below the run's folder.
    :ivar logs_size: What they come to by :func:`log_size`.
    :ivar kept: Names under which the worker keeps the logs of tests that passed, by node id.
    :ivar worker: The worker's address, where it keeps any.
    :ivar remarks: Lines about that machine.
    :ivar able: What the worker has, where that was asked.
    :ivar unable: Why the worker can't run guests; empty if it can.
    :ivar lacks: Why the worker hasn't got the kernel; empty if it has.
    :ivar died: How the process of the tests ended; empty if it answered to the end.
    :ivar trouble: Why no test could be run, with pytest's exit status; None if tests could.
    :ivar uncollected: What pytest said of files that it couldn't collect.
    :ivar said: The end of what pytest printed, where it ended otherwise than after its tests.
    """

    done: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    running: str = ""
    missing: list[str] = field(default_factory=list)
    logs: dict[PurePosixPath, bytes] = field(default_factory=dict)
    logs_size: int = 0
    kept: dict[str, str] = field(default_factory=dict)
    worker: str = ""
    remarks: list[str] = field(default_factory=list)
    able: dict[str, Any] | None = None
    unable: str = ""
    lacks: str = ""
    died: str = ""
    trouble: tuple[str, int] | None = None
    uncollected: str = ""
    said: str = ""


def take(data: object, nodeids: Collection[str]) -> Answer:
    """Read a worker's answer.

    :param data: What its task returned.
    :param nodeids: The tests that it was asked to run.
    :raises AnswerRefused: it isn't an answer to that.
    """
    answer, reports = Answer(), dict[str, list[dict[str, Any]]]()
    for line in _lines(data):
        try:
            _take_line(line, answer, reports, nodeids)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, binascii.Error, zlib.error):
            raise AnswerRefused(f"a line of it makes no sense: {harmless(str(line)[:80])}") from None
    return answer


def take_kept(data: object, name: str, of_test: Callable[[str], bool]) -> Answer:
    """Read a worker's answer to the question for logs that it keeps: those, or why it doesn't have them.

    :param data: What its task returned.
    :param name: The SHA-256 of what it kept when the test ended.
    :param of_test: Whether the test's logs may be in a folder of this name.
    :raises AnswerRefused: it isn't what was kept, or would write elsewhere.
    """
    answer = take(data, ())
    if answer.lacks or answer.unable:
        return answer
    if not answer.logs or hashlib.sha256(_unpacked(data)).hexdigest() != name:
        raise AnswerRefused("it isn't what was kept when the test ended")
    if not all(of_test(path.parts[0]) for path in answer.logs):
        raise AnswerRefused("it has logs of other tests")
    return answer


def log_size(content: bytes) -> int:
    """Size of a log as :data:`LARGEST_LOGS` counts it: its bytes, and some for the file that is made of it.

    :param content: The log.
    """
    return len(content) + _FILE


def reports_of(content: object, nodeid: str) -> list[dict[str, Any]]:
    """Check the reports of a test that has ended, as of a run's journal.

    :param content: The reports.
    :param nodeid: The test.
    :raises AnswerRefused: they aren't.
    """
    if not isinstance(content, list):
        raise AnswerRefused("it has no reports")
    reports = [_report(each, {nodeid}) for each in content]
    if not reports or not _is_last(reports[-1]):
        raise AnswerRefused(f"{nodeid} has not ended")
    return reports


def plain_json(text: str | bytes) -> Any:
    """JSON without NaN, infinite numbers, and texts that steer a terminal: those are escaped.

    :param text: The JSON.
    :raises AnswerRefused: it isn't such.
    """
    try:
        content = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        if not _may_steer(text if isinstance(text, bytes) else text.encode()):
            return content
        return plain(content, _but_tabs)
    except (ValueError, RecursionError) as error:
        raise AnswerRefused(f"it isn't JSON: {harmless(str(error))[:80]}") from None


def _may_steer(line: bytes) -> bool:
    return bool(line.translate(None, _PRINTED)) or _ESCAPE.search(line) is not None


def _lines(data: object) -> Iterator[dict[str, Any]]:
    for line in _unpacked(data).splitlines():
        content = plain_json(line)
        if not isinstance(content, dict) or len(content) == 0:
            raise AnswerRefused("a line of it is no object")
        yield content


def _unpacked(data: object) -> bytes:
    if not isinstance(data, bytes):
        raise AnswerRefused(f"it is no bytes, but {type(data).__name__}")
    if len(data) > LARGEST:
        raise AnswerRefused(f"it has {len(data) >> 20} MiB; {LARGEST >> 20} are allowed")
    reader = zlib.decompressobj()
    try:
        unpacked = reader.decompress(data, _LARGEST_UNPACKED)
    except zlib.error:
        raise AnswerRefused("it isn't compressed as ours are") from None
    if reader.unconsumed_tail or not reader.eof:
        raise AnswerRefused(f"it has more than {_LARGEST_UNPACKED >> 20} MiB unpacked, or isn't whole")
    return unpacked


def _take_line(
    line: dict[str, Any], answer: Answer, reports: dict[str, list[dict[str, Any]]], nodeids: Collection[str]
) -> None:
    match line:
        case {"report": content}:
            report = _report(content, nodeids)
            reports.setdefault(report["nodeid"], []).append(report)
            if _is_last(report):
                answer.done.setdefault(report["nodeid"], reports.pop(report["nodeid"]))
                answer.running = ""
        case {"attempt": dict(made), "kernel": str(kernel), "output": str(output)} if kernel in nodeids:
            answer.done[kernel] = [{**_attempt(made), "output": output}]
            answer.running = ""
        case {"start": str(nodeid)} if nodeid in nodeids:
            answer.running = nodeid
        case {"missing": list(missing)}:
            answer.missing = [each for each in missing if each in nodeids]
        case {"log": str(name), "data": str(data)}:
            path = PurePosixPath(name)
            if not all(_PART.fullmatch(part) for part in path.parts) or not 1 < len(path.parts) < 6:
                raise AnswerRefused(f"a log is named {name[:80]!r}")
            reader = zlib.decompressobj()
            log = reader.decompress(base64.b64decode(data, validate=True), LARGEST_LOG)
            answer.logs_size += log_size(log)
            if answer.logs_size > LARGEST_LOGS:
                raise AnswerRefused(f"its logs have more than {LARGEST_LOGS >> 20} MiB")
            answer.logs[path] = log
        case {"kept": str(nodeid), "name": str(name)} if nodeid in nodeids and kept_logs.NAME.fullmatch(name):
            answer.kept[nodeid] = name
        case {"worker": str(address)}:
            answer.worker = _one_line(address)
        case {"able": dict(facts)}:
            answer.able = _facts(facts)
        case {"unable": str(why)}:
            answer.unable = _one_line(why)
        case {"lacks": str(), "why": str(why)}:
            answer.lacks = _one_line(why)
        case {"uncollected": str(name), "why": str(why)}:
            answer.uncollected = f"{name}: {why}"
        case {"died": str(why)}:
            answer.died = _one_line(why)
        case {"end": int(), "remarks": list(remarks), "trouble": trouble, "said": str(said)}:
            answer.said = _one_line(said[-_LONGEST_LINE:])
            answer.remarks = [_one_line(each) for each in remarks]
            answer.trouble = (_one_line(trouble[0]), int(trouble[1])) if trouble else None
        case _:
            raise AnswerRefused(f"a line of it makes no sense: {harmless(str(line)[:80])}")


def _is_last(report: dict[str, Any]) -> bool:
    return bool(report["when"] == "teardown" and report["outcome"] != "rerun")


def _report(content: object, nodeids: Collection[str]) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise AnswerRefused("a report is no object")
    nodeid = content.get("nodeid")
    if nodeid not in nodeids:
        raise AnswerRefused(f"it has a report of another test, {str(nodeid)[:120]}")
    of_subtest = content.get("_report_type") == "SubTestReport"
    phases = ("call",) if of_subtest else _PHASES if content.get("$report_type") == "TestReport" else ()
    if content.get("when") not in phases:
        raise AnswerRefused(f"{nodeid}: its report isn't of a test's phase")
    if content.get("outcome") not in _OUTCOMES:
        raise AnswerRefused(f"{nodeid}: its outcome is {str(content.get('outcome'))[:80]!r}")
    for name, kind in (("duration", int | float), ("sections", list), ("keywords", dict)):
        if not isinstance(content.get(name), kind):
            raise AnswerRefused(f"{nodeid}: {name} is {str(content.get(name))[:80]!r}")
    if content.get(ATTRIBUTE, Blame.TEST) not in tuple(Blame):
        raise AnswerRefused(f"{nodeid}: its fault lies in {str(content[ATTRIBUTE])[:80]!r}")
    if not all(
        len(each) == 2 and all(isinstance(part, str) for part in each) for each in content["sections"]
    ):
        raise AnswerRefused(f"{nodeid}: its sections aren't texts")
    records = content.get("memtype_records", [])
    if not isinstance(records, list) or not all(isinstance(each, dict) for each in records):
        raise AnswerRefused(f"{nodeid}: it has records that are none")
    for record in records:
        if record.get("test") != nodeid:
            raise AnswerRefused(f"{nodeid}: it has a record of another test, {str(record.get('test'))[:120]}")
        if lacking(record):
            raise AnswerRefused(f"{nodeid}: a record of it lacks {', '.join(lacking(record))}")
    known = {*_OF_REPORTS.split(), *(_OF_SUBTESTS.split() if of_subtest else ())}
    report = {name: value for name, value in content.items() if name in known}
    if of_subtest:
        report["_subtest.context"] = _subtest(content.get("_subtest.context"), nodeid)
    return report


def _subtest(context: object, nodeid: object) -> dict[str, Any]:
    """Check what tells a subtest from others: its message and its values.

    :param context: Both, as pytest serialises them.
    :param nodeid: The test.
    :raises AnswerRefused: it isn't that.
    """
    match context:
        case {"msg": str() | None as message, "kwargs": dict(values)}:
            some = list(values.items())[:_MOST_VALUES]
            kwargs = {name[:_LONGEST_LINE]: _value(value) for name, value in some}
            return {"msg": message and message[:_LONGEST_LINE], "kwargs": kwargs}
    raise AnswerRefused(f"{nodeid}: its subtest is {harmless(reprlib.repr(context))[:80]}")


def _value(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    # pytest has made a text of each value. The plugin hasn't, and they may be of any depth.
    return (value if isinstance(value, str) else reprlib.repr(value))[:_LONGEST_LINE]


def _attempt(made: dict[str, Any]) -> dict[str, Any]:
    tries = list(made["tries"])
    if not 0 < len(tries) <= _MOST_TRIES or not all(each in _ANSWERS for each in (made["answer"], *tries)):
        raise AnswerRefused(f"its attempt is {harmless(str(made))[:80]}")
    return {
        "answer": made["answer"],
        "tries": tries,
        "reason": _one_line(made["reason"]),
        ATTRIBUTE: Blame.HOST if made["trouble"] else Blame.TEST,
    }


def _facts(facts: dict[str, Any]) -> dict[str, Any]:
    kinds: dict[str, Callable[[Any], Any]] = {
        "qemu": str,
        "kvm": bool,
        "python": str,
        "package": str,
        "room": int,
        "remark": str,
    }
    return {
        name: _one_line(facts[name]) if kind is str else kind(facts[name]) for name, kind in kinds.items()
    }


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:_LONGEST_LINE]


def _but_tabs(text: str) -> str:
    # Lines of a test's source have them.
    return "\t".join(map(harmless, text.split("\t")))


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


def write_logs(run: Path, logs: dict[PurePosixPath, bytes]) -> None:
    """Write logs into a run's folder. Their names were checked.

    :param run: The folder.
    :param logs: Their contents, by their path below it.
    """
    for name, data in logs.items():
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
