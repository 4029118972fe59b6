"""Lines as archives and other CPUs have left them, and sentences that begin like output."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.facts import Kind, Span
from pytest_memtype.dumps.read import read
from pytest_memtype.dumps.text import rows
from pytest_memtype.x86.memtype import MemType

# Hypermail puts a line's <br> on a line of its own (open-mpi.org, users, 2010).
_HYPERMAIL = """\
<p>dmesg | grep mtrr
<br>
mtrr: type mismatch for d0000000,10000000 old: write-back new:&nbsp;
<br>
write-combining
<br>
<br>
Eventually it backtracks to X.
"""


def test_a_tag_on_a_line_of_its_own_ends_the_line_above() -> None:
    dump = read(_HYPERMAIL)
    (found,) = dump.of(Kind.MTRR_MISMATCH)
    assert (found.asked, found.held) == (MemType.WC, (MemType.WB,))
    assert not dump.cut
    # Two of them are an empty line.
    assert [row.text for row in rows(_HYPERMAIL.encode())][-4:] == [
        "write-combining",
        "",
        "Eventually it backtracks to X.",
        "",
    ]


# Jane Chu, 2021: two CPUs have printed at once, and a terminal has wrapped it.
_OVERWRITTEN = """\
> > [ 2439.769949] mce: [Hardware Error]: Machine check events logged
> > -1850603000 uncached-minus<->write-back
> > [ 2439.769984] x86/PAT: memtype_reserve failed [mem
> > 0x1850602000-0x1850602fff], track uncached-minus, req uncached-minus
"""


def test_the_rest_of_a_line_is_a_line_that_is_cut() -> None:
    dump = read(_OVERWRITTEN)
    assert [each.number for each in dump.cut] == [2]
    (found,) = dump.complaints
    assert found.span == Span(0x1850602000, 0x1850602FFF)


@pytest.mark.parametrize(
    "sentence",
    [
        "MTRR says 3 registers are not used. and None of the 6 available ones map the region.",
        "ioremap'd area? That's the driver that needs changing.",
        "ioremap fails for me.",
        "mtrr and PAT are what I don't understand.",
    ],
)
def test_a_sentence_is_no_output(sentence: str) -> None:
    dump = read(sentence)
    assert [each.text for each in dump.prose] == [sentence]
    assert not dump.unread


@pytest.mark.parametrize(
    "line",
    [
        "mtrr: something new",
        "MTRR: something new",
        "PAT: something new",
        "ioremap: something new",
        "ioremap_cache+0x17/0x30",
    ],
)
def test_output_without_a_prefix_is_output(line: str) -> None:
    assert [each.text for each in read(line).unread] == [line]


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("Subject: [MTRR?] [2.6.31-git7] Xorg: conflicting memory types", "2.6.31-git7"),
        ("Last known good: 2.6.31-git3\nBad: 2.6.31-git7\n", "2.6.31-git7"),
        ("Bad: 2.6.32-rc3-git2", "2.6.32-rc3-git2"),
    ],
)
def test_snapshots_of_the_days_behind_a_release(text: str, release: str) -> None:
    kernel = read(text).kernel
    assert kernel is not None
    assert kernel.release == release
