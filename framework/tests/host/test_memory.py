from __future__ import annotations

import pytest

from pytest_memtype.host import memory
from pytest_memtype.host.memory import available_memory, available_on_host


def test_memory_is_counted_in_bytes() -> None:
    # proc_meminfo(5): values are in kB of 1024 bytes.
    assert available_on_host("MemTotal:  2048 kB\nMemAvailable:    1024 kB\nHugePages_Total:  0\n") == 1 << 20


def test_of_this_host() -> None:
    assert available_memory() > 1 << 20


def test_a_container_has_less_than_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_left", lambda: 4096)
    assert available_memory() == 4096


def test_a_container_has_no_more_than_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_left", lambda: 1 << 62)
    assert 1 << 20 < available_memory() < 1 << 62
