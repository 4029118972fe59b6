"""A driver's ioremap() fails because somebody mapped the memory write-back before.

Reported again and again: guests of GCE with SNP and TDX, July to September 2025 (``ioremap error for
0xfed40000-0xfed45000, requested 0x2, got 0x0``, ``tpm_tis MSFT0101:00: probe ... failed with error -12``);
Xen dom0 6.1.7 to 6.1.32 by Christian Kujau in January 2023 (xhci dead); continuous-integration machines in
the 2010s ("dmi: Firmware registration failed"); hyperv_fb up to 5.4 by Dexuan Cui.

Symptom: the driver gets NULL, its probe -ENOMEM.

Cause: ACPI, dmi or another driver had mapped the memory with ioremap_cache(), and the MTRRs called it
write-back. A request for UC-, WC or WT is never given write-back (is_new_memtype_allowed()).

Fix: none of the rule. Of the reports: 8e690b817e38's MTRRs by "x86/kvm: Force legacy PCI hole to UC when
overriding MTRRs for TDX/SNP" (6.18, 6.12.57), 90b926e68f50 by its revert f9f57da2c2d1 (6.1.33), hyperv_fb
by ioremap_wc().

Source: arch/x86/include/asm/pgtable.h, is_new_memtype_allowed().
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Sighting

WB = MemType.WB

pytestmark = [
    pytest.mark.layout("wb-device"),
    pytest.mark.bug(
        id="wb-first",
        title="a mapping fails where somebody mapped the memory write-back before",
        fixed=None,
        core="Driver.ioremap",
        kind="by design",
    ),
]


@pytest.mark.parametrize("memtype", [MemType.UC_MINUS, MemType.WC, MemType.WT], ids=lambda each: each.name)
def test_ioremap(guest: Guest, bug: Sighting, memtype: MemType) -> None:
    bar = guest.mmio(pages=4)
    assert guest.driver("acpi").ioremap(bar, WB).granted is WB

    second = guest.driver("tpm").ioremap(bar, memtype)

    said = [line for line in second.kernel.log if "ioremap error for" in line and "got 0x0" in line]
    bug.harm(second.mapping is None and said != [], f"ioremap {memtype}: {second.kernel}: {said}")


def test_first_mapping_is_not_write_back(guest: Guest) -> None:
    """Any other first type is handed on, and the driver lives."""
    bar = guest.mmio(pages=4)
    assert guest.driver("acpi").ioremap(bar, MemType.WC).granted is MemType.WC
    assert guest.driver("tpm").ioremap(bar, MemType.UC_MINUS).granted is MemType.WC
