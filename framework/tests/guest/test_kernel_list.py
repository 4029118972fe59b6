from __future__ import annotations

import pytest

from pytest_memtype.guest.kernel_list import parse_memtype_list
from pytest_memtype.guest.region import Region
from pytest_memtype.x86.memtype import MemType

# In the form that memtype_seq_show() of arch/x86/mm/pat/memtype.c prints, 5.10 to 7.3: the end is exclusive.
TEXT = """\
PAT memtype list:
PAT: [mem 0x000000000ffe0000-0x000000000ffe3000] write-back
PAT: [mem 0x00000000fd000000-0x00000000fd001000] uncached-minus
PAT: [mem 0x00000000fd000000-0x00000000fd001000] uncached-minus
"""


def test_the_end_is_exclusive_and_doubles_stay() -> None:
    entries = parse_memtype_list(TEXT)
    assert [entry.region for entry in entries] == [Region(0xFFE0000, 3), *[Region(0xFD000000, 1)] * 2]
    assert [entry.memtype for entry in entries] == [MemType.WB, MemType.UC_MINUS, MemType.UC_MINUS]


def test_an_empty_list() -> None:
    assert parse_memtype_list("PAT memtype list:\n") == ()


@pytest.mark.parametrize("line", ["write-back @ 0x0-0x1000", "PAT: [mem 0x0-0x1000] mostly-harmless"])
def test_another_form_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match=r"unknown"):
        parse_memtype_list(f"PAT memtype list:\n{line}\n")
