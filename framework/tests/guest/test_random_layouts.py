"""Random layouts in real guests: what was meant, what the CPU holds and what Linux says are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import Phase, given, seed, settings
from memtype_support.effort import effort

from pytest_memtype import Hardware, Layout, MemType, MtrrRange
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.run.boot import GuestPlan, booted
from pytest_memtype.strategies import layouts

MEMORY = "128M"
PHYSICAL_BITS = 40

# SeaBIOS 1.16, src/fw/mtrr.c: 0-9FFFF WB, A0000-BFFFF UC, C0000-FFFFF WP.
SEABIOS_FIXED = (0x0606060606060606, 0x0606060606060606, 0, *(0x0505050505050505,) * 8)

# mtrr_attrib_to_str(), arch/x86/kernel/cpu/mtrr/if.c (5.10 to 7.3).
NAMES = {
    MemType.UC: "uncachable",
    MemType.WC: "write-combining",
    MemType.WT: "write-through",
    MemType.WP: "write-protect",
    MemType.WB: "write-back",
}


def drawn(number: int) -> Layout:
    """The layout of a number, the same everywhere; those of 0 to 9 have ever fewer ranges."""
    found: list[Layout] = []

    @seed(number)
    @settings(max_examples=10, database=None, phases=[Phase.generate])
    @given(layouts(memory=MEMORY))
    def collect(layout: Layout) -> None:
        found.append(layout)

    collect()
    return sorted(found, key=lambda layout: len(layout.ranges))[-1 - number % len(found)]


@pytest.fixture
def to_be_closed() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def registers_of(layout: Layout) -> dict[int, MtrrRange]:
    """Which range each register should hold: those that name one, and the others in order."""
    named = {each.register: each for each in layout.ranges if each.register is not None}
    free = iter(number for number in range(8) if number not in named)
    return named | {next(free): each for each in layout.ranges if each.register is None}


@pytest.mark.parametrize("number", range(effort(quick=4, long=40)))
def test_registers_and_proc_mtrr(
    number: int, memtype_kernel: str, to_be_closed: ExitStack, tmp_path: Path
) -> None:
    layout = drawn(number)
    made = bundle(memtype_kernel, progress=silent)
    hardware = Hardware(memory=MEMORY, cpus=1 + number % 2)
    guest = booted(GuestPlan(made.image, made.initramfs, layout, hardware), logs=tmp_path / "guest")
    to_be_closed.callback(guest.machine.close)

    intended = registers_of(layout)
    assert layout.default is not None
    registers = guest.registers()
    assert len(registers) == hardware.cpus
    for each in registers:
        assert each.mtrr is not None
        # Intel SDM vol. 3: E is bit 11, FE bit 10; V of a mask bit 11.
        assert each.mtrr.default_type_register == 0x800 | layout.fixed_enabled << 10 | layout.default
        assert each.mtrr.fixed == (SEABIOS_FIXED if layout.fixed is None else layout.fixed)
        assert list(each.mtrr.variable) == [
            (
                held.base | held.memtype,
                (1 << PHYSICAL_BITS) - held.size - held.ignored_bits | 0x800,
            )
            if (held := intended.get(n))
            else (0, 0)
            for n in range(8)
        ]

    # generic_get_mtrr() and mtrr_seq_show(): what it says of a mask with holes is nonsense.
    listing = {}
    for line in guest.shell("cat /proc/mtrr").output.splitlines():
        match = re.fullmatch(
            r"reg(\d\d): base=0x([0-9a-f]+) \( *\d+MB\), size= *(\d+)([KM])B, count=1: ([a-z-]+)", line
        )
        assert match, line
        size = int(match[3]) << {"K": 10, "M": 20}[match[4]]
        listing[int(match[1])] = (int(match[2], 16), size, match[5])
    assert listing.keys() == intended.keys()
    for register, held in intended.items():
        base, size, name = listing[register]
        assert name == NAMES[held.memtype]
        if not held.ignored_bits:
            assert (base, size) == (held.base, held.size)
