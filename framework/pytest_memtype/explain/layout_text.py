"""A layout as the text of a TOML file."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator

from pytest_memtype.machine.layout import Layout
from pytest_memtype.x86.mtrr import MtrrRange
from pytest_memtype.x86.size import format_size


def layout_text(layout: Layout, comments: Iterable[str] = ()) -> str:
    """The file of a layout, which :func:`pytest_memtype.machine.layout_file.load_layout` reads.

    :param layout: The layout.
    :param comments: Sentences for the beginning of the file.
    """
    return "\n".join([*_comments(comments), *_lines(layout)]) + "\n"


def _comments(comments: Iterable[str]) -> Iterator[str]:
    for each in comments:
        plain = "".join(character if character.isprintable() else "?" for character in " ".join(each.split()))
        yield from textwrap.wrap(plain, 100, initial_indent="# ", subsequent_indent="#   ")


def _lines(layout: Layout) -> Iterator[str]:
    yield f"description = {_quoted(layout.description)}"
    if layout.default is not None:
        yield f"default = {_quoted(layout.default.kernel_name)}"
    if not layout.enabled:
        yield "enabled = false"
    if not layout.fixed_enabled:
        yield "fixed_enabled = false"
    if layout.fixed is not None:
        yield "fixed = ["
        yield from (f'    "{each:#018x}",' for each in layout.fixed)
        yield "]"
    if layout.tom2 is not None:
        yield f'tom2 = "{format_size(layout.tom2)}"'
        if layout.tom2_write_back:
            yield "tom2_write_back = true"
    for each in layout.ranges:
        yield ""
        yield "[[ranges]]"
        yield from _range(each)
    if layout.smrr is not None:
        yield ""
        yield "[smrr]"
        yield from _range(layout.smrr)


def _range(each: MtrrRange) -> Iterator[str]:
    yield f'base = "{each.base:#x}"'
    yield f'size = "{format_size(each.size)}"'
    yield f"type = {_quoted(each.memtype.kernel_name)}"
    if each.ignored_bits:
        yield f'ignored_bits = "{each.ignored_bits:#x}"'
    if each.register is not None:
        yield f"register = {each.register}"


def _quoted(text: str) -> str:
    # A basic string of TOML takes the escapes of JSON's, once all characters are printable ASCII.
    return json.dumps("".join(each if each.isprintable() else "?" for each in text), ensure_ascii=False)
