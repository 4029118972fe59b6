"""The matrix, measured in guests."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pytest_memtype import Effective, Guest, MemType
from pytest_memtype.cli import main
from pytest_memtype.errors import GuestError, UsageError
from pytest_memtype.report.matrix import MTRR_ROWS, REQUESTED
from pytest_memtype.run.matrix import LAYOUT, measure
from pytest_memtype.x86.effective import EFFECTIVE_TYPES, Vendor

UC, UC_MINUS, WC, WT, WP, WB = (MemType[name] for name in ("UC", "UC_MINUS", "WC", "WT", "WP", "WB"))

# Intel SDM vol. 3, "Effective Page-Level Memory Types for Pentium III and More Recent Processor Families",
# and AMD APM vol. 2, "Combined Effect of MTRRs and PAT". Columns as of REQUESTED.
MANUALS = {
    Vendor.INTEL: {
        UC: "UC UC WC UC UC UC",
        WC: "UC WC WC UC UC WC",
        WT: "UC UC WC WT WP WT",
        WP: "UC WC WC WT WP WP",
        WB: "UC UC WC WT WP WB",
    },
    Vendor.AMD: {
        UC: "UC UC WC UC UC UC",
        WC: "CD WC WC CD CD WC",
        WT: "CD CD WC WT CD WT",
        WP: "CD CD WC CD WP WP",
        WB: "CD CD WC WT WP WB",
    },
}


def manual(vendor: Vendor, mtrr: MemType, memtype: MemType) -> Effective:
    name = MANUALS[vendor][mtrr].split()[REQUESTED.index(memtype)]
    return next(each for each in EFFECTIVE_TYPES if each.name == name)


def granted(way: str, mtrr: MemType, requested: MemType) -> MemType:
    """pat_x_mtrr_type() (arch/x86/mm/pat/memtype.c) and __ioremap_caller() (arch/x86/mm/ioremap.c)."""
    if requested is WB and mtrr is not WB:
        return UC_MINUS
    return UC if requested is WP and way == "ioremap" else requested


@pytest.mark.layout(LAYOUT)
@pytest.mark.parametrize(
    "vendor",
    [
        pytest.param(Vendor.AMD, marks=pytest.mark.hardware(cpu="qemu64")),
        pytest.param(Vendor.INTEL, marks=pytest.mark.hardware(cpu="qemu64,vendor=GenuineIntel")),
    ],
)
def test_every_cell(guest: Guest, vendor: Vendor) -> None:
    measured = measure(guest)

    assert [each.way for each in measured] == ["ioremap", "mmap"]
    for matrix in measured:
        assert (matrix.kernel, matrix.vendor) == (guest.release, vendor)
        assert [(cell.mtrr, cell.requested) for cell in matrix.cells] == [
            (mtrr, requested) for mtrr in MTRR_ROWS for requested in REQUESTED
        ]
        for cell in matrix.cells:
            expected = granted(matrix.way, cell.mtrr, cell.requested)
            assert cell.granted is expected
            assert cell.effective is manual(vendor, cell.mtrr, expected)
            assert cell.manual is manual(vendor, cell.mtrr, cell.requested)
    # Where Linux' substitution is another kind of access: UC- over WT and WP for WB; UC over WP and WB, and
    # on Intel over WT too, for the WP that ioremap doesn't know.
    differing = [[(cell.mtrr, cell.requested) for cell in each.cells if cell.differs] for each in measured]
    assert differing[1] == [(WT, WB), (WP, WB)]
    intel = [(WT, WP)] if vendor is Vendor.INTEL else []
    assert differing[0] == [*intel, (WT, WB), (WP, WP), (WP, WB), (WB, WP)]


@pytest.mark.layout(LAYOUT)
@pytest.mark.hardware(cpu="qemu64,-mtrr")
def test_cpu_without_mtrrs(guest: Guest) -> None:
    with pytest.raises(UsageError, match=r"^cpu 'qemu64,-mtrr' has no MTRRs to measure; "):
        measure(guest)


@pytest.mark.layout("overlap-undefined")
def test_guest_with_another_layout(guest: Guest) -> None:
    with pytest.raises(GuestError, match=r"^the MTRRs say WC at 0xfd000000, where layout matrix has UC$"):
        measure(guest)


def test_command() -> None:
    """For programs, from a guest of the default kernel."""
    result = CliRunner().invoke(main, ["layouts", "matrix", "--json"])
    assert result.exit_code == 0, result.output
    cells = json.loads(result.stdout)
    assert len(cells) == 60
    assert {each["vendor"] for each in cells} == {"AuthenticAMD"}
    (over_wt,) = (
        each for each in cells if (each["way"], each["mtrr"], each["requested"]) == ("ioremap", "WT", "WB")
    )
    assert (over_wt["granted"], over_wt["effective"], over_wt["manual"]) == ("UC-", "CD", "WT")
    assert over_wt["differs"] is True


def test_command_without_a_kernel() -> None:
    result = CliRunner().invoke(main, ["layouts", "matrix", "--kernel", "windows:11"])
    assert result.exit_code == 2
    assert result.stderr.startswith("memtype: ")
    assert result.stderr.count("\n") == 1
