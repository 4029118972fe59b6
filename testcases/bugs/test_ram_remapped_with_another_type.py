"""RAM that is mapped into a process keeps the type it has, whatever the driver asks for.

Reported for sgx-step (issue 7: an alias of the APIC's page), for Android's ion heap (projectceladon, pull
requests 1347 and 1348) and for many drivers out of tree.

Symptom: ``x86/PAT: test:177 map pfn RAM range req write-combining for [mem ...], got write-back``, and a
mapping that is write-back.

Cause: remap_pfn_range() of RAM takes the type in the page's flags (reserve_pfn_range()). Only the line in
the log tells success from substitution.

Fix: none, Linux wants it so: the driver has to change the page with set_memory_wc() first.

Source: arch/x86/mm/pat/memtype.c, reserve_pfn_range().
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Sighting

WB, WC = MemType.WB, MemType.WC

pytestmark = pytest.mark.bug(
    id="ram-other-type",
    title="RAM that is mapped into a process keeps its type, whatever the driver asks for",
    core="Process.mmap",
    kind="by design",
)


def test_write_combining(guest: Guest, bug: Sighting) -> None:
    ram = guest.ram(pages=2)

    outcome = guest.process("X").mmap(ram, WC)

    said = [line for line in outcome.kernel.log if "map pfn RAM range req write-combining" in line]
    bug.harm(outcome.granted is WB and said != [], f"asked for WC, got {outcome.granted}: {said}")


def test_after_set_memory(guest: Guest) -> None:
    """The driver's way to do it, which the verifier refuses: direct map and process agree."""
    ram = guest.ram(pages=2)
    assert guest.driver("agp").set_memory(ram, WC).granted is WC
    assert guest.process("X").mmap(ram, WC).granted is WC
