"""The memory of this host that can be had."""

from __future__ import annotations

from pathlib import Path


def available_memory(meminfo: str | None = None) -> int:
    """The bytes of memory that can be had without swapping: MemAvailable, in KiB there (proc(5)).

    :param meminfo: The text of ``/proc/meminfo``; None reads this host's.
    """
    text = Path("/proc/meminfo").read_text() if meminfo is None else meminfo
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024
