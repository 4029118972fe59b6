"""ioremap() of RAM fails with a warning.

Reported for efifb at 0x60000000, for amd_pmc (address 0), by users of OP-TEE and of nvmevirt, and, for
writing /dev/mem, as ``ioremap on RAM at ...`` (there the list of resources was walked wrongly, mended in
2025).

Symptom: a WARNING ``ioremap on RAM at 0x... - 0x...``, once a boot, and NULL.

Cause: RAM has a direct map, and its page flags hold one type: a second mapping of another type would be an
alias.

Fix: none, Linux wants it so; memremap() is the function for RAM.

Source: arch/x86/mm/ioremap.c, __ioremap_caller().
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Sighting

pytestmark = pytest.mark.bug(
    id="ioremap-ram",
    title="ioremap() of RAM fails with a warning",
    core="Driver.ioremap",
    kind="by design",
)


def test_warning_and_null(guest: Guest, bug: Sighting) -> None:
    bug.expect_report("ioremap on RAM")
    outcome = guest.driver("efifb").ioremap(guest.ram(pages=1), MemType.WC)

    said = [line for line in outcome.kernel.log if "ioremap on RAM at" in line]
    bug.harm(outcome.mapping is None and said != [], f"{outcome.kernel}: {said}")
