from __future__ import annotations

import pytest

from pytest_memtype.guest.proc_mtrr import ProcMtrr, decode_mtrr_answer, parse_proc_mtrr
from pytest_memtype.x86.memtype import MemType

# In the form that mtrr_seq_show() of arch/x86/kernel/cpu/mtrr/if.c prints, 5.10 to 7.3: KB below 1 MiB.
TEXT = """\
reg00: base=0x0c0000000 ( 3072MB), size= 1024MB, count=1: uncachable
reg02: base=0x0fd000000 ( 4048MB), size=   64KB, count=2: write-combining
"""


def test_each_register_is_one_range() -> None:
    assert parse_proc_mtrr(TEXT) == (
        ProcMtrr(0, 0xC0000000, 1 << 30, MemType.UC, 1),
        ProcMtrr(2, 0xFD000000, 64 << 10, MemType.WC, 2),
    )


def test_no_register_in_use() -> None:
    assert parse_proc_mtrr("") == ()


@pytest.mark.parametrize("line", ["reg00: gone", TEXT.splitlines()[0].replace("uncachable", "?")])
def test_another_form_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="unknown line"):
        parse_proc_mtrr(line)


def test_who_may_not_read_it_is_shown_nothing() -> None:
    answer = decode_mtrr_answer({"errno": 1, "text": None}, ("a message",))
    assert answer.rejected
    assert answer.registers is None
    assert answer.log == ("a message",)
