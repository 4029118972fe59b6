"""Pictures that a run's folder holds: SVG documents, of which nothing but shapes and words is taken."""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree as Xml

_NAMESPACE: Final = "{http://www.w3.org/2000/svg}"
_TAGS: Final = ("svg", "title", "rect", "line", "text")
_ATTRIBUTES: Final = re.compile(
    r"viewBox|width|height|x|y|x1|y1|x2|y2|fill|stroke|stroke-dasharray|text-anchor|font-(?:family|size|weight)"
)
# Neither url() nor anything with a scheme.
_VALUES: Final = re.compile(r"[#%.,A-Za-z0-9 -]*")
_LARGEST: Final = 1 << 20


def harmless_svg(text: str) -> bytes | None:
    """An SVG document made anew of the shapes and words of another; None of one that can't be read.

    :param text: The document. Files that others could have written may hold scripts and links.
    """
    if len(text) > _LARGEST or "<!" in text:
        return None
    try:
        root = Xml.fromstring(text)
    except (Xml.ParseError, ValueError, RecursionError):
        return None
    if root.tag != f"{_NAMESPACE}svg":
        return None
    Xml.register_namespace("", _NAMESPACE[1:-1])
    try:
        document: bytes = Xml.tostring(_copied(root), encoding="utf-8", xml_declaration=True)
    except RecursionError:
        return None
    return document


def _copied(element: Xml.Element) -> Xml.Element:
    kept = {
        name: value
        for name, value in element.attrib.items()
        if _ATTRIBUTES.fullmatch(name) and _VALUES.fullmatch(value)
    }
    copy = Xml.Element(element.tag, kept)
    copy.text = element.text
    copy.extend([_copied(each) for each in element if each.tag in {_NAMESPACE + name for name in _TAGS}])
    return copy
