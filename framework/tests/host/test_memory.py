from __future__ import annotations

from pytest_memtype.host.memory import available_memory


def test_memory_is_counted_in_bytes() -> None:
    # proc_meminfo(5): values are in kB of 1024 bytes.
    assert available_memory("MemTotal:  2048 kB\nMemAvailable:    1024 kB\nHugePages_Total:  0\n") == 1 << 20


def test_of_this_host() -> None:
    assert available_memory() > 1 << 20
