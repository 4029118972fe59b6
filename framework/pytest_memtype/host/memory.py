"""The memory of this host that can be had."""

from __future__ import annotations

from pathlib import Path

from pytest_memtype.host.control_groups import memory_left


def available_memory() -> int:
    """The bytes of memory that this process can have without swapping, on this host and in its container."""
    available = available_on_host(Path("/proc/meminfo").read_text())
    left = memory_left()
    return available if left is None else min(available, left)


def available_on_host(meminfo: str) -> int:
    """The bytes of memory that the host has: MemAvailable, in KiB there (proc(5)).

    :param meminfo: The text of ``/proc/meminfo``.
    """
    fields = dict(line.split(":", 1) for line in meminfo.splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024
