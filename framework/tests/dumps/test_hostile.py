"""Texts that nobody means well with: the time is bounded, and so is what is kept of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pytest_memtype.commands.reports import read_report
from pytest_memtype.dumps.read import read
from pytest_memtype.dumps.text import MOST_BYTES, rows
from pytest_memtype.errors import UsageError
from pytest_memtype.explain.explanation import explain

HUGE = "9" * 400
HEX = "f" * 400
LINES = [
    f"x86/PAT: a:1 conflicting memory types {HEX}-{HEX} uncached-minus<->write-combining",
    f"x86/PAT: a:{HUGE} freeing invalid memtype [mem 0x{HEX}-0x{HEX}]",
    f"ioremap error for 0x{HEX}-0x{HEX}, requested 0x{HEX}, got 0x{HEX}",
    f"ioremap memtype_reserve failed -{HUGE}",
    f"reg{HUGE}: base=0x{HEX} ({HUGE}MB), size={HUGE}MB, count={HUGE}: write-back",
    f"reg 1, base: {HUGE}GB, range: {HUGE}GB, type WB",
    f"MTRR map: {HUGE} entries",
    f"Linux version {HUGE}.{HUGE}.{HUGE}",
    f"kernel {HUGE}.{HUGE}",
    f"PAT: [mem 0x{HEX}-0x{HEX}] write-back",
    f"{HEX}-{HEX} : System RAM",
    f"\tMemory at {HEX} (64-bit, prefetchable) [size={HUGE}G]",
    f"CPU(s): {HUGE}",
    f"TOM2: {HEX} aka {HUGE}M",
    f"  0 base {HEX} mask {HEX} write-back",
    f"[{HUGE}.{HUGE}] mtrr: no more MTRRs available",
    f"mtrr: type mismatch for {HEX},{HEX} old: write-back new: write-combining",
]


@pytest.mark.parametrize("line", LINES)
def test_numbers_of_400_digits(line: str) -> None:
    dump = read(line)
    assert all(each.span is None for each in dump.complaints)
    assert dump.mtrrs == ()
    assert dump.entries == ()
    assert dump.bars == ()


@pytest.mark.parametrize(
    "line",
    [
        "x86/PAT: a:1 freeing invalid memtype [mem 0xfd000fff-0xfd000000]",
        "PAT: [mem 0x00000000fd010000-0x00000000fd000000] uncached-minus",
        "mtrr: type mismatch for e0000000,0 old: write-back new: write-combining",
    ],
)
def test_ranges_that_end_before_they_begin(line: str) -> None:
    dump = read(line)
    assert all(each.span is None for each in dump.complaints)
    assert dump.entries == ()


def test_a_terminal_would_obey_nothing_of_it() -> None:
    dump = read(
        b"\x1b]0;owned\x07[    1.000000] \x1b[31mmtrr: \x1b[0mweird\x1b[2J words\x00 of \xe2\x80\xae it\n"
        b"\x1b[32m[    2.000000] \x1b[0mx86/PAT: \x1b[1ma\x1b[0m:7 "
        b"freeing invalid memtype [mem 0xfd000000-0xfd000fff]\n"
    )
    assert [each.text for each in dump.unread] == ["[    1.000000] mtrr: weird words of  it"]
    (complaint,) = dump.complaints
    assert (complaint.process, complaint.pid) == ("a", 7)


@pytest.mark.parametrize("number", ["&#13;", "&#8238;", "&#x202e;&#xfeff;", "&#8203;", "&#x9b;2J"])
def test_nor_of_what_stands_behind_a_number(number: str) -> None:
    dump = read(f"mtrr: weird{number} words\nsome prose{number} of e0000000\n")
    assert dump.unread[0].text.startswith("mtrr: weird")
    assert all(each.text.isprintable() for each in (*dump.unread, *dump.prose))


def test_utf_16_and_latin_1() -> None:
    line = "x86/PAT: a:7 freeing invalid memtype [mem 0xfd000000-0xfd000fff]"
    assert len(read(line.encode("utf-16")).complaints) == 1
    assert len(read(f"Gr\xfc\xdfe\n{line}".encode("latin-1")).complaints) == 1


@pytest.mark.parametrize(
    "block",
    [
        b"A" * 4096,
        b"x86/PAT: " * 500 + b"\n",
        b"x86/PAT: a:1 map pfn expected mapping type\n",
        b"reg00: base=0x000000000 (    0MB), size= 4096MB,\n",
        b"WARNING: CPU: 0 PID: 1 at arch/x86/mm/ioremap.c:1 __ioremap_caller+0x1/0x2\nCall Trace:\n",
        b">" * 1000 + b" mtrr: x\n",
        b"&lt;" * 300 + b"\n",
        b"=3D=\n" * 100,
        b"MTRR default type: uncachable\nMTRR variable ranges enabled:\n",
        b"00:00.0 A: b\n\tMemory at fe000000 (32-bit, prefetchable)\n",
        b"\xff\xfe\x00" * 100,
        b"[    0.000000] " * 300 + b"\n",
        b"Linux version 6.1.0\n",
        b"worked fine before kernel 6.1.1 " * 60 + b"\n",
        b"(((((((((((((((((((((" * 100 + b"\n",
        b"[    0.000000] Linux version 5.4.1 (x@y)\n[    0.000000] Linux version 6.1.1 (x@y)\n",
        b"reg00: base=0x000000000 (    0MB), size= 1MB, count=1: write-back\nreg00: base=0x0\n",
        b"pci 0000:01:00.0: BAR 0: assigned [mem 0xe0000000-0xe0ffffff]\n",
        b"Is " * 600 + b"uncached?\n",
    ],
)
def test_much_of_anything(block: bytes) -> None:
    # Time that grows faster than the text would make this one hang: it takes a tenth of a second.
    dump = read((block * (1 + (1 << 16) // len(block)))[: 1 << 16])
    assert len(dump.unread) + len(dump.prose) <= 200
    explain(dump, [])


def test_noise_of_the_right_words() -> None:
    chosen = random.Random(5)
    words = [*" ".join(LINES).split(), "[mem", "0xfd000000-0xfd000fff],", "got", "write-back", "x86/PAT:"]
    for _ in range(40):
        read("\n".join(" ".join(chosen.choices(words, k=12)) for _ in range(20)))


@pytest.mark.parametrize("data", [b"\n" * (1 << 16), b"> \n\r\n" * (1 << 14), b"\r" * (1 << 16)])
def test_lines_without_words_are_not_kept(data: bytes) -> None:
    """Each would take 190 bytes of memory, for one of the text."""
    found = rows(data)
    assert len(found) <= 3
    last = rows(data + b"end")[-1]
    assert (last.text, last.number) == ("end", 1 + len(data.splitlines()))


def test_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("text", "read"):
        monkeypatch.setattr(f"pytest_memtype.dumps.{module}.MOST_LINES", 1000)
    assert len(rows(b"a\n" * 3000)) == 1000
    assert len(rows((b"x<br>" * 100 + b"\n") * 30)) == 1000
    assert read("a\n" * 3000).truncated
    assert not read("a\n" * 900).truncated


def test_too_large_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "big.txt"
    with file.open("wb") as opened:
        opened.truncate(50 << 20)
    with pytest.raises(UsageError, match=r"larger than the 8 MiB of a report; cut out"):
        read_report(str(file))
    assert MOST_BYTES == 8 << 20


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b" \n\n", "is empty"), (bytes(5000), "NUL"), (b"a\0b\0" * 99, "NUL")],
)
def test_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "none.txt"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_report(str(file))


def test_only_regular_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a folder"):
        read_report(str(tmp_path))
    with pytest.raises(UsageError, match="a device"):
        read_report("/dev/zero")
    with pytest.raises(UsageError, match="can't be read"):
        read_report(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    "line",
    [
        "reg00: base=0x000000000 (    0MB), size= 64\u212aB, count=1: write-back",
        "\tMemory at fd000000 (64-bit, prefetchable) [size=64\u212a]",
    ],
)
def test_the_sign_of_kelvins_is_no_unit(line: str) -> None:
    """Where case doesn't matter it is a K, and it has no other form."""
    dump = read(line)
    assert dump.mtrr is None or dump.mtrr.variable == ()


def test_many_complaints_are_read_one_after_the_other() -> None:
    """Each is compared with the one before it, not with all: the last has the range of its neighbour."""
    lines = [f"ioremap memtype_reserve failed -{n % 9999}" for n in range(2000)]
    lines += [
        "x86/PAT: memtype_reserve failed [mem 0xf0000000-0xf0000fff], track uncached-minus, req write-back"
    ]
    lines += ["ioremap memtype_reserve failed -16"]
    last = read("\n".join(lines)).complaints[-1]
    assert last.span is not None
    assert last.span.start == 0xF0000000


def test_of_a_line_without_end_some_numbers_are_kept() -> None:
    # Two lines are read as one message that a terminal has wrapped.
    (complaint,) = read("CPA protect \n" * 5000).complaints
    assert complaint.repeated == 2500
    assert complaint.lines == tuple(range(1, 2001))
