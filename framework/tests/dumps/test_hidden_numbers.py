"""Numbers in messages that are no addresses: hashed, all ones, or made unreadable."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.facts import Kind
from pytest_memtype.dumps.read import read
from pytest_memtype.x86.memtype import MemType

SIZE_0 = (
    "[   12.135536] resource: resource sanity check: requesting [mem 0x0000000000000000-0xffffffffffffffff], "
    "which spans more than PCI Bus 0000:00 [mem 0x000a0000-0x000bffff window]"
)


def test_all_64_bits_are_no_range() -> None:
    """iomem_map_sanity_check() prints start + size - 1: ones for a size of 0 at address 0."""
    (sanity,) = read(SIZE_0).of(Kind.SANITY)
    assert sanity.span is None


@pytest.mark.parametrize(
    "hidden",
    [
        *("...", "<redacted>", "[mem <redacted>]", "xxxxxxxx-xxxxxxxx", "[redacted]"),
        *("0x...", "0x...-0x...", "[mem 0xXXXX-0xXXXX]"),
    ],
)
def test_what_people_hide_is_not_cut(hidden: str) -> None:
    dump = read(
        f"x86/PAT: Media:<pid> conflicting memory types {hidden} uncached-minus<->write-combining\n"
        f"x86/PAT: memtype_reserve failed {hidden}, track write-combining, req write-combining\n"
    )
    conflict, failed = dump.complaints
    assert conflict.held == (MemType.UC_MINUS, MemType.WC)
    assert (conflict.process, conflict.pid, conflict.span) == ("Media", None, None)
    assert (failed.asked, failed.span) == (MemType.WC, None)
    assert (dump.cut, dump.unread) == ((), ())


# amd-gfx, 2026: a patch for a driver that is loaded again, and finds its own mapping.
@pytest.mark.parametrize(
    ("line", "asked", "held"),
    [
        ("ioremap error for {}, requested 0x1, got 0x0", MemType.WC, MemType.WB),
        (
            "x86/PAT: a.out:19 map pfn expected mapping type uncached-minus for {}, got write-back",
            MemType.UC_MINUS,
            MemType.WB,
        ),
        (
            "x86/PAT: a.out:19 map pfn RAM range req write-combining for {}, got write-back",
            MemType.WC,
            MemType.WB,
        ),
        (
            "x86/PAT: reserve_ram_pages_type failed {}, track 0x2, req 0x1",
            MemType.WC,
            MemType.UC_MINUS,
        ),
    ],
)
@pytest.mark.parametrize("hidden", ["0x...", "[mem 0x...-0x...]", "<redacted>"])
def test_types_are_read_beside_a_hidden_range(line: str, asked: MemType, held: MemType, hidden: str) -> None:
    dump = read(line.format(hidden))
    (found,) = dump.complaints
    assert (found.span, found.asked, found.held[0]) == (None, asked, held)
    assert (dump.cut, dump.unread) == ((), ())


def test_a_conflict_is_read_without_its_range() -> None:
    """A README, 2026: people quote the line by its types alone."""
    text = "It fails with `-16` and `x86/PAT: conflicting memory types write-combining<->uncached-minus`.\n"
    (found,) = read(text).complaints
    assert (found.kind, found.span) == (Kind.CONFLICTING_TYPES, None)
    assert found.held == (MemType.WC, MemType.UC_MINUS)


# arch/x86/kernel/cpu/mtrr/mtrr.c, arch_phys_wc_add(): %p, a hash since 4.15 (ad67b74d2469), of 32 bits.
@pytest.mark.parametrize(
    ("pointers", "known"),
    [
        ("00000000d0000000-00000000dfffffff", True),
        ("000000000998bb55-00000000eb9e681e", False),
        ("000000000998b000-00000000eb9e681e", False),
        ("000000000998bb55-00000000eb9e6fff", False),
    ],
)
def test_a_hashed_pointer_is_no_address(pointers: str, known: bool) -> None:
    (failed,) = read(
        f"[ 4.302289] Failed to add WC MTRR for [{pointers}]; performance may suffer."
    ).complaints
    assert (failed.span is not None) is known
    assert failed.asked is MemType.WC


def test_both_words_of_write_xor_execute() -> None:
    for word in ("refuse", "detected"):
        text = f"CPA {word} W^X violation: 8000000000000163 -> 0000000000000163 range: 0xff - 0xff PFN 7d"
        assert [each.kind for each in read(text).complaints] == [Kind.CPA]
