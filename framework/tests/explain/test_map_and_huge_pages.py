"""A large page that the MTRRs forbid, beside the map of them that the text has."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import explain
from pytest_memtype.explain.story import Story


def story(text: str) -> Story:
    return explain(read(text), []).story


_HUGE = "[    8.204838] pmd_set_huge: Cannot satisfy [mem {}] with a huge-page mapping due to MTRR override\n"
_MAP = """\
[    0.000587] MTRR map: 4 entries (3 fixed + 1 variable; max 23), built from 10 variable MTRRs
[    0.000588]   0: 0000000000000000-000000000009ffff write-back
[    0.000589]   1: 00000000000a0000-00000000000bffff uncachable
[    0.000590]   2: 00000000000c0000-00000000000fffff write-protect
[    0.000591]   3: 0000000088800000-00000000ffffffff uncachable
"""


def test_a_map_of_one_type_is_not_contradicted() -> None:
    found = story(_HUGE.format("0x80200000-0x80400000") + _MAP)
    assert "has no boundary there" in found.answer
    # The map is of 6.5 and later.
    assert "before" not in found.answer


@pytest.mark.parametrize("lines", [5, 3])
def test_a_map_with_a_boundary_or_cut_says_nothing_else(lines: int) -> None:
    text = _HUGE.format("0x88600000-0x88a00000") + "\n".join(_MAP.splitlines()[:lines])
    assert "no boundary" not in story(text).answer
