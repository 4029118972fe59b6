"""Listings in the difference of two: what is common to both is neither."""

from __future__ import annotations

import pytest

from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.dumps.not_shown import of_differences
from pytest_memtype.dumps.read import read
from pytest_memtype.dumps.text import rows
from pytest_memtype.explain.explanation import explain

MTRRS = """\
--- before
+++ after
@@ -1,3 +1,3 @@
 reg00: base=0x000000000 (    0MB), size= 2048MB, count=1: write-back
-reg01: base=0x080000000 ( 2048MB), size=  512MB, count=1: write-back
+reg01: base=0x080000000 ( 2048MB), size= 1024MB, count=1: write-back
 reg02: base=0x0c0000000 ( 3072MB), size=  256MB, count=1: uncachable
"""
LISTS = """\
@@ -8,4 +8,4 @@
 PAT memtype list:
 uncached-minus @ 0xf0000000-0xf8000000
-write-combining @ 0x2000000000-0x2100000000
+uncached-minus @ 0x2000000000-0x2100000000
 uncached-minus @ 0x2100000000-0x2100001000
"""


@pytest.mark.parametrize("quote", ["", "> ", ">     "])
def test_registers_of_a_difference_are_not_all(quote: str) -> None:
    text = "".join(f"{quote}{line}\n" for line in MTRRS.splitlines())
    listings = read(text).mtrrs
    assert listings
    assert not any(each.complete for each in listings)
    below = "\nand all of them:\n\n" + MTRRS.splitlines()[3].strip()
    assert read(text + below).mtrr == read(text + below).mtrrs[-1]
    assert read(text + below).mtrrs[-1].complete


def test_reservations_of_a_difference_are_neither_lists() -> None:
    dump = read(f"Which is it at 0x2100000000?\n{LISTS}")
    assert not dump.entries
    assert not dump.entries_shown


def test_the_commit_that_is_named_by_ten_digits() -> None:
    text = f"The slowdown is of 8d04a5f97a, before it all was fast.\n{LISTS}"
    found = explain(read(text), [each.bug for each in catalogue()])
    assert [each.id for each in found.suspects] == ["neighbour-decides"]


def test_a_hunk_ends_where_its_lines_do() -> None:
    lines = rows(f"{LISTS} reg00 is what follows it\n@@ -1 +1 @@\n-a\nbehind\n+b\n".encode())
    assert sorted(of_differences(lines)) == [2, 3, 4, 5, 6, 9]
