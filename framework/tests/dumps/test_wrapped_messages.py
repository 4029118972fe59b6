"""Messages that a mailer wrapped, wherever it did: they say what they say on one line."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.facts import Complaint, Dump, Kind
from pytest_memtype.dumps.read import read

# Each is of a kernel's log.
MESSAGES = """\
x86/PAT: CPU 0/KVM:1329 conflicting memory types f800000000-fc00000000 write-combining<->uncached-minus
x86/PAT: memtype_reserve failed [mem 0x387fe0000000-0x387fefffffff], track uncached-minus, req uncached-minus
x86/PAT: test:178 freeing invalid memtype [mem 0xfd000000-0xfd001fff]
Xorg:4766 freeing invalid memtype e06b5000-e06c5000
x86/PAT: app:2512 map pfn RAM range req uncached-minus for [mem 0x481488000-0x481488fff], got write-back
Xorg:705 map pfn expected mapping type uncached-minus for [mem 0xfd000000-0xfdffffff], got write-combining
x86/PAT: reserve_ram_pages_type failed [mem 0x2c98c000-0x2c98cfff], track 0x2, req 0x2
ioremap error for 0xf0000000-0xf0001000, requested 0x2, got 0x0
ioremap memtype_reserve failed -16
x86/PAT: MTRRs disabled, skipping PAT initialization too.
pmd_set_huge: Cannot satisfy [mem 0xf0000000-0xf0200000] with a huge-page mapping due to MTRR override.
resource sanity check: requesting [mem 0xe0000-0xfffff], which spans more than A [mem 0xe0000-0xeffff]
ioremap on RAM at 0x0000000182b47000 - 0x0000000182b47fff
memremap attempted on mixed range 0x000000005f54e018 size: 0x23ba3cfb
memremap attempted on ram 0x51000000 size: 0x800000
mtrr: type mismatch for e0000000,10000000 old: write-back new: write-combining
mtrr: no MTRR for d0000000,2000000 found
mtrr: base(0xf8000000) is not aligned on a size(0x180000) boundary
mtrr: no more MTRRs available
mtrr: your CPUs had inconsistent variable MTRR settings
mtrr_cleanup: can not find optimal value
mtrr: 0xe0000000,0x1000000 overlaps existing 0xe0000000,0x800000
mtrr: your BIOS has set up an incorrect mask, fixing it up.
WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing 13040MB of RAM.
Failed to add WC MTRR for [00000000e0000000-00000000efffffff]; performance may suffer.
[drm] MTRR allocation failed.  Graphics performance may suffer.
CPU MTRRs all blank - virtualized system.
Program dmidecode tried to access /dev/mem between f0000->100000.
Program X tried to access /dev/mem between [mem 0x000f0000-0x000fffff], PAT prevents it
ioremap: invalid physical address a0a601800000001
CPA: called for zero pte. vaddr = f8000000 cpa->vaddr = f8000000
x86/PAT: test:1 ioremap_change_attr failed uncached-minus for [mem 0xf8000000-0xf8000fff]
Info: mapping multiple BARs. Your kernel is fine.
Found optimal setting for mtrr clean up
"""


def said(dump: Dump) -> list[tuple[object, ...]]:
    return [_facts(each) for each in dump.complaints]


def _facts(each: Complaint) -> tuple[object, ...]:
    lost = "13040MB" in each.raw
    return each.kind, each.span, each.asked, each.held, each.granted, each.errno, each.process, each.pid, lost


@pytest.mark.parametrize("mark", ["", "> "])
@pytest.mark.parametrize("message", MESSAGES.splitlines())
def test_wrapped_between_any_words(message: str, mark: str) -> None:
    whole = said(read(f"[    1.234567] {message}\n"))
    assert whole
    words = message.split(" ")
    for count in range(1, len(words)):
        text = f"{mark}[    1.234567] {' '.join(words[:count])}\n{mark}{' '.join(words[count:])}\n"
        assert said(read(text)) == whole, text


# linux-btrfs: 100 characters, so that each mail which wraps lines has it so; p3 and p4 of others.
HUGE = """\
> [    0.211909] PCI: MMCONFIG at [mem 0xf0000000-0xf7ffffff] reserved in E820
> [    0.211909] pmd_set_huge: Cannot satisfy [mem
> 0xf0000000-0xf0200000] with a huge-page mapping due to MTRR override.
> [    0.211909] PCI: Using configuration type 1 for base access
"""


def test_a_huge_page_in_a_mail() -> None:
    (found,) = read(HUGE).of(Kind.HUGE_PAGE)
    assert found.lines == (2, 3)


def test_quoted_printable_without_its_header() -> None:
    text = (
        "[    1.297007] pmd_set_huge: Cannot satisfy [mem 0x80000000-0x80200000] with a huge-page map=\n"
        "ping due to MTRR override.\n"
    )
    assert len(read(text).of(Kind.HUGE_PAGE)) == 1


def test_the_process_of_a_warning() -> None:
    """As 6.18 prints it, __warn() of kernel/panic.c."""
    text = (
        "[    1.0] WARNING: arch/x86/mm/pat/memtype.c:721 at memtype_reserve_io+0xfc/0x110,\n"
        "CPU#6: kworker/6/599\n"
    )
    (found,) = read(text).of(Kind.WARNING)
    assert (found.process, found.pid, found.lines) == ("kworker/6", 599, (1, 2))


@pytest.mark.parametrize(
    "text",
    [
        # Somebody's words go on below.
        "[    1.0] Program dmidecode tried to access /dev/mem between\nthe two of them\n",
        "see arch/x86/mm/pat.c:951\nfreeing invalid memtype e06b5000-e06c5000\n",
    ],
)
def test_what_is_no_end_of_a_message(text: str) -> None:
    (found,) = read(text).complaints
    assert (found.span is None) == ("dmidecode" in text)
    assert found.process in ("dmidecode", None)
