"""The answers expected of a kernel: by the model of Linux, else as it answered when it was last asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_memtype.errors import UsageError
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.memory_map import TEST_DEVICE_MEMORY, Kind, Owner, owners
from pytest_memtype.report.answer import (
    KERNEL,
    answers,
    errno_name,
    linux_answer,
    question,
    reservations,
)
from pytest_memtype.report.compare import OTHERWISE, Column, differences
from pytest_memtype.report.page_types import page_types
from pytest_memtype.report.record import Record
from pytest_memtype.spec.linux_versions import parse_version
from pytest_memtype.spec.replay import PAGE_SIZE, Expected, Replay, replay
from pytest_memtype.x86 import pat
from pytest_memtype.x86.size import parse_size

MODEL = "model"

_RAM_IN_ONE_PIECE = 2816 << 20
"""Bytes. More RAM is split on q35 (QEMU 7.2), and doesn't all begin at 0."""


@dataclass(frozen=True)
class Unexpected:
    """An answer that differs from the expectation.

    :param kernel: Its release.
    :param test: pytest's node id.
    :param step: Number of the step within the guest, from 1.
    :param operation: What was done or looked at.
    :param expected: The expected answer, in words.
    :param found: The answer that was given, in words.
    :param source: Where the expectation comes from: ``model``, or the name of an earlier run.
    """

    kernel: str
    test: str
    step: int
    operation: str
    expected: str
    found: str
    source: str

    def __str__(self) -> str:
        return (
            f"{self.test}, step {self.step}, {self.operation}: {self.found}, "
            f"expected {self.expected} ({self.source})"
        )


def unexpected(
    records: Sequence[Record], earlier: Sequence[Record] = (), *, run: str = ""
) -> list[Unexpected]:
    """The answers that differ from what was expected.

    Linux's answers are held against the model for as long as it can follow what a test does. Steps that the
    model says nothing about are held against the same kernel package's answer to the same step of the same
    test.

    :param records: The records of one kernel.
    :param earlier: The records of the same kernel from the run before; empty without one.
    :param run: The name of the run before.
    """
    found: list[Unexpected] = []
    modelled: set[tuple[str, int, int]] = set()
    for guest in _guests(records):
        for record, expected in replay(guest, model(guest[0])) if _can_be_modelled(guest[0]) else ():
            modelled.add((record["case"], record["guest"], record["step"]))
            wanted, got = said(expected, record), answers(record).get(KERNEL, "")
            if wanted != got:
                place = record["tested"], record["test"], record["step"], question(record)
                found.append(Unexpected(*place, wanted, got, MODEL))
                # The model has taken another way than the guest.
                break
    tests = {record["case"]: (record["tested"], record["test"]) for record in records}
    for each in differences([Column("", earlier), Column("", records)]):
        if each.operation == OTHERWISE:
            continue  # It is the test that has changed.
        if each.side == KERNEL and (each.case, each.guest, each.step) in modelled:
            continue
        wanted, got = each.answers
        found.append(Unexpected(*tests[each.case], each.step, each.operation, wanted, got, run))
    return found


def said(expected: Expected, record: Record) -> str:
    """An expectation, in the words that the answer of a record has."""
    if expected.answer is not None:
        number, granted = expected.answer.errno, expected.answer.granted
        answer = {"asked": True, "accepted": not number, "errno": number}
        names = [None if each is None else str(each) for each in granted]
        return linux_answer(answer, names if set(names) - {None} else None)
    if expected.types is not None:
        return page_types([None if each is None else str(each) for each in expected.types])
    if expected.pat_value is not None:
        return " ".join(("PAT", *map(str, pat.decode(expected.pat_value))))
    if expected.result is not None:
        if record["operation"] in ("read", "write"):
            return f"signal {expected.result}" if expected.result else "ok"
        return errno_name(expected.result)
    if expected.listed is None:
        return "no list"
    return reservations([(*each[:2], str(each[2])) for each in expected.listed], record["arguments"]["start"])


def model(record: Record) -> Replay:
    """The model of a record's guest, as it is when the guest has booted."""
    cpu, cmdline = record["hardware"]["cpu"].split(","), record["hardware"]["cmdline"].split()
    claimed = _claimed(record["hardware"])
    bars = [each.end for each in _owners(record["hardware"]) if each.name == TEST_DEVICE_MEMORY]
    return Replay(
        parse_version(record["kernel_version"]),
        parse_size(record["hardware"]["memory"]),
        # To mtrr_bp_init() MTRRs that the firmware left off are as good as none (5.10 to 7.3). Records of
        # older runs don't say whether they were on.
        has_mtrr="-mtrr" not in cpu and record.get("mtrr_enabled", True),
        pat="-pat" not in cpu and "nopat" not in cmdline,
        is_claimed=lambda pfn: any(start <= pfn * PAGE_SIZE < end for start, end in claimed),
        bar_ends=[end // PAGE_SIZE for end in bars],
    )


def _claimed(recorded: Mapping[str, Any]) -> list[tuple[int, int]]:
    """The addresses that the kernel or a driver may have claimed: all devices but the one that tests map."""
    kinds = (Kind.CHIPSET, Kind.FIRMWARE, Kind.BAR)
    return [
        (each.start, each.end)
        for each in _owners(recorded)
        if each.kind in kinds and each.name != TEST_DEVICE_MEMORY
    ]


def _owners(recorded: Mapping[str, Any]) -> Sequence[Owner]:
    return owners(
        Hardware(cpu=recorded["cpu"], memory=recorded["memory"], display=recorded.get("display", ""))
    )


def _can_be_modelled(record: Record) -> bool:
    # Schema 1 doesn't say where a mapping came to lie, nor what the MTRRs say. Of a target no version is
    # known, nor of kernels built on this host in records of older runs.
    if record["schema"] == 1 or parse_size(record["hardware"]["memory"]) > _RAM_IN_ONE_PIECE:
        return False
    try:
        parse_version(record["kernel_version"])
    except (ValueError, UsageError):
        return False
    return True


def _guests(records: Sequence[Record]) -> list[list[Record]]:
    found: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        found.setdefault((record["test"], record["guest"]), []).append(record)
    return list(found.values())
