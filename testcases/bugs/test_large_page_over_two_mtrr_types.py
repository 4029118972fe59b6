"""ioremap() lays one large page over uncached memory and what follows it with another MTRR type.

Nobody is known to have reported it: seen by this project with 6.12 and later.

Symptom: none under emulation. For a real CPU "the processor can behave in an undefined manner if a large
page is mapped to a region of memory that MTRRs have mapped with multiple memory types" (Intel SDM vol. 3,
"Large Page Size Considerations"), for it keeps one type for the page in its TLB. Here registers lie in front
of a frame buffer whose MTRR is write-combining, and a driver maps both UC-, which leaves the type to the
MTRRs: the registers may be written as the frame buffer is.

Cause: 8227f40ade23 "x86/mtrr: Use new cache_map in mtrr_type_lookup()" (6.5-rc1). Its type_merge() takes a
range for uniform as long as the next type doesn't change the one merged so far. Nothing changes UC, so that
UC in front hides all that follows it, and WT hides WB. The other way round it is noticed. pmd_set_huge() and,
for 1 GiB, pud_set_huge() ask nothing else, though the comment on them promises a large page "only if the
complete range has the same MTRR caching mode". Before 6.5 a range over the edge of a variable MTRR never
counted as uniform, and got small pages unless its type came out as WB.

Fix: none known, up to 7.3.

Source: arch/x86/kernel/cpu/mtrr/generic.c, type_merge(); arch/x86/mm/pgtable.c, pmd_set_huge().
"""

from __future__ import annotations

import pytest

from pytest_memtype import EffectiveType, Guest, Layout, Leaves, MemType, MtrrRange, PageSize, Sighting

WB, WC, UC, UC_MINUS = MemType.WB, MemType.WC, MemType.UC, MemType.UC_MINUS

# A driver's device: 1 MiB of registers, 2 MiB of frame buffer, 1 MiB of registers.
REGISTERS_IN_FRONT = 0xFD000000
REGISTERS_BEHIND = REGISTERS_IN_FRONT + (2 << 20)
FRAME_BUFFER = [MtrrRange(REGISTERS_IN_FRONT + (1 << 20), "1M", WC), MtrrRange(REGISTERS_BEHIND, "1M", WC)]

pytestmark = [
    pytest.mark.layout(
        Layout("frame-buffer", default=UC, ranges=[MtrrRange(0, "256M", WB), *FRAME_BUFFER]),
    ),
    pytest.mark.bug(
        id="large-page-mtrrs",
        title="ioremap() lays one large page over uncached memory and what follows with another MTRR type",
        introduced="6.5",
        core="Driver.ioremap",
        kind="observed",
    ),
]


def test_registers_in_front(guest: Guest, bug: Sighting) -> None:
    device = guest.region(REGISTERS_IN_FRONT, 2 << 20)

    outcome = guest.driver("fb").ioremap(device, UC_MINUS)

    assert outcome.accepted
    assert outcome.effective_pages == (EffectiveType.UC,) * 256 + (EffectiveType.WC,) * 256
    bug.harm(
        outcome.leaves == (Leaves(PageSize.SIZE_2M, 512, UC_MINUS),),
        f"1 MiB is UC and 1 MiB is WC by the MTRRs, and mapped they are by {outcome.leaves}",
    )


def test_registers_behind(guest: Guest) -> None:
    """The same two types the other way round: small pages, with every kernel."""
    outcome = guest.driver("fb").ioremap(guest.region(REGISTERS_BEHIND, 2 << 20), UC_MINUS)

    assert outcome.accepted
    assert outcome.effective_pages == (EffectiveType.WC,) * 256 + (EffectiveType.UC,) * 256
    assert outcome.leaves == (Leaves(PageSize.SIZE_4K, 512, UC_MINUS),)
