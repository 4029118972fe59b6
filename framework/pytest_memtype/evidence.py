"""What a failed test leaves beside the logs: its records, what it ran on, and a script that runs it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_memtype.report.record import Record, append


def leave(folder: Path, *, records: Sequence[Record], guests: Sequence[tuple[dict[str, Any], str]]) -> None:
    """Write ``records.jsonl``, and for each guest ``guest-N/guest.json`` and ``guest-N/rerun.sh``.

    :param folder: The test's, where the guests' logs are.
    :param guests: For each what it was, for people, and the QEMU command that boots it again to a shell.
    """
    folder.mkdir(parents=True, exist_ok=True)
    append(folder / "records.jsonl", records)
    for number, (about, command) in enumerate(guests, start=1):
        own = folder / f"guest-{number}"
        own.mkdir(exist_ok=True)
        (own / "guest.json").write_text(json.dumps(about, indent=2) + "\n")
        script = own / "rerun.sh"
        script.write_text(
            "#!/bin/sh\n# Boots the same guest, with a shell on its console. Ctrl-A X ends QEMU.\n"
            f'exec {command} "$@"\n'
        )
        script.chmod(0o755)
