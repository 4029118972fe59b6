"""Tables of mtrr_cleanup without its result, what a mail's subject says, and the PAT of 4.1 and before."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.facts import Kind
from pytest_memtype.dumps.read import read
from pytest_memtype.errors import UsageError
from pytest_memtype.explain.explanation import explain
from pytest_memtype.explain.imported_layout import layout_of
from pytest_memtype.x86.memtype import MemType

WB, WC, UC_MINUS, UC = MemType.WB, MemType.WC, MemType.UC_MINUS, MemType.UC


# As logwatch prints it.
TABLE = """\
 4 Time(s): *BAD*gran_size: 128K        chunk_size: 2G  num_reg: 8      lose cover RAM: -1G
 4 Time(s): *BAD*gran_size: 1M  chunk_size: 2G  num_reg: 8      lose cover RAM: -1G
"""
TRIED = """\
[    0.157385] total RAM covered: 16352M
[    0.166148] Setting variable MTRR 0, base: 0GB, range: 2GB, type WB
[    0.228603] After WB checking
"""


@pytest.mark.parametrize("text", [TABLE, TRIED])
def test_what_was_tried_is_no_result(text: str) -> None:
    dump = read(text)
    assert "what mtrr_cleanup tried" in explain(dump, []).story.answer
    with pytest.raises(UsageError, match="no MTRRs in this text"):
        layout_of(dump)


def test_a_result_is_what_counts() -> None:
    text = f"{TRIED}[    0.3] New variable MTRRs\n[    0.3] reg 0, base: 0GB, range: 2GB, type WB\n"
    assert explain(read(text), []).story.answer.startswith("the text shows MTRRs")


def test_a_subject_is_no_message() -> None:
    assert read("Subject: Re: no more MTRRs available\n").complaints == ()
    assert read("> Subject: mtrr: no more MTRRs available\n\nI wonder why.\n").complaints == ()
    (found,) = read("Subject: no more MTRRs available\n\nmtrr: no more MTRRs available\n").complaints
    assert (found.kind, found.line) == (Kind.MTRR_FULL, 3)


def test_a_question_is_no_message() -> None:
    assert read("Are there no more MTRRs available?\n").complaints == ()
    assert read("no more MTRRs available ?\n").complaints == ()
    assert len(read("mtrr: no more MTRRs available\n").complaints) == 1
    # What the log says it says.
    assert len(read("[   10.000000] mtrr: no more MTRRs available?\n").complaints) == 1


def test_the_pat_before_its_prefix() -> None:
    dump = read("[    0.000000] PAT configuration [0-7]: WB  WC  UC- UC  WB  WC  UC- UC  \n")
    assert dump.pat.types == (WB, WC, UC_MINUS, UC) * 2
