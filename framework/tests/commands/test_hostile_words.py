"""Words that end a string, move a terminal's cursor or are no text: each is one line, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pytest_memtype import Hardware, Layout, MemType, MtrrRange
from pytest_memtype.cli import main
from pytest_memtype.errors import HostError, LayoutError, MemtypeError, UsageError
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels.spec import parse
from pytest_memtype.machine.layout import validate

BAD = ("\0", "a\0-name\0injected", "\x1b[2J", "\ud800", "a b", "\n", "\u2028", "\x9b2J", "é" * 3, "x" * 5000)
OTHER_TYPES: tuple[Any, ...] = (None, 5, -1, 1.5, True, b"bytes", [], {}, object, ["x"], "x")


def is_one_line(error: MemtypeError) -> None:
    assert "\n" not in error.message
    assert error.message.isprintable()
    error.message.encode()


def is_one_of(value: Any, others: tuple[Any, ...]) -> bool:
    """True is not 1 here."""
    return any(type(value) is type(each) and value == each for each in others)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("before", ["", "qemu64,"])
def test_cpu(bad: str, before: str) -> None:
    with pytest.raises(UsageError) as caught:
        Hardware(cpu=before + bad)
    is_one_line(caught.value)


@pytest.mark.parametrize("field", ["memory", "firmware", "display", "cmdline", "cpus", "smm", "cpu"])
def test_other_fields_of_hardware(field: str) -> None:
    taken = {"cmdline": ("a b", "é" * 3, "x"), "cpus": (5,), "smm": (None, True), "cpu": ("x",)}
    for value in (*BAD, *OTHER_TYPES):
        if is_one_of(value, taken.get(field, ())):
            Hardware(**{field: value})
            continue
        with pytest.raises(UsageError) as caught:
            Hardware(**{field: value})
        is_one_line(caught.value)


@pytest.mark.parametrize(
    "field", ["name", "default", "ranges", "fixed", "enabled", "fixed_enabled", "other_cpus", "description"]
)
def test_fields_of_layouts(field: str) -> None:
    taken: dict[str, tuple[Any, ...]] = {
        "name": ("x", "x" * 5000),
        "default": (None,),
        "ranges": ([],),
        "fixed": (None,),
        "enabled": (True,),
        "fixed_enabled": (True,),
        "other_cpus": (None,),
        "description": ("a b", "é" * 3, "x", "x" * 5000),
    }
    good: dict[str, Any] = {"name": "mine", "default": MemType.UC}
    for value in (*BAD, *OTHER_TYPES):
        if is_one_of(value, taken[field]):
            continue
        with pytest.raises(LayoutError) as caught:
            validate(Layout(**{**good, field: value}), physical_bits=40)
        is_one_line(caught.value)


@pytest.mark.parametrize("value", OTHER_TYPES)
def test_fields_of_ranges(value: Any) -> None:
    ranges = [MtrrRange(0, "1M", value)]
    if value is not None and not isinstance(value, int):
        ranges.append(MtrrRange(0, "1M", MemType.WB, register=value))
    for each in ranges:
        with pytest.raises(LayoutError) as caught:
            validate(Layout("mine", default=MemType.UC, ranges=[each]), physical_bits=40)
        is_one_line(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        *("tree:~nosuchuser/x", "image:~nosuchuser/x,build=/", "image:/,build=~nosuchuser"),
        *(f"tree:{bad}" for bad in BAD[:2]),
        *(f"{kind}{bad}" for kind in ("", "debian:", "debian:6.1", "nonsense:") for bad in BAD),
    ],
)
def test_kernels(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(spec)
    is_one_line(caught.value)


@pytest.mark.parametrize("value", ["~nosuchuser/x", "~nosuchuser"])
def test_the_caches_folder(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", value)
    with pytest.raises(HostError, match="no such home folder") as caught:
        cache_directory()
    is_one_line(caught.value)
    done = CliRunner().invoke(main, ["cache"])
    assert done.exit_code == 3
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_what_a_user_wrote_does_not_reach_the_terminal_as_it_is() -> None:
    for bad in ("\x1b[2J", "\x9b2J", "\r"):
        done = CliRunner().invoke(main, ["layouts", "show", f"no{bad}such"])
        assert done.exit_code == 2
        assert bad not in done.output
        done = CliRunner().invoke(main, ["compare", f"/no{bad}such", "/nowhere"])
        assert done.exit_code == 2
        assert bad not in done.output


GOOD: dict[str, Any] = {
    "schema": 2,
    **{"kernel": "6.1.0-1-amd64", "kernel_version": "6.1.1-1", "layout": "firmware", "boot": "clone"},
    "hardware": {"cpu": "qemu64", "memory": "256M", "cmdline": ""},
    **{"test": "t.py::t[k]", "tested": "k", "case": "t.py::t", "guest": 1, "step": 1, "actor": "X"},
    **{"operation": "ioremap", "requested": "WC", "memory": "device", "mtrr": None, "beside": []},
    "region": {"start": 0xFD000000, "pages": 1},
    "verdict": {"accepted": True, "errno": 0, "rule": None, "conflict": None, "hazards": []},
    "kernel_answer": {"asked": True, "accepted": True, "errno": 0},
    **{"granted": "WC", "effective": "WC", "handle": 1, "address": 4096, "log": []},
}


def compared(tmp_path: Path, first: dict[str, Any], *options: str) -> Any:
    for name, record in (("a.jsonl", first), ("b.jsonl", GOOD)):
        (tmp_path / name).write_text(json.dumps(record) + "\n")
    names = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    return CliRunner().invoke(main, ["compare", *options, *names])


def test_a_good_record_is_compared(tmp_path: Path) -> None:
    assert compared(tmp_path, GOOD).exit_code in (0, 1)


@pytest.mark.parametrize("field", sorted(GOOD))
def test_a_record_with_one_field_of_another_type(tmp_path: Path, field: str) -> None:
    for value in (5, "x", None, [], {}, [5], {"x": 5}, 1.5, "\ud800", 1 << 70):
        done = compared(tmp_path, {**GOOD, field: value})
        assert done.exception is None or isinstance(done.exception, SystemExit), (value, done.exception)
        assert done.exit_code in (0, 1, 2), (value, done.output)


def test_a_record_that_moves_the_cursor(tmp_path: Path) -> None:
    for field in ("operation", "tested", "test", "case", "actor", "granted"):
        for form in ((), ("--json",), ("--markdown",)):
            done = compared(tmp_path, {**GOOD, field: "\x1b[2Jx"}, *form)
            assert "\x1b[2J" not in done.output, (field, form)
