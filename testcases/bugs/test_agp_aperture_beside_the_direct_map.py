"""RAM that a graphics card uses is mapped non-cached, and the kernel's direct map has it write-back.

Reported by Richard Brunner of AMD, 11 June 2002, "Cache-attribute conflict bug in the kernel exposed on
newer AMD Athlon processors"; before that, in January 2002, as the "Athlon extended paging bug", against
which mem=nopentium was said to help.

Symptom: memory is corrupt, without anybody having written to the cached alias: the processor reads ahead
through it and writes the line back.

Cause: the AGP aperture was mapped non-cached, and the large pages of the direct map went on being
write-back.

Fix: a work-around in 2.4.19, then change_page_attr(): set_memory_wc() changes the direct map before anybody
maps the page. The cure depends on the driver: without it RAM mapped as the driver asks would be an alias.

Source: LKML 2002/6/11/11; arch/x86/mm/pat/set_memory.c. The corruption itself needs real caches: what is
asserted are the page tables.
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Sighting

WC = MemType.WC

pytestmark = pytest.mark.bug(
    id="agp-2002",
    title="RAM of the AGP aperture is write-back in the kernel's direct map",
    fixed="2.4.19",
    core="Driver.set_memory",
)


def test_direct_map(guest: Guest, bug: Sighting) -> None:
    ram = guest.ram(pages=1)
    agp, server = guest.driver("agp"), guest.process("X server")

    direct = agp.set_memory(ram, WC)
    aperture = server.mmap(ram, WC)

    assert aperture.granted is WC
    assert aperture.mapping is not None
    assert direct.mapping is not None
    bug.alias((server, aperture.mapping), (agp, direct.mapping))
    # What the mails of 2002 and 2005 ask for: RAM is write-back, or it isn't mapped.
    assert direct.verdict.rule == aperture.verdict.rule == "ram-not-wb"
