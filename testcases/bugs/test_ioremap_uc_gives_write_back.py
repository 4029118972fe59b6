"""ioremap_uc() succeeds where the memory is mapped write-back, and the mapping it gives is write-back.

Not reported as a bug: seen by this project on every kernel from 5.10 to 7.3.

Symptom: none. ioremap(), which asks for the weaker UC-, would have failed; the strong one gets a cache.

Cause: is_new_memtype_allowed() lists the pairs to refuse by name, and UC with write-back isn't among them.

Fix: none known.

Source: arch/x86/include/asm/pgtable.h, is_new_memtype_allowed().
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Sighting

WB, UC = MemType.WB, MemType.UC

pytestmark = [
    pytest.mark.layout("wb-device"),
    pytest.mark.bug(
        id="ioremap-uc",
        title="ioremap_uc() gives a write-back mapping where somebody has one already",
        core="Driver.ioremap",
        kind="observed",
    ),
]


def test_over_write_back(guest: Guest, bug: Sighting) -> None:
    bar = guest.mmio(pages=4)
    assert guest.driver("X").ioremap(bar, WB).granted is WB

    strong = guest.driver("Y").ioremap(bar, UC)

    assert strong.kernel.accepted
    bug.harm(strong.granted is WB and strong.kernel.log == (), f"asked for UC, got {strong.granted}")


def test_alone(guest: Guest) -> None:
    assert guest.driver("Y").ioremap(guest.mmio(pages=4), UC).granted is UC
