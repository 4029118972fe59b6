"""The picture of an audit: physical memory across, a lane for each memory type, conflicts marked."""

from __future__ import annotations

import itertools
from typing import Final
from xml.etree import ElementTree as Xml

import numpy as np

from pytest_memtype.audit.audit import Audit
from pytest_memtype.report.layout_map import printable
from pytest_memtype.x86.effective import EFFECTIVE_TYPES, effective_code
from pytest_memtype.x86.size import format_size

_COLOURS: Final = {
    "UC": "#6f9fd8",
    "CD": "#4f79b0",
    "WC": "#b48ad6",
    "WT": "#e3d26f",
    "WP": "#f0e6a8",
    "WB": "#7bbf6a",
    "undefined": "#e0605e",
}
_BAD: Final = "#c01010"
_LEFT: Final = 96
_COLUMNS: Final = 1000
_LANE: Final = 34
_SVG: Final = "http://www.w3.org/2000/svg"
#: Frames: unmapped memory of more than this is left out, so that RAM isn't a dot beside the PCI hole.
_GAP: Final = (16 << 20) >> 12


def audit_svg(audit: Audit) -> bytes:
    """Draw an audit as an SVG document.

    Long stretches where nothing is mapped are cut out, at dashed lines.
    """
    parts = _parts(audit)
    total = max(1, sum(frames for _, frames in parts))
    height = 92 + _LANE * (len(EFFECTIVE_TYPES) + 1)
    root = Xml.Element(
        "svg",
        {
            "xmlns": _SVG,
            "viewBox": f"0 0 {_LEFT + _COLUMNS + 16} {height}",
            "font-family": "monospace",
            "font-size": "12",
        },
    )
    Xml.SubElement(root, "title").text = "Physical memory by effective memory type"
    Xml.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "white"})
    for number, memtype in enumerate(EFFECTIVE_TYPES):
        _text(root, 8, 64 + _LANE * number, str(memtype))
    _text(root, 8, 64 + _LANE * len(EFFECTIVE_TYPES), "conflicts")
    left = float(_LEFT)
    for first, frames in parts:
        width = _COLUMNS * frames / total
        _part(root, audit, first, frames, left, width, height)
        left += width
    document: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _parts(audit: Audit) -> list[tuple[int, int]]:
    """The stretches of memory that are drawn, as (first frame, number of frames), ascending."""
    joined: list[tuple[int, int]] = []
    for first, frames, _ in audit.seen.walk.pieces:
        if joined and first - joined[-1][1] <= _GAP:
            joined[-1] = (joined[-1][0], first + frames)
        else:
            joined.append((first, first + frames))
    # A single page must still be seen beside gigabytes.
    least = max(1, sum(last - first for first, last in joined) // 40)
    return [(first, max(last - first, least)) for first, last in joined]


def _part(
    root: Xml.Element, audit: Audit, first: int, frames: int, left: float, width: float, height: int
) -> None:
    columns = max(1, round(width))
    edges = [first + frames * column // columns for column in range(columns + 1)]
    bits = [_bits(audit, a, max(b, a + 1)) for a, b in itertools.pairwise(edges)]
    for number, memtype in enumerate(EFFECTIVE_TYPES):
        used = [bool(each & 1 << effective_code(memtype)) for each in bits]
        for start, count in _runs(used):
            _rect(root, left + start * width / columns, 44 + _LANE * number, count * width / columns,
                  _COLOURS[str(memtype)])  # fmt: skip
    for each in audit.conflicts:
        start = (each.start >> 12) - first
        if 0 <= start < frames:
            at = left + start * width / frames
            wide = max(3.0, each.pages * width / frames)
            mark = _rect(root, at, 44 + _LANE * len(EFFECTIVE_TYPES), wide, _BAD)
            Xml.SubElement(mark, "title").text = printable(str(each))
    line = {"x1": f"{left:.1f}", "x2": f"{left:.1f}", "y1": "36", "y2": str(height - 30)}
    Xml.SubElement(root, "line", {**line, "stroke": "#999", "stroke-dasharray": "3 3"})
    if width > 60:
        _text(root, left + 3, height - 14, f"{first << 12:#x}")
        _text(root, left + 3, 30, format_size(frames << 12))


def _bits(audit: Audit, first: int, last: int) -> int:
    return int(np.bitwise_or.reduce(audit.seen.walk.pieces.within(first, last).bits))


def _runs(used: list[bool]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for index, each in enumerate(used):
        if each and runs and sum(runs[-1]) == index:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        elif each:
            runs.append((index, 1))
    return runs


def _rect(root: Xml.Element, x: float, y: float, width: float, fill: str) -> Xml.Element:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": str(_LANE - 6)}
    return Xml.SubElement(root, "rect", {**place, "fill": fill})


def _text(root: Xml.Element, x: float, y: float, text: str) -> None:
    Xml.SubElement(root, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}"}).text = printable(text)
