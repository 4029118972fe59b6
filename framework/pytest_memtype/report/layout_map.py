"""The picture of a layout: memory from the bottom up, its MTRR type, and whose it is."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from xml.etree import ElementTree as Xml

from rich.table import Table
from rich.text import Text

from pytest_memtype.machine.firmware_layout import firmware_layout
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout, intended
from pytest_memtype.machine.memory_map import Kind, Owner, owners
from pytest_memtype.machine.uncovered import uncovered_ram
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.mtrr import FIXED_END, MtrrState, MtrrType, decode
from pytest_memtype.x86.mtrr_runs import Run, pieces
from pytest_memtype.x86.size import format_size

MOST_ROWS: Final = 256
"""The most rows of a picture. A mask with many holes makes millions of ranges, and more help no reader."""

# Both of the terminal and of the SVG. Cacheable types are green to yellow, uncached ones blue to violet.
_COLOURS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "WB": ("green", "#7bbf6a"),
        "WT": ("yellow", "#e3d26f"),
        "WP": ("bright_yellow", "#f0e6a8"),
        "UC": ("blue", "#6f9fd8"),
        "WC": ("magenta", "#b48ad6"),
        "undefined": ("red", "#e0605e"),
    }
)


@shown_in_hexadecimal("start", "end")
@dataclass(frozen=True)
class Row:
    """Neighbouring addresses with one MTRR type for one reason, and one owner.

    :param start: Physical address of the first byte.
    :param end: Physical address of the byte behind the last.
    :param source: What gives the type: ``fixed``, ``default``, ``off``, the variable registers, ``TOM2``, or
        ``SMRR``, which is UC outside of system-management mode.
    """

    start: int
    end: int
    memtype: MtrrType
    owner: Owner
    source: str


@shown_in_hexadecimal("shown_to")
@dataclass(frozen=True)
class Map:
    """The rows of a layout, ascending.

    :param shown_to: Address where the rows end: the end of memory, unless there would be too many.
    """

    layout: Layout
    rows: tuple[Row, ...]
    shown_to: int


def layout_map(layout: Layout, hardware: Hardware) -> Map:
    """The types that the boot CPU's MTRRs give all memory of a guest when its kernel starts.

    :param layout: The layout of the MTRRs.
    :param hardware: The guest's hardware: its physical address width, and who owns which memory.
    :raises LayoutError: the MTRRs can't express the layout.
    """
    firmware = firmware_layout(hardware)
    state = intended(layout, physical_bits=hardware.physical_bits, firmware=firmware)
    return map_of(layout, state, owners(hardware))


def map_of(layout: Layout, state: MtrrState, who: Iterable[Owner]) -> Map:
    """The types that the MTRRs of any machine give its memory.

    :param layout: What the picture is called by.
    :param state: The registers.
    :param who: The owners of all addresses of the picture, ascending, without gaps.
    """
    found = list(itertools.islice(_rows(state, who), MOST_ROWS))
    return Map(layout, tuple(found), found[-1].end)


def _rows(state: MtrrState, who: Iterable[Owner]) -> Iterable[Row]:
    for owner in who:
        key = functools.partial(_type_and_source, state)
        for (memtype, source), group in itertools.groupby(pieces(state, owner.start, owner.end), key):
            neighbours = list(group)
            yield Row(neighbours[0].start, neighbours[-1].end, memtype, owner, source)


def _type_and_source(state: MtrrState, piece: Run) -> tuple[MtrrType, str]:
    return piece.memtype, _source(state, piece.start)


def _source(state: MtrrState, address: int) -> str:
    mtrrs = decode(state)
    if state.smrr is not None and state.smrr.covers(address):
        return f"SMRR ({state.smrr.memtype} in SMM)"
    if not mtrrs.enabled:
        return "off"
    if address < FIXED_END and mtrrs.fixed_enabled:
        return "fixed"
    numbers = [str(each.register) for each in mtrrs.variable if each.covers(address)]
    if numbers:
        return f"variable {', '.join(numbers)}"
    forced = state.amd is not None and state.amd.forces_write_back(address)
    return "TOM2" if forced else "default"


def table(picture: Map) -> Table:
    """Draw the picture of a layout for a terminal."""
    drawn = Table(title=_title(picture), title_justify="left", title_style="bold", box=None)
    for name in ("from", "to", "size"):
        drawn.add_column(name, justify="right", no_wrap=True)
    drawn.add_column("")
    drawn.add_column("type", no_wrap=True)
    drawn.add_column("by", no_wrap=True)
    drawn.add_column("whose")
    previous = None
    for row in picture.rows:
        colour = _COLOURS[str(row.memtype)][0]
        drawn.add_row(
            f"{row.start:x}",
            f"{row.end - 1:x}",
            format_size(row.end - row.start),
            # As high as the memory is large, by powers of two: 4 KiB and 512 GiB must both be seen.
            Text("\n".join(["██"] * _height(row)), style=colour),
            Text(str(row.memtype), style=f"bold {colour}"),
            row.source,
            Text(row.owner.name if row.owner is not previous else '"', style="dim" if _idle(row) else ""),
        )
        previous = row.owner
    return drawn


def _height(row: Row) -> int:
    return max(1, ((row.end - row.start).bit_length() - 12) // 6)


def _idle(row: Row) -> bool:
    return row.owner.kind in (Kind.NOBODY, Kind.PCI_HOLE)


def _title(picture: Map) -> Text:
    return Text(printable(f"{picture.layout.name}: {picture.layout.description}"))


def remark(picture: Map, hardware: Hardware) -> str:
    """Remarks on what the picture of a layout doesn't show, a line each; empty when it shows all."""
    lines = []
    if picture.shown_to < 1 << hardware.physical_bits:
        lines.append(
            f"the layout has more than {MOST_ROWS} ranges, by a mask with holes; "
            f"shown is what lies below {picture.shown_to:#x}"
        )
    elif picture.layout.other_cpus is not None:
        lines.append("this is the boot CPU's memory; the layout names other types for the other CPUs")
    uncovered = uncovered_ram(picture.layout, hardware)
    return "\n".join([*lines, *([uncovered] if uncovered else [])])


