from __future__ import annotations

from xml.etree import ElementTree as Xml

import pytest

from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout_file import load_layout
from pytest_memtype.report.layout_map import layout_map, svg
from pytest_memtype.site.pictures import harmless_svg

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9">'


def test_our_own_pictures_stay_as_they_are() -> None:
    picture = svg(layout_map(load_layout("overlap-undefined"), Hardware())).decode()
    copy = harmless_svg(picture)
    assert copy is not None
    assert Xml.canonicalize(copy.decode()) == Xml.canonicalize(picture)


@pytest.mark.parametrize(
    ("hostile", "word"),
    [
        ("<script>alert(1)</script>", "alert"),
        ("<rect onload='alert(1)'/>", "onload"),
        ("<rect fill='url(http://example.com/x)'/>", "example"),
        ("<rect style='fill: red'/>", "style"),
        ("<image href='http://example.com/x'/>", "example"),
        ("<a xlink:href='javascript:alert(1)'><text>x</text></a>", "javascript"),
        ("<foreignObject><iframe xmlns='http://www.w3.org/1999/xhtml'/></foreignObject>", "iframe"),
        ("<text><tspan>x</tspan><set attributeName='href' to='x'/></text>", "attributeName"),
    ],
)
def test_nothing_but_shapes_and_words(hostile: str, word: str) -> None:
    copy = harmless_svg(f"{HEAD}<rect x='1'/>{hostile}</svg>")
    assert copy is not None
    assert word not in copy.decode()
    assert b'x="1"' in copy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no picture",
        "<html/>",
        "<svg/>",
        f"{HEAD}<rect>",
        f"<!DOCTYPE svg [<!ENTITY a 'b'>]>{HEAD}<text>&a;</text></svg>",
        f"{HEAD}{'<rect/>' * 200_000}</svg>",
        f"{HEAD}{'<text>' * 100_000}",
    ],
    ids=["empty", "text", "html", "no-namespace", "cut", "entity", "large", "deep"],
)
def test_what_is_no_picture(text: str) -> None:
    assert harmless_svg(text) is None


def test_a_picture_within_a_picture_without_end() -> None:
    deep = "<text>" * 5000 + "</text>" * 5000
    assert harmless_svg(f'<svg xmlns="http://www.w3.org/2000/svg">{deep}</svg>') is None
