"""What a failed test leaves beside the logs: its records, what it ran on, and a script that runs it again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_memtype.machine.command import Guest, rerun_command
from pytest_memtype.report.record import Record, append


@dataclass(frozen=True)
class Evidence:
    """One guest.

    :param about: What it was, for people.
    :param guest: What was started; None where nothing was, but a machine that was there.
    """

    about: dict[str, Any]
    guest: Guest | None


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
        guest = each.guest
        if guest is None:
            continue
        if guest.boot_rom is not None and guest.boot_rom.parent != own:
            rom = own / "boot-rom.bin"
            # What is gone keeps nobody from what is left.
            with contextlib.suppress(OSError):
                shutil.copyfile(guest.boot_rom, rom)
                guest = dataclasses.replace(guest, boot_rom=rom)
        script = own / "rerun.sh"
        script.write_text(
            "#!/bin/sh\n# Boots the same guest, with a shell on its console. Ctrl-A X ends QEMU.\n"
            f'exec {rerun_command(guest)} "$@"\n'
        )
        script.chmod(0o755)
