"""A run's folder that no guest has made: as large and as hostile as a test of the report wants it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import msgspec

from pytest_memtype.bugs.matrix import Cell
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.report.kept import (
    LAYOUTS,
    TESTS,
    KeptAudit,
    KeptLayout,
    KeptTest,
    RunFacts,
    append_line,
    write_facts,
)
from pytest_memtype.run.folder import test_folder

LAYOUT_NAMES: Final = ("firmware", "wb-device", "painful-case")
TYPES: Final = ("WC", "UC-", "UC", "WT", "WB")
CALLS: Final = ("ioremap", "mmap sysfs", "mmap driver", "mmap devmem")
PICTURE: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 60" width="400" height="60">'
    '<title>memory</title><rect x="0" y="0" width="400" height="60" fill="white"/>'
    '<rect x="20" y="20" width="90" height="22" fill="#7bbf6a"/><text x="30" y="35">WB</text></svg>'
)


def kernels(count: int) -> list[str]:
    """Names of kernels that no suite has."""
    return [f"debian:{5 + number // 10}.{number % 10}.0-1-cloud-amd64" for number in range(count)]


def write_run(
    run: Path, *, tests: int, steps: int, on: int = 2, text: str = "drm", failing: int = 3
) -> list[str]:
    """Write the folder of a run: its records, results, layouts, reproducers and the evidence of failures.

    :param run: The folder, which is made.
    :param tests: Number of tests on each kernel.
    :param steps: Number of records of each test.
    :param on: Number of kernels.
    :param text: A text that a guest could have written; it stands wherever one has a say.
    :param failing: How many tests of each kernel fail.
    :return: The node ids of the tests.
    """
    run.mkdir(parents=True)
    nodeids = []
    with (run / "records.jsonl").open("w", encoding="ascii") as file:
        for kernel, number in itertools.product(kernels(on), range(tests)):
            case = f"testcases/test_file_{number % 40}.py::test_number_{number}"
            nodeid = f"{case}[{kernel}]"
            nodeids.append(nodeid)
            for record in _records(kernel, case, nodeid, number, steps=steps, text=text):
                file.write(json.dumps(record, separators=(",", ":")) + "\n")
            append_line(run / TESTS, _result(kernel, nodeid, number, text=text, fails=number < failing))
            if number < failing:
                _evidence(test_folder(run, nodeid), text)
    for layout in LAYOUT_NAMES:
        append_line(
            run / LAYOUTS,
            KeptLayout(layout, asdict(Hardware()), nodeids[0], PICTURE, remark=f"as {text} has it"),
        )
    cells = [
        Cell("a-bug", kernel.removeprefix("debian:"), "6.1.2", nodeid, "REPRODUCED", (text,))
        for kernel, nodeid in zip(kernels(on), nodeids[::tests], strict=True)
    ]
    (run / "bugs.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(cells))
    write_facts(
        run,
        RunFacts("2026-11-29 08:30:12", 12.5, 1, ["--layout", "firmware"], {"Python": text}, {"CPUs": "2"}),
    )
    return nodeids


def _records(
    kernel: str, case: str, nodeid: str, number: int, *, steps: int, text: str
) -> Iterator[dict[str, Any]]:
    head = {
        "schema": 2, "kernel": kernel.removeprefix("debian:"), "kernel_version": "6.1.2-1",
        "accelerator": "tcg", "accelerator_reason": text, "qemu": "7.2.22", "system": "minimal",
        "layout": LAYOUT_NAMES[number % len(LAYOUT_NAMES)], "mtrr_enabled": True,
        "hardware": asdict(Hardware()), "boot": "clone", "test": nodeid, "tested": kernel, "case": case,
        "guest": 1,
    }  # fmt: skip
    newest = kernel == kernels(1)[0]
    for step in range(1, steps + 1):
        kind = number + step
        record = {**head, "step": step, "actor": text, "log": [text] if step == 1 else []}
        if step % 4 == 0:
            yield {
                **record, "operation": "memtype_list", "arguments": {"start": 0xFD000000, "pages": 4},
                "result": [[0xFD000000, 4, "write-combining"]],
            }  # fmt: skip
            continue
        wanted = TYPES[kind % len(TYPES)]
        alias = step % 4 == 2
        # The first kernel has answered otherwise.
        granted = None if alias and newest else "WC" if alias else wanted
        yield {
            **record, "operation": CALLS[kind % len(CALLS)], "region": {"start": 0xFD000000, "pages": 4},
            "memory": "device", "mtrr": "UC", "arguments": {}, "handle": step, "address": 0xFFFFC90000000000,
            "beside": ["ioremap WC"] if alias else [], "requested": wanted,
            "verdict": {
                "accepted": not alias, "rule": "alias" if alias else None, "errno": 16 if alias else 0,
                "conflict": {"kind": "driver", "owner": text, "memtype": "WC", "pages": 4} if alias else None,
                "hazards": [],
            },
            "kernel_answer": {"asked": True, "accepted": granted is not None, "errno": 0 if granted else 22},
            "granted": granted, "effective": granted and ("WC" if granted == "WC" else "UC"),
        }  # fmt: skip


def _result(kernel: str, nodeid: str, number: int, *, text: str, fails: bool) -> KeptTest:
    finding = {
        "kind": "conflict", "danger": "ERROR", "start": 0xFD000000, "pages": 4, "owner": text,
        "effective": ["WC", "UC"], "reason": text, "benign": None, "complete": True,
        "mappings": [
            {
                "virtual": 0xFFFFC90000000000, "memtype": "WC", "effective": "WC", "region": text,
                "process": [1, text],
            }
        ],
    }  # fmt: skip
    return KeptTest(
        test=nodeid,
        tested=kernel,
        kernel=kernel,
        status="failed" if fails else "passed",
        seconds=0.1,
        headline=f"AssertionError: {text}" if fails else "",
        details=f"E   assert {text}\n" * 20 if fails else "",
        bug="a-bug" if number == 0 else "",
        bug_title=text if number == 0 else "",
        audits=[KeptAudit(1, [finding], [False], [text], [text], "", PICTURE)] if number % 50 == 1 else [],
    )


def _evidence(folder: Path, text: str) -> None:
    guest = folder / "guest-1"
    guest.mkdir(parents=True)
    (guest / "console.log").write_text(f"[    0.000000] Linux version\n[    1.000000] {text}\n")
    (guest / "rerun.sh").write_text("#!/bin/sh\nexec qemu-system-x86_64\n")
    (guest / "page.html").write_text(text)
