"""Logs in the marks of a forum, or escaped for Markdown."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.x86.memtype import MemType

LINES = [
    "[    0.000000] MTRR default type: uncachable",
    "[    0.000000] MTRR variable ranges enabled:",
    "[    0.000000]   0 base 0000000000 mask 7C00000000 write-back",
    "[    0.000000]   1 disabled",
]


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        ("[COLOR=#000000][FONT=arial]", "[/FONT][/COLOR]"),
        ("[size=85][b]", "[/b][/size]"),
        ("[CODE]", "[/CODE]"),
    ],
)
def test_bbcode(before: str, behind: str) -> None:
    (found,) = read("\n".join(f"{before}{each}{behind}" for each in LINES)).mtrrs
    assert (found.default, found.unused, found.complete) == (MemType.UC, (1,), True)
    assert [(each.base, each.mask) for each in found.variable] == [(0, 0x7C00000000)]


def test_escapes_of_markdown() -> None:
    # Its spaces are lost where the page was read as HTML.
    text = "\n".join(rf"\[ 0.000000\] {each[15:].strip()}" for each in LINES)
    dump = read(text + "\n\\[ 0.000000\\] e820: last\\_pfn = 0x41fe00 \\[mem 0xbf000000-0xffffffff\\]\n")
    (found,) = dump.mtrrs
    assert (len(found.variable), found.unused) == (1, (1,))


def test_brackets_of_a_program_stay() -> None:
    (found,) = read(
        "conflicting memory types d0000000-d1000000 write-combining<->uncached-minus [i]"
    ).complaints
    assert found.span is not None
    assert read("some text [b] \\[x\\]").prose[0].text == "some text [b] \\[x\\]"


def test_a_dash_behind_a_number_is_a_dash() -> None:
    """Read after the text was cleaned, "uncached&#8209;minus" was taken for "uncached"."""
    (found,) = read(
        "x86/PAT: X:7 map pfn expected mapping type uncached&#8209;minus "
        "for [mem 0xfd000000&#8211;0xfd000fff], got write&#8211;combining"
    ).complaints
    assert (found.asked, found.held) == (MemType.UC_MINUS, (MemType.WC,))
    (freed,) = read("x86/PAT: X&#8203;:7 freeing invalid memtype&#160;[mem 0xfd000000-0xfd000fff]").complaints
    assert (freed.process, freed.pid) == ("X", 7)
