"""Logs of two boots without their banners: what one says isn't the other's."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import explain, sections
from pytest_memtype.explain.imported_layout import layout_of
from pytest_memtype.x86.memtype import MemType

# cloud-hypervisor#1752.
CURRENT = """\
[    0.000013] tsc: Detected 2591.998 MHz processor
[    0.000196] Disabled
[    0.000198] x86/PAT: MTRRs disabled, skipping PAT initialization too.
[    0.000207] CPU MTRRs all blank - virtualized system.
[    0.000212] x86/PAT: Configuration [0-7]: WB  WT  UC- UC  WB  WT  UC- UC
[    0.009858] check: Scanning 1 areas for low memory corruption
"""
EXPECTED = """\
[    0.000014] tsc: Detected 2591.998 MHz processor
[    0.000210] MTRR default type: write-back
[    0.000211] MTRR fixed ranges disabled:
[    0.000212]   00000-FFFFF uncachable
[    0.000214] MTRR variable ranges enabled:
[    0.000214]   0 disabled
[    0.000214]   1 disabled
[    0.000229] x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WP  UC- WT
[    0.010090] check: Scanning 1 areas for low memory corruption
"""
OF_ANOTHER = "of the log of another boot than the complaint's"


@pytest.mark.parametrize(
    "text", [f"{CURRENT}\nExpected output:\n{EXPECTED}", f"I want\n{EXPECTED}\nand get\n{CURRENT}"]
)
def test_registers_of_another_boot(text: str) -> None:
    dump = read(text)
    assert MemType.WC not in dump.pat.types
    assert any(OF_ANOTHER in note for note in layout_of(dump).notes)
    refused = "x86/PAT: X:1 map pfn expected mapping type uncached-minus for [mem 0xd0000000-0xd0000fff], got"
    found = sections(
        explain(read(f"{text}".replace(CURRENT, f"{CURRENT}[    9.000000] {refused} write-back\n")), [])
    )
    memory = "\n".join(line for each in found if each.title == "The memory" for line in each.lines)
    assert "The MTRRs that the text lists are another boot's." in memory
    assert "The MTRRs say" not in memory


@pytest.mark.parametrize(
    "text",
    [
        # One log, of which somebody quotes the end before the beginning; and one that is quoted twice.
        CURRENT.splitlines()[-1] + "\n" + EXPECTED + "[    3.0] ioremap on RAM at 0x3f251000 - 0x3fa1afff\n",
        EXPECTED + "[    3.0] ioremap on RAM at 0x3f251000 - 0x3fa1afff\nAbove it:\n" + EXPECTED,
    ],
)
def test_one_boot(text: str) -> None:
    dump = read(text)
    assert all(each.same_boot for each in dump.mtrrs)
    assert MemType.WC in dump.pat.types
    assert not any(OF_ANOTHER in note for note in layout_of(dump).notes)
