"""What this host has to give."""

from __future__ import annotations

from pathlib import Path


def available_memory(meminfo: str | None = None) -> int:
    """Bytes that can be had without swapping: MemAvailable of ``/proc/meminfo``, in KiB there (proc(5)).

    :param meminfo: Its text, where it isn't this host's of now.
    """
    text = Path("/proc/meminfo").read_text() if meminfo is None else meminfo
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024
