"""Linux rewrites the MTRRs at boot when it is told to: ``enable_mtrr_cleanup`` and its parameters.

arch/x86/kernel/cpu/mtrr/cleanup.c looks for the fewest registers that cover the same RAM, with holes cut out
where that takes fewer. Its choice is bounded by two sizes: of what it rounds to, and of what it may cut from.
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, Layout, MemType, MtrrRange
from pytest_memtype.x86.mtrr import MtrrState
from pytest_memtype.x86.mtrr_runs import runs

pytestmark = [pytest.mark.needs_module, pytest.mark.needs_config("MTRR_SANITIZER")]

WB, UC = MemType.WB, MemType.UC

MIB = 1 << 20
GIB = 1 << 30

# 2 GiB but for the last 16 MiB, piece by piece; and what a firmware marks as not to be cached.
PIECES = Layout(
    "pieces",
    default=UC,
    ranges=[
        *(MtrrRange(2 * GIB - (2 * GIB >> n), GIB >> n, WB) for n in range(7)),
        MtrrRange(0xE0000000, "16M", UC),
    ],
)
# The hole for devices below 4 GiB, and RAM behind it.
ABOVE = Layout(
    "above-4g",
    default=UC,
    ranges=[
        MtrrRange(0, "2G", WB),
        MtrrRange("2G", "1G", WB),
        MtrrRange("3G", "512M", WB),
        MtrrRange(0xE0000000, "512M", UC),
        MtrrRange("4G", "512M", WB),
    ],
)


def cached(state: MtrrState) -> list[tuple[int, int]]:
    """Where memory above 1 MiB is write-back, below which the fixed ranges decide."""
    return [(each.start, each.end) for each in runs(state, MIB, 1 << 40) if each.memtype is WB]


def registers(guest: Guest) -> list[tuple[int, int, MemType]]:
    return [(each.base, each.size, each.memtype) for each in guest.mtrr_list()]


def state(guest: Guest) -> MtrrState:
    found = {each.mtrr for each in guest.registers()}
    assert len(found) == 1
    (only,) = found
    assert only is not None
    return only


COVERED = {"pieces": [(MIB, 2 * GIB - 16 * MIB)], "above-4g": [(MIB, 3584 * MIB), (4 * GIB, 4608 * MIB)]}


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        pytest.param(
            "pieces",
            [(0, 2 * GIB, WB), (2032 * MIB, 16 * MIB, UC)],
            marks=[pytest.mark.layout(PIECES), pytest.mark.hardware(cmdline="enable_mtrr_cleanup")],
            id="a-hole-at-the-end",
        ),
        pytest.param(
            "above-4g",
            [(0, 4 * GIB, WB), (3584 * MIB, 512 * MIB, UC), (4 * GIB, 512 * MIB, WB)],
            marks=[
                pytest.mark.layout(ABOVE),
                pytest.mark.hardware(cmdline="enable_mtrr_cleanup mtrr_spare_reg_nr=3", cpus=2),
            ],
            id="a-hole-in-the-middle",
        ),
    ],
)
def test_fewer_registers(guest: Guest, layout: str, expected: list[tuple[int, int, MemType]]) -> None:
    """The same memory is write-back as before, on all CPUs, and no register is used that isn't needed."""
    assert registers(guest) == expected
    assert cached(state(guest)) == COVERED[layout]


@pytest.mark.layout(PIECES)
@pytest.mark.hardware(cmdline="enable_mtrr_cleanup mtrr_gran_size=512M mtrr_chunk_size=512M")
def test_sizes_that_lose_memory(guest: Guest) -> None:
    """Who names both gets what he has named: what is no multiple isn't covered any more."""
    assert registers(guest) == [(0, GIB, WB), (GIB, 512 * MIB, WB)]
    assert cached(state(guest)) == [(MIB, 1536 * MIB)]
    assert "lose cover RAM: 496M" in guest.shell("dmesg").output
