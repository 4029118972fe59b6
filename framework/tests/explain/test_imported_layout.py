"""Layouts of machines, and what a guest can have of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from pytest_memtype import Hardware, Layout, MemType, MtrrRange
from pytest_memtype.dumps.read import read
from pytest_memtype.errors import LayoutError, UsageError
from pytest_memtype.explain.explanation import explain, sections
from pytest_memtype.explain.imported_layout import Imported, fitted, layout_of
from pytest_memtype.explain.layout_text import layout_text
from pytest_memtype.explain.machine_map import machine_map, registers_of
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
    # Without the 512M above 6 GiB the uncached ranges in it say nothing, and 7 are left.
    assert len(left_out) == 1
    assert len(made.layout.ranges) == 7
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


def of_registers(*numbers: int) -> str:
    return "\n".join(
        f"reg{n:03}: base=0x{n << 20:09x} ({n:5}MB), size=    1MB, count=1: write-back" for n in numbers
    )


def test_as_many_registers_as_there_are_msrs_for() -> None:
    """0x200 to 0x24f: the next MSR is the first fixed-range register."""
    dump = read(of_registers(*range(40)))
    imported = layout_of(dump)
    assert len(imported.layout.ranges) == 40
    assert machine_map(dump, imported).rows


@pytest.mark.parametrize("numbers", [range(41), range(256), (40,), (300,), (0, 999)])
def test_more_registers_than_a_cpu_has(numbers: Iterable[int]) -> None:
    text = of_registers(*numbers)
    with pytest.raises(UsageError, match=f"lists {max(numbers) + 1} variable ranges.*has at most 40"):
        layout_of(read(text))
    found = explain(read(text + "\nmtrr: no more MTRRs available"), [])
    (said,) = [each.lines for each in sections(found) if each.title == "Not understood"]
    assert said == ("line 1: /proc/mtrr has more registers there than a CPU can have",)


def test_another_listing_has_more_registers_than_a_cpu() -> None:
    imported = layout_of(read(f"{BOOT}{of_registers(999)}"))
    assert not any("differ" in each for each in imported.notes)


def test_a_layout_for_a_register_that_no_cpu_has() -> None:
    layout = Layout("odd", default=UC, ranges=[MtrrRange(0, "2G", WB, register=300)])
    with pytest.raises(LayoutError, match="register 300 isn't one of 0 to 39"):
        registers_of(Imported(layout, 40, ()))


# What "dmesg | grep -i mtrr" leaves of a listing.
HEADINGS = """\
[    0.000000] MTRR default type: uncachable
[    0.000000] MTRR fixed ranges enabled:
[    0.000000] MTRR variable ranges enabled:
"""
BOOT = f"""{HEADINGS}\
[    0.000000]   0 base 000000000 mask F80000000 write-back
[    0.000000]   1 disabled
"""
REFUSED = "[   10.000000] ioremap error for {0:#x}-{1:#x}, requested 0x2, got 0x0\n"
PROC = """\
reg00: base=0x000000000 (    0MB), size= 8192MB, count=1: write-back
reg01: base=0x0e0000000 ( 3584MB), size=  256MB, count=1: uncachable
"""


def memory(text: str, address: int) -> list[str]:
    """The lines of explain on some memory that a driver was refused."""
    found = explain(read(text + REFUSED.format(address, address + 0x1000)), [])
    return [line for each in sections(found) if each.title == "The memory" for line in each.lines]


def test_headings_without_registers_are_no_map() -> None:
    dump = read(HEADINGS + PROC)
    layout = layout_of(dump).layout
    assert layout.ranges == (MtrrRange(0, "8G", WB), MtrrRange(0xE0000000, "256M", UC))
    assert layout.default is UC
    assert "The MTRRs say WB of 0xfd000000-0xfd000fff." in memory(HEADINGS + PROC, 0xFD000000)
    assert not [each for each in memory(HEADINGS, 0xFD000000) if "MTRRs say" in each]
    with pytest.raises(UsageError, match="no MTRRs in this text"):
        layout_of(read(HEADINGS))


def test_listings_that_differ_say_nothing() -> None:
    proc = """reg00: base=0x000000000 (    0MB), size= 2048MB, count=1: write-back
reg01: base=0x0d0000000 ( 3328MB), size=  256MB, count=1: write-combining
"""
    said = memory(BOOT + proc, 0xD0000000)
    assert "The text lists the MTRRs more than once, and not alike there." in said
    assert not [each for each in said if "MTRRs say" in each]
    assert "The MTRRs say WB of 0x70000000-0x70000fff." in memory(BOOT + proc, 0x70000000)
    # Nothing but the boot's listing says what is where no register is.
    assert "The MTRRs say UC of 0xc0000000-0xc0000fff." in memory(BOOT + proc, 0xC0000000)


@pytest.mark.parametrize(
    "text",
    [
        PROC.replace("uncachable", "uncach"),
        PROC.replace("0x0e0000000", "0x0e000"),
        PROC.replace("uncachable", "?"),
        BOOT.replace("1 disabled", "1 base 0E0000000 mask FF000"),
        BOOT.replace("0 base 000000000 mask F80000000 write-back", "0 base 000").replace(
            "1 disabled", "1 base 080000000 mask F80000000 write-back"
        ),
        "original variable MTRRs\nreg 0, base: 0GB, range: 4GB, type WB\nreg 1, base: 3584MB, rang\n",
        "MTRR overview\nReg 0: 0x0000000000000000 - 0x0000000100000000 (     4096 MB)   Write-Back\n"
        "Reg 1: 0x00000000e0000000 - 0x00000000f0\n",
        "RDMSR( 0x200 ) = 0000000000000006\nRDMSR( 0x201 ) = 0000007F80000800\nRDMSR( 0x203 ) = 7F80000800\n",
    ],
)
def test_a_listing_that_is_cut_says_nothing(text: str) -> None:
    assert not [each for each in memory(text, 0xE0000000) if "MTRRs" in each or "register" in each]
    assert [each for each in layout_of(read(text)).notes if "may be missing" in each or "is left out" in each]


def test_a_whole_listing_beats_one_that_is_cut() -> None:
    imported = layout_of(read(BOOT.replace("1 disabled", "1 base 0E0000000 mask FF000") + PROC))
    assert len(imported.layout.ranges) == 2
    assert not any("may be missing" in each for each in imported.notes)
