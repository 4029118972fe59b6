"""Counters of GCOV read from a guest: files that lie where such a kernel has them."""

from __future__ import annotations

import base64

import pytest

from pytest_memtype import Guest
from pytest_memtype.coverage.reading import Reading
from pytest_memtype.errors import AgentError

FILES = {
    "work/linux/mm/memory.gcda": b"adcg\0\1\2",
    "work/linux/arch/x86/mm/ioremap.gcda": bytes(range(256)) * 2,
}


def test_counters_of_a_guest(guest: Guest) -> None:
    folder = "/sys/kernel/debug/gcov"
    guest.shell(f"mount -t tmpfs counters /sys/kernel/debug; mkdir {folder}")
    for name, data in FILES.items():
        text = base64.b64encode(data).decode()
        put = (
            f"mkdir -p {folder}/$(busybox dirname {name}); echo {text} | busybox base64 -d > {folder}/{name}"
        )
        assert guest.shell(put).status == 0
    before = len(guest.journal.entries)

    found = guest.gcov_counters()

    assert found.names == tuple(sorted(FILES))
    read = Reading("it", guest.release, "", found.names, found.packed)
    assert read.data == b"".join(FILES[name] for name in sorted(FILES))
    # It counts anew from here.
    assert guest.shell(f"cat {folder}/reset").output == "0\n"
    # What the test does is one thing, and what is asked beside it another.
    assert len(guest.journal.entries) == before + 1


def test_a_kernel_without_counters(guest: Guest) -> None:
    with pytest.raises(AgentError, match=r"the kernel's counters can't be read: .*gcov"):
        guest.gcov_counters()
