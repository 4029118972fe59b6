"""The picture of a layout, as a terminal and a browser get it."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given, settings
from rich.console import Console

from pytest_memtype.errors import LayoutError
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.machine.layout_file import layout_files, load_layout
from pytest_memtype.report.layout_map import MOST_ROWS, Map, Row, layout_map, remark, svg, table
from pytest_memtype.strategies import layouts
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import UNDEFINED, MtrrRange

UC, WC, WP, WT, WB = MemType.UC, MemType.WC, MemType.WP, MemType.WT, MemType.WB
HARDWARE = Hardware()
HOSTILE = '<script>alert(1)</script>" & ]]> [red]x[/]'


def drawn(picture: Map) -> str:
    output = io.StringIO()
    Console(file=output, width=200, color_system=None).print(table(picture))
    return output.getvalue()


def rows(name: str) -> list[tuple[int, int, object, str, str]]:
    return [
        (row.start, row.end, row.memtype, row.source, row.owner.name)
        for row in layout_map(load_layout(name), HARDWARE).rows
    ]


def test_firmware() -> None:
    found = rows("firmware")
    assert found[:5] == [
        (0, 0xA0000, WB, "fixed", "RAM"),
        (0xA0000, 0xC0000, UC, "fixed", "VGA window; SMRAM behind it"),
        (0xC0000, 0xF0000, WP, "fixed", "option ROMs, shadowed in RAM"),
        (0xF0000, 0x100000, WP, "fixed", "BIOS, shadowed in RAM"),
        (0x100000, 0x10000000, WB, "default", "RAM"),
    ]
    assert (0xFD000000, 0xFE000000, UC, "variable 0", "test device, BAR 0") in found
    assert found[-1] == (1 << 32, 1 << 40, WB, "default", "nobody")


def test_what_a_layout_leaves_is_the_guest_s_firmware_s() -> None:
    """OVMF makes memory from 2 GiB on UC, and the option ROMs."""
    found = layout_map(load_layout("firmware"), Hardware(firmware="ovmf")).rows
    types = {row.memtype for row in found if row.start >= 2 << 30 and row.end <= 1 << 32}
    assert types == {UC}
    assert next(row.memtype for row in found if row.start == 0xC0000) is UC


def test_overlaps_name_all_registers() -> None:
    found = rows("overlap-undefined")
    assert (0xFD400000, 0xFD800000, UNDEFINED, "variable 1, 2", "test device, BAR 0") in found
    assert (0xFDC00000, 0xFE000000, UC, "variable 1, 4", "test device, BAR 0") in found
    assert {row[3] for row in rows("mtrr-disabled")} == {"off"}


@pytest.mark.parametrize("name", [each.name for each in layout_files()])
def test_named_layout_is_drawn_whole(name: str) -> None:
    picture = layout_map(load_layout(name), HARDWARE)
    text = drawn(picture)
    document = Xml.fromstring(svg(picture))
    texts = [each.text for each in document.iter("{http://www.w3.org/2000/svg}text")]
    for row in picture.rows:
        assert f" {row.end - 1:x} " in text
        assert f"{row.start:012x} - {row.end - 1:012x}" in texts
    assert bool(remark(picture, HARDWARE)) is (name in ("inconsistent-cpus", "ram-not-covered"))


def test_picture_in_the_documents_is_up_to_date() -> None:
    """After a change: memtype layouts show overlap-undefined --svg docs/overlap-undefined.svg"""
    picture = Path(__file__).parents[3] / "docs" / "overlap-undefined.svg"
    assert picture.read_bytes() == svg(layout_map(load_layout("overlap-undefined"), HARDWARE))


def check(found: tuple[Row, ...]) -> None:
    assert found[0].start == 0
    for before, after in pairwise(found):
        assert before.end == after.start
        assert before.owner is not after.owner or before.source != after.source or "fixed" in before.source


@settings(max_examples=30)
@given(layouts())
def test_random_layouts(layout: Layout) -> None:
    picture = layout_map(layout, HARDWARE)
    check(picture.rows)
    assert (picture.shown_to < 1 << 40) is (len(picture.rows) == MOST_ROWS)
    assert drawn(picture)
    Xml.fromstring(svg(picture))


def test_millions_of_ranges_are_cut() -> None:
    layout = Layout("holes", default=UC, ranges=[MtrrRange(0, "4K", WB, ignored_bits=(1 << 40) - (1 << 13))])
    picture = layout_map(layout, HARDWARE)
    assert len(picture.rows) == MOST_ROWS
    assert remark(picture, HARDWARE).startswith(f"the layout has more than {MOST_ROWS} ranges")


def test_hostile_text_stays_text() -> None:
    picture = layout_map(Layout("mine", default=WB, description=HOSTILE), HARDWARE)
    document = Xml.fromstring(svg(picture))
    assert {each.tag.partition("}")[2] for each in document.iter()} == {"svg", "title", "rect", "text"}
    texts = [each.text for each in document.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[1] == HOSTILE
    assert "[red]x[/]" in drawn(picture)


@pytest.mark.parametrize("character", ["\x1b", "\0", "\n", "\u202e", "\ud800"])
def test_what_a_terminal_would_obey_is_no_description(character: str) -> None:
    layout = Layout("mine", default=WB, description=f"a{character}b")
    with pytest.raises(LayoutError, match="description isn't one line of printable text"):
        layout_map(layout, HARDWARE)


def test_memory_moves_with_the_hardware() -> None:
    picture = layout_map(load_layout("firmware"), Hardware(memory="1G"))
    assert (0x100000, 1 << 30) in {(row.start, row.end) for row in picture.rows}


def test_what_amds_firmware_makes_write_back_above_4g() -> None:
    """From a laptop's report: 2296M below 4G, and TOM2 9200M covers the rest, which no MTRR does."""
    laptop = Layout(
        "laptop",
        default=UC,
        ranges=[MtrrRange(0, "2G", WB), MtrrRange("2G", "256M", WB), MtrrRange(0x8F800000, "8M", UC)],
        tom2="9200M",
        tom2_write_back=True,
        smrr=MtrrRange("8M", "8M", WB),
    )
    found = [(row.start, row.end, row.memtype, row.source) for row in layout_map(laptop, HARDWARE).rows]
    assert (1 << 32, 9200 << 20, WB, "TOM2") in found
    assert (9200 << 20, 1 << 40, UC, "default") in found
    assert (8 << 20, 16 << 20, UC, "SMRR (WB in SMM)") in found
