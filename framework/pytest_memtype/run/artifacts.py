"""What a failed test leaves beside the logs: its records, what it ran on, and a script that runs it again."""

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
    """One guest.

    :param about: What it was, for people.
    :param guest: What was started; None where nothing was, but a machine that was there.
    """

    about: dict[str, Any]
    guest: QemuConfig | None


def leave(folder: Path, *, records: Sequence[Record], guests: Sequence[Evidence]) -> None:
    """Write ``records.jsonl``, and for each guest ``guest-N/guest.json`` and ``guest-N/rerun.sh``.

    :param folder: The test's, where the guests' logs are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    append(folder / "records.jsonl", records)
    for number, each in enumerate(guests, start=1):
        own = folder / f"guest-{number}"
        own.mkdir(exist_ok=True)
        (own / "guest.json").write_text(json.dumps(each.about, indent=2) + "\n")
        if each.guest is not None:
            write_rerun(each.guest, own)
