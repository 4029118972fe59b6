from __future__ import annotations

import base64
import hashlib
import json
import os
import pickle
import zlib
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memtype.cluster.answer import LARGEST, plain_json, reports_of, take, take_kept
from pytest_memtype.errors import AnswerRefused, harmless

TEST = "test_a.py::test_x[debian:6.1]"


def _report(**changes: Any) -> dict[str, Any]:
    report = {"$report_type": "TestReport", "nodeid": TEST, "when": "teardown", "outcome": "passed"}
    return {**report, "duration": 0.5, "sections": [], "keywords": {}, "longrepr": None, **changes}


def _subtest(**changes: Any) -> dict[str, Any]:
    """A report of a subtest, as pytest 9 serialises it."""
    report = _report(when="call", _report_type="SubTestReport", **changes)
    del report["$report_type"]
    return {"_subtest.context": {"msg": "of it", "kwargs": {"number": "1"}}, **report}


def _record(**changes: Any) -> dict[str, Any]:
    texts = dict.fromkeys(("kernel", "kernel_version", "tested", "case", "operation", "actor"), "x")
    record = {**texts, "hardware": {}, "test": TEST, "guest": 1, "step": 1, "arguments": {}}
    return {**record, "schema": 2, **changes}


def _attempt(**changes: Any) -> dict[str, Any]:
    line = {"kernel": TEST, "output": "", **{k: v for k, v in changes.items() if k in ("kernel", "output")}}
    made = {"answer": "passed", "tries": ["passed"], "reason": "", "trouble": False}
    return {**line, "attempt": {**made, **{k: v for k, v in changes.items() if k in made}}}


def _log(name: str, content: bytes) -> dict[str, str]:
    return {"log": name, "data": base64.b64encode(zlib.compress(content)).decode()}


def _answer(*lines: Any) -> bytes:
    return zlib.compress(b"\n".join(json.dumps(line).encode() for line in lines))


def test_what_was_done_before_a_crash_counts() -> None:
    other = "test_a.py::test_y"
    answer = take(
        _answer(
            {"start": TEST},
            {"report": _report(memtype_records=[_record()])},
            {"start": other},
            {"report": _report(nodeid=other, when="setup")},
            {"died": "its process ended with status -9: \n"},
        ),
        {TEST, other},
    )
    assert list(answer.done) == [TEST]
    assert (answer.running, answer.died) == (other, "its process ended with status -9:")


class _Writes:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/memtype-was-here",)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (pickle.dumps(_Writes()), "isn't compressed"),
        ("text", "no bytes, but str"),
        (b"\0" * (LARGEST + 1), "64 are allowed"),
        (zlib.compress(b"\n" * (200 << 20)), "more than 128 MiB"),
        (zlib.compress(b"[1]"), "no object"),
        (zlib.compress(b"["), "isn't JSON"),
        (zlib.compress(b"[" * 100_000), "isn't JSON"),
        (zlib.compress(b'{"start": NaN}'), "NaN is no number"),
        (zlib.compress(b'{"start": 1e999}'), "1e999 is no number"),
        (_answer({"hello": 1}), "makes no sense"),
        (_answer({"start": "test_b.py::test_z"}), "makes no sense"),
        (_answer({"report": _report(nodeid="test_b.py::test_z")}), "another test, test_b.py::test_z"),
        (
            _answer({"report": _report(memtype_records=[_record(test="other")])}),
            "record of another test, other",
        ),
        (_answer({"report": _report(memtype_records=[_record(step="1")])}), "lacks step"),
        (_answer({"report": _report(outcome="splendid")}), "its outcome is 'splendid'"),
        (_answer({"report": _report(duration="long")}), "duration is 'long'"),
        (_answer({"report": _report(when="never")}), "isn't of a test's phase"),
        (_answer({"report": {**_subtest(), "when": "teardown"}}), "isn't of a test's phase"),
        (_answer({"report": {**_subtest(), "_report_type": "Other"}}), "isn't of a test's phase"),
        (_answer({"report": _subtest(**{"_subtest.context": None})}), "its subtest is None"),
        (_answer({"report": _subtest(**{"_subtest.context": {"msg": 1, "kwargs": {}}})}), "its subtest is"),
        (_answer({"report": _subtest(**{"_subtest.context": {"msg": "", "kwargs": []}})}), "its subtest is"),
        (_answer({"report": _report(sections=[["a"]])}), "sections aren't texts"),
        (_answer({"log": "../../.bashrc", "data": ""}), "a log is named"),
        (_answer({"log": "/etc/passwd", "data": ""}), "a log is named"),
        (_answer({"log": "a/b.log", "data": "%"}), "makes no sense"),
        (_answer(*(_log(f"a/{n}.log", bytes(1 << 20)) for n in range(64))), "logs have more than 16 MiB"),
        (_answer(*(_log(f"a/{n}.log", b"") for n in range(20_000))), "logs have more than 16 MiB"),
        (_answer({"kept": "test_b.py::test_z", "name": "0" * 64}), "makes no sense"),
        (_answer({"kept": TEST, "name": "../../.bashrc"}), "makes no sense"),
        (_answer({"kept": TEST, "name": ["0" * 64]}), "makes no sense"),
        (_answer(_attempt(kernel="debian:6.12")), "makes no sense"),
        (_answer(_attempt(answer="splendid")), "its attempt is .*splendid"),
        (_answer(_attempt(tries=["passed"] * 9)), "its attempt is"),
        (_answer(_attempt(tries=[])), "its attempt is"),
        (_answer(_attempt(tries=[{}])), "its attempt is"),
        (_answer(_attempt(output=7)), "makes no sense"),
    ],
)
def test_a_hostile_answer_is_refused(data: object, why: str) -> None:
    with pytest.raises(AnswerRefused, match=why):
        take(data, {TEST})


