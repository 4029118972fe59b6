"""Layouts of machines, and what a guest can have of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype import Hardware, Layout, MemType, MtrrRange
from pytest_memtype.dumps.read import read
from pytest_memtype.errors import UsageError
from pytest_memtype.explain.imported_layout import fitted, layout_of
from pytest_memtype.explain.layout_text import layout_text
from pytest_memtype.explain.machine_map import machine_map
from pytest_memtype.machine.layout import intended, validate
from pytest_memtype.machine.layout_file import load_layout
from pytest_memtype.x86.mtrr import memory_type_at

UC, WC, WT, WP, WB = MemType.UC, MemType.WC, MemType.WT, MemType.WP, MemType.WB
REPORTS = Path(__file__).parent / "reports"


def report(name: str) -> bytes:
    return (REPORTS / f"{name}.txt").read_bytes()


def test_nothing_to_import() -> None:
    with pytest.raises(UsageError, match="no MTRRs in this text"):
        layout_of(read("mtrr: no more MTRRs available"))


def test_the_firmware_s_registers_come_before_those_of_mtrr_cleanup() -> None:
    imported = layout_of(read(report("laptop-debug")))
    assert imported.layout.default is UC
    assert len(imported.layout.ranges) == 7
    # A0000-BFFFF and D0000-E7FFF are uncachable, bytes of 0; 5 is write-protect, 6 write-back.
    assert imported.layout.fixed is not None
    assert imported.layout.fixed[:3] == (0x0606060606060606, 0x0606060606060606, 0)
    assert imported.layout.fixed[3:] == (0x0505050505050505,) * 2 + (0,) * 3 + (0x0505050505050505,) * 3
    assert imported.notes == ()


def test_tom2_and_48_bits_are_drawn() -> None:
    dump = read(report("amd-server"))
    imported = layout_of(dump)
    assert (imported.layout.tom2, imported.layout.tom2_write_back) == (0x1080000000, True)
    assert imported.layout.ranges[-1] == MtrrRange(0xFF000000, "16M", WP, register=7)
    rows = machine_map(dump, imported).rows
    assert rows[-1].end == 1 << 48
    assert [(str(each.memtype), each.source) for each in rows if each.start >= 1 << 32] == [
        ("WB", "TOM2"),
        ("UC", "default"),
    ]


def test_tom2_becomes_ranges_for_a_guest() -> None:
    made = fitted(layout_of(read(report("amd-server"))), Hardware(memory="256M"))
    validate(made.layout, physical_bits=40)
    assert made.layout.tom2 is None
    assert any("TOM2" in each for each in made.notes)
    # Five ranges for TOM2 and four of the machine's are one more than there are registers.
    assert any("2G WB at 0x1000000000 is left out" in each for each in made.notes)
    state = intended(made.layout, physical_bits=40)
    for address, memtype in ((0x100000000, WB), (0xFFFFFF000, WB), (0x1080000000, UC), (0xE4000000, WP)):
        assert memory_type_at(state, address) is memtype


TEN = """
reg00: base=0x0ffc00000 ( 4092MB), size=    4MB, count=1: write-protect
reg01: base=0x000000000 (    0MB), size= 2048MB, count=1: write-back
reg02: base=0x080000000 ( 2048MB), size= 1024MB, count=1: write-back
reg03: base=0x0c0000000 ( 3072MB), size=  512MB, count=1: write-back
reg04: base=0x0dc000000 ( 3520MB), size=   64MB, count=1: uncachable
reg05: base=0x0db000000 ( 3504MB), size=   16MB, count=1: uncachable
reg06: base=0x100000000 ( 4096MB), size= 2048MB, count=1: write-back
reg07: base=0x180000000 ( 6144MB), size=  512MB, count=1: write-back
reg08: base=0x19f000000 ( 6640MB), size=   16MB, count=1: uncachable
reg09: base=0x19e800000 ( 6632MB), size=    8MB, count=1: uncachable
"""


def test_ten_registers_fit_into_eight_and_it_is_said() -> None:
    imported = layout_of(read(TEN))
    assert len(imported.layout.ranges) == 10
    made = fitted(imported, Hardware(memory="256M"))
    validate(made.layout, physical_bits=40)
    left_out = [each for each in made.notes if "left out: there are too many" in each]
    assert len(left_out) == 2
    # Below 4 GiB, where a guest has its memory and its devices, every address is as in the machine.
    machine = intended(imported.layout, physical_bits=40, variable_registers=10)
    guest = intended(made.layout, physical_bits=40)
    for address in range(1 << 20, 1 << 32, 4 << 20):
        assert memory_type_at(machine, address) is memory_type_at(guest, address), hex(address)


def test_ranges_that_say_nothing_new_are_joined() -> None:
    text = "\n".join(
        f"reg{n:02}: base=0x{n << 28:09x} ({n << 8:5}MB), size=  256MB, count=1: write-back"
        for n in range(10)
    )
    made = fitted(layout_of(read(text)), Hardware(memory="256M"))
    assert made.layout.ranges == (MtrrRange(0, "2G", WB), MtrrRange(0x80000000, "512M", WB))
    assert not any("left out: there are too many" in each for each in made.notes)


# generic_get_mtrr() of Linux 6.1 makes 61456MB of mask 0xf0ff000000, seen in a guest.
def test_a_mask_with_holes_in_proc_mtrr() -> None:
    imported = layout_of(read("reg02: base=0x00c000000 (  192MB), size=61456MB, count=1: write-through\n"))
    assert imported.layout.ranges == (MtrrRange(0xC000000, "16M", WT, ignored_bits=0xF00000000, register=2),)
    assert any("mask with holes" in each and "0xf0ff000000" in each for each in imported.notes)


def test_what_proc_mtrr_cannot_say_is_listed() -> None:
    imported = layout_of(read("reg00: base=0x0c0000000 ( 3072MB), size= 1024MB, count=1: uncachable\n"))
    assert imported.layout.default is WB
    assert any("default type isn't in /proc/mtrr" in each for each in imported.notes)
    assert any("fixed ranges" in each for each in imported.notes)


@pytest.mark.parametrize("name", ["laptop-debug", "coreboot", "fwts", "amd-server"])
def test_the_file_reads_as_what_it_was_made_of(name: str, tmp_path: Path) -> None:
    layout = layout_of(read(report(name)), "made").layout
    (tmp_path / "made.toml").write_text(layout_text(layout, ['it says "this" \\ and\nthat', "x" * 300]))
    assert load_layout("made", [tmp_path]) == layout


def test_a_hostile_name_of_a_machine_stays_in_its_quotes(tmp_path: Path) -> None:
    text = (
        'DMI: a"\\ndefault = "x" \\\nreg00: base=0x000000000 (    0MB), size= 2048MB, count=1: write-back\n'
    )
    layout = layout_of(read(text), "made").layout
    assert isinstance(layout, Layout)
    (tmp_path / "made.toml").write_text(layout_text(layout))
    assert load_layout("made", [tmp_path]) == layout


def test_more_registers_than_a_cpu_has() -> None:
    lines = [
        f"reg{n:03}: base=0x{n << 20:09x} ({n:5}MB), size=    1MB, count=1: write-back" for n in range(256)
    ]
    with pytest.raises(UsageError, match="lists 256 variable ranges; a CPU has at most 255"):
        layout_of(read("\n".join(lines)))
