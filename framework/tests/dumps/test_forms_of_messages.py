"""Messages in their rarer forms: of old kernels, and of the X server."""

from __future__ import annotations

from pytest_memtype.dumps.facts import Kind, Span
from pytest_memtype.dumps.read import read
from pytest_memtype.x86.memtype import MemType


def test_a_sanity_check_ends_with_the_last_byte() -> None:
    """iomem_map_sanity_check() prints addr + size - 1, be it even; %pR prints the last byte, too."""
    (found,) = read(
        "resource sanity check: requesting [mem 0xffffffff-0x10000001c], which spans more than "
        "Reserved [mem 0xfffc0000-0xfffffffe]\n"
    ).of(Kind.SANITY)
    assert found.span == Span(0xFFFFFFFF, 0x1_0000_001C)
    assert found.other == Span(0xFFFC0000, 0xFFFFFFFE, "Reserved")


def test_old_names_of_a_change_that_failed() -> None:
    """phys_mem_access_prot_allowed() and reserve_pfn_range() of arch/x86/mm/pat.c, 2.6.26 and 2.6.29."""
    for form, process in (("/dev/mem ", "acpidump"), ("reserve_pfn_range ", "X"), ("", "X")):
        line = f"{process}:2024 {form}ioremap_change_attr failed uncached-minus for 7d5b0000-7d5b1000"
        (found,) = read(f"{line}\n").of(Kind.CHANGE_FAILED)
        assert (found.process, found.pid, found.asked) == (process, 2024, MemType.UC_MINUS)
        assert found.span == Span(0x7D5B0000, 0x7D5B0FFF)


def test_the_x_server_got_no_mtrr() -> None:
    """hw/xfree86/os-support/linux/lnx_video.c, mtrr_add_wc_region(): base and size."""
    dump = read("(WW) fglrx(0): Failed to set up write-combining range (0xec000000,0x1fc0000)\n")
    (found,) = dump.of(Kind.MTRR_WC_FAILED)
    assert (found.span, found.asked) == (Span(0xEC000000, 0xEDFBFFFF), MemType.WC)
    assert not dump.unread


def test_spaces_that_a_page_has_doubled() -> None:
    """ubuntuforums, April 2013: /var/log/kern.log, with two spaces where long lines were broken."""
    dump = read(
        "Apr  2 18:54:26 localhost kernel: [    8.207157] Xorg:1226 conflicting  memory types "
        "7f800000-7ffe9000 write-combining<->uncached-minus\n"
        "Apr  2 18:54:26 localhost kernel: [    8.207169] reserve_memtype failed  0x7f800000-0x7ffe9000, "
        "track uncached-minus, req  uncached-minus\n"
        "Apr  2 18:54:26 localhost kernel: [    8.207170] mtrr: type  mismatch for d0000000,8000000 old: "
        "write-back  new: write-combining\n"
    )
    conflict, failed, mismatch = dump.complaints
    assert (conflict.kind, conflict.process, conflict.pid) == (Kind.CONFLICTING_TYPES, "Xorg", 1226)
    assert conflict.span == failed.span == Span(0x7F800000, 0x7FFE8FFF)
    assert failed.asked is MemType.UC_MINUS
    assert (mismatch.held, mismatch.asked) == ((MemType.WB,), MemType.WC)
    assert (dump.cut, dump.unread) == ((), ())