def test_texts_that_steer_a_terminal_are_escaped() -> None:
    answer = take(_answer({"report": _report(sections=[["out", "\x1b[2Jcleared\tyes"]])}), {TEST})
    assert answer.done[TEST][0]["sections"] == [["out", "\\x1b[2Jcleared\tyes"]]


@given(st.text(), st.booleans())
def test_so_are_those_of_any_line(text: str, ascii_alone: bool) -> None:
    made = plain_json(json.dumps([text], ensure_ascii=ascii_alone).encode())
    assert made == ["\t".join(map(harmless, text.split("\t")))]


def test_an_attribute_of_a_report_that_nobody_knows_is_left_out() -> None:
    answer = take(_answer({"report": _report(toterminal="x", node="y")}), {TEST})
    assert answer.done[TEST][0].keys() == _report().keys()


def test_subtests_come_back_with_what_tells_them_apart() -> None:
    context = {"msg": "m" * 600, "kwargs": {"v" * 600: "w" * 600, "number": 1, "all": [1, 2]}, "more": 1}
    sub = [_subtest(outcome="failed"), _subtest(**{"_subtest.context": context})]
    answer = take(_answer(*({"report": each} for each in (*sub, _report(when="call"), _report()))), {TEST})
    first, second, call, teardown = answer.done[TEST]
    assert first == sub[0]
    # pytest-subtests has other values than texts.
    kwargs = {"v" * 500: "w" * 500, "number": 1, "all": "[1, 2]"}
    assert second["_subtest.context"] == {"msg": "m" * 500, "kwargs": kwargs}
    assert (call, teardown) == (_report(when="call"), _report())
    assert reports_of(answer.done[TEST], TEST) == answer.done[TEST]


def test_a_report_of_a_test_has_nothing_of_a_subtest() -> None:
    answer = take(_answer({"report": _report(_report_type="Other", **{"_subtest.context": 1})}), {TEST})
    assert answer.done[TEST][0].keys() == _report().keys()


def test_a_test_that_a_plugin_runs_again_has_ended_with_its_last_run() -> None:
    """pytest-rerunfailures gives no report of what comes behind the phase that has failed."""
    told = [
        *(_report(when="setup"), _report(when="call", outcome="rerun")),
        *(_report(when="setup"), _report(when="call"), _report(outcome="rerun")),
        *(_report(when="setup"), _report(when="call"), _report()),
    ]
    answer = take(_answer({"start": TEST}, *({"report": each} for each in told)), {TEST})
    assert answer.done[TEST] == told
    assert reports_of(told, TEST) == told
    cut_off = take(_answer({"start": TEST}, *({"report": each} for each in told[:5])), {TEST})
    assert (cut_off.done, cut_off.running) == ({}, TEST)
    with pytest.raises(AnswerRefused, match="has not ended"):
        reports_of(told[:5], TEST)


def test_an_attempt_comes_back() -> None:
    answer = take(_answer({"start": TEST}, _attempt(output="\x1b[2Jsaid", reason="a\nb")), {TEST})
    made = {"answer": "passed", "tries": ["passed"], "reason": "a b", "memtype_blame": "test"}
    assert answer.done == {TEST: [{**made, "output": "\\x1b[2Jsaid"}]}
    assert answer.running == ""


def test_logs_come_back() -> None:
    answer = take(_answer(_log("test-x-0123/guest-1/console.log", b"console")), {TEST})
    assert answer.logs == {PurePosixPath("test-x-0123/guest-1/console.log"): b"console"}


def test_where_logs_are_kept_comes_back() -> None:
    name = hashlib.sha256(b"logs").hexdigest()
    answer = take(_answer({"kept": TEST, "name": name}, {"worker": "tls://192.0.2.1:7\n"}), {TEST})
    assert (answer.kept, answer.worker) == ({TEST: name}, "tls://192.0.2.1:7")


def _name_of(answer: bytes) -> str:
    return hashlib.sha256(zlib.decompress(answer)).hexdigest()


def test_kept_logs_come_back() -> None:
    answer = _answer(_log("own/a.log", b"a"), _log("own/b.log", b"b"))
    taken = take_kept(answer, _name_of(answer), ["own", "shared"].__contains__)
    assert taken.logs == {PurePosixPath("own/a.log"): b"a", PurePosixPath("own/b.log"): b"b"}
    assert take_kept(_answer({"lacks": "x", "why": "gone"}), "x", ["own"].__contains__).lacks == "gone"


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([_log("other/a.log", b"a")], "it has logs of other tests"),
        ([_log("own/a.log", b"a"), _log("records/a.log", b"a")], "it has logs of other tests"),
        ([_log("own/../other/a.log", b"a")], "a log is named"),
        ([_log("own", b"a")], "a log is named"),
        ([{"report": _report()}], "another test"),
        ([{"start": TEST}], "makes no sense"),
        ([{"worker": "tls://192.0.2.1:7"}], "isn't what was kept"),
        ([_log(f"own/{n}.log", bytes(1 << 20)) for n in range(64)], "logs have more than 16 MiB"),
    ],
)
def test_kept_logs_are_refused_even_if_that_was_kept(lines: list[dict[str, Any]], why: str) -> None:
    answer = _answer(*lines)
    with pytest.raises(AnswerRefused, match=why):
        take_kept(answer, _name_of(answer), ["own", "shared"].__contains__)


def test_other_logs_than_were_kept_are_refused() -> None:
    answer = _answer(_log("own/a.log", b"a"))
    with pytest.raises(AnswerRefused, match="it isn't what was kept when the test ended"):
        take_kept(_answer(_log("own/a.log", b"b")), _name_of(answer), ["own"].__contains__)
