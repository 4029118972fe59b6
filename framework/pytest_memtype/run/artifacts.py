"""Artifacts of a failed test beside the logs: records, facts of its guests, scripts to run those again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_memtype.machine.qemu_command import QemuConfig
from pytest_memtype.machine.rerun import write_rerun
from pytest_memtype.report.record import Record, append


@dataclass(frozen=True)
class Evidence:
    """Facts of a guest of a failed test.

    :param about: Its kernel, layout, hardware and the like, as JSON for people.
    :param guest: The QEMU that was started; None for a target, where none was.
    """

    about: dict[str, Any]
    guest: QemuConfig | None


def leave(folder: Path, *, records: Sequence[Record], guests: Sequence[Evidence]) -> None:
    """Write ``records.jsonl``, and for each guest ``guest-N/guest.json`` and ``guest-N/rerun.sh``.

    :param folder: The test's folder, where the guests' logs are.
    :param records: The test's records.
    :param guests: The test's guests, in the order of their numbers from 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    append(folder / "records.jsonl", records)
    for number, each in enumerate(guests, start=1):
        own = folder / f"guest-{number}"
        own.mkdir(exist_ok=True)
        (own / "guest.json").write_text(json.dumps(each.about, indent=2) + "\n")
        if each.guest is not None:
            write_rerun(each.guest, own)