_ROW = 22
_WIDTH = 960
_BAR = 330
_SVG = "http://www.w3.org/2000/svg"


def svg(picture: Map) -> bytes:
    """Draw the picture of a layout as an SVG document. The layout's own text can't break out of it."""
    heights = [_ROW + 8 * (_height(row) - 1) for row in picture.rows]
    height = 60 + sum(heights)
    root = Xml.Element(
        "svg",
        {
            "xmlns": _SVG,
            "viewBox": f"0 0 {_WIDTH} {height}",
            "width": str(_WIDTH),
            "height": str(height),
            "font-family": "monospace",
            "font-size": "13",
        },
    )
    Xml.SubElement(root, "title").text = str(_title(picture))
    Xml.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "white"})
    _text(root, 16, 24, picture.layout.name, weight="bold")
    _text(root, 16, 44, picture.layout.description)
    top = 56
    for row, row_height in zip(picture.rows, heights, strict=True):
        middle = top + row_height // 2 + 5
        fill = {"fill": _COLOURS[str(row.memtype)][1], "stroke": "white"}
        Xml.SubElement(
            root, "rect", {"x": str(_BAR), "y": str(top), "width": "90", "height": str(row_height), **fill}
        )
        _text(root, 16, middle, f"{row.start:012x} - {row.end - 1:012x}")
        _text(root, _BAR - 10, middle, format_size(row.end - row.start), anchor="end")
        _text(root, _BAR + 45, middle, str(row.memtype), anchor="middle", weight="bold")
        _text(root, _BAR + 102, middle, row.source)
        _text(root, _BAR + 360, middle, row.owner.name)
        top += row_height
    document: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _text(
    root: Xml.Element, x: int, y: int, text: str, *, anchor: str = "start", weight: str = "normal"
) -> None:
    place = {"x": str(x), "y": str(y), "text-anchor": anchor, "font-weight": weight}
    Xml.SubElement(root, "text", place).text = printable(text)


def printable(text: str) -> str:
    """A text as XML can have it: not with most control characters, which names of processes may hold."""
    # Half surrogates have no encoding.
    return "".join(each if each.isprintable() else "�" for each in text)
