"""Headings of MTRRs whose registers the text has lost, and Xen's."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.errors import UsageError
from pytest_memtype.explain.explanation import explain
from pytest_memtype.explain.imported_layout import layout_of

HEADINGS = """\
grep says:
[    0.000000] MTRR default type: uncachable
[    0.000000] MTRR variable ranges enabled:
"""


def test_headings_alone() -> None:
    with pytest.raises(UsageError, match=r"but headings \(line 2\): no register could be read"):
        layout_of(read(HEADINGS))
    assert "the text shows headings of MTRRs without a register," in explain(read(HEADINGS), []).story.answer


def test_xen_is_not_linux() -> None:
    xen = """\
(XEN) mtrr: your CPUs had inconsistent variable MTRR settings
(XEN) MTRR default type: write-back
(XEN) MTRR variable ranges enabled:
(XEN)   0 base 0080000000 mask ff80000000 uncachable
"""
    story = explain(read(xen), []).story
    assert "Xen copied the boot CPU's" in story.answer
    assert story.rule.startswith("xen/arch/x86/cpu/mtrr/generic.c")
