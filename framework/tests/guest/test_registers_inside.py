"""What the module reads in a real guest's registers, and how long it takes to make sense of it."""

from __future__ import annotations

import random

import numpy
import pytest

from pytest_memtype import Guest, Layout, MemType, MtrrRange
from pytest_memtype.audit.vector import UNDEFINED_CODE, memory_types
from pytest_memtype.guest.region import PAGE_SIZE, Region
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.plugin.fixtures import GuestFactory
from pytest_memtype.x86.mtrr import MtrrState
from pytest_memtype.x86.size import parse_size

UC, WC, WT, WB = MemType.UC, MemType.WC, MemType.WT, MemType.WB
RAM = MtrrRange(0, "256M", WB)
GIB = 1 << 30

# Above 4 GiB nothing is RAM. Masks with holes are those that ignore bits.
LAYOUTS = {
    "one-page": (MtrrRange("300G", "4K", WC),),
    "write-back": (MtrrRange("64G", "4K", WC), MtrrRange("300G", "4K", WB)),
    "holes": (MtrrRange("8G", "4K", WB, ignored_bits=0x8040_0000), MtrrRange("8G", "2M", WT)),
    "overlaps": (
        MtrrRange("8G", "8K", WB, ignored_bits=0x200_8000),
        MtrrRange("8G", "16M", WC),
        MtrrRange("8200M", "4K", WT, ignored_bits=0x40_0000_0000),
    ),
}
INTERESTING = tuple(
    map(parse_size, ("8G", "8194M", "8196M", "8200M", "8208M", "8224M", "10G", "64G", "300G", "264G"))
)


@pytest.mark.hardware(cpus=3)
def test_a_cpu_that_is_turned_off_leaves_a_hole(guest: Guest) -> None:
    assert [each.cpu for each in guest.registers()] == [0, 1, 2]
    assert guest.shell("echo 0 > /sys/devices/system/cpu/cpu1/online").status == 0
    assert [each.cpu for each in guest.registers()] == [0, 2]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_module_sees_what_the_registers_say(guest_factory: GuestFactory, name: str) -> None:
    """A walk in steps of the smallest range would take minutes here, and hold up all others."""
    guest = guest_factory(layout=Layout(name, default=UC, ranges=[RAM, *LAYOUTS[name]]), hardware=Hardware())
    state = guest.registers()[0].mtrr
    assert state is not None
    assert (
        hazards(guest, Region(4 * GIB, 508 * GIB // PAGE_SIZE))
        == {
            "one-page": {"mtrr-mixed", "mtrr-uncached-combines"},
            "write-back": {"mtrr-mixed", "mtrr-wb-uncached", "mtrr-uncached-combines"},
            "holes": {"mtrr-mixed", "mtrr-wb-uncached"},
            "overlaps": {"mtrr-mixed", "mtrr-wb-uncached", "mtrr-undefined", "mtrr-uncached-combines"},
        }[name]
    )
    draw = random.Random(name)
    for _ in range(200):
        first = draw.choice(INTERESTING) // PAGE_SIZE + draw.randrange(-1500, 600)
        region = Region(first * PAGE_SIZE, draw.choice((1, 2, 3, 17, 512, 1024, 2000)))
        assert hazards(guest, region) == expected(state, region), region


def hazards(guest: Guest, region: Region) -> set[str]:
    return {str(each) for each in guest.verify(region, MemType.UC_MINUS).hazards}


def expected(state: MtrrState, region: Region) -> set[str]:
    """Page by page, for an uncached mapping: Intel SDM vol. 3, "Large Page Size Considerations"."""
    pages = numpy.arange(region.start, region.end, PAGE_SIZE, dtype=numpy.uint64)
    types = memory_types(state, pages)
    large = (-(region.start // PAGE_SIZE)) % 512
    whole = types[large : large + (len(types) - large) // 512 * 512].reshape(-1, 512)
    found = set()
    if WB in types:
        found.add("mtrr-wb-uncached")
    # The default CPU is AMD's, whose table has UC- over WP as CD.
    if MemType.WC in types:
        found.add("mtrr-uncached-combines")
    if UNDEFINED_CODE in types:
        found.add("mtrr-undefined")
    if (whole != whole[:, :1]).any():
        found.add("mtrr-mixed")
    return found
