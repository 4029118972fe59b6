"""What a report is about, and whose memory that is, where several of its parts say something of it."""

from __future__ import annotations

import pytest

from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import Explanation, explain, sections


def explained(text: str) -> Explanation:
    return explain(read(text), [each.bug for each in catalogue()])


def lines(text: str, title: str) -> str:
    return "\n".join(line for each in sections(explained(text)) if each.title == title for line in each.lines)


REFUSED = """\
{}conflicting memory types d8000000-e0000000 write-combining<->uncached-minus
reserve_memtype failed 0xd8000000-0xe0000000, track write-combining, req write-combining
{}freeing invalid memtype d8000000-e0000000
"""


@pytest.mark.parametrize(
    ("refused", "freed", "same"),
    [("X:6352 ", "X:6352 ", True), ("X:6352 ", "X:8456 ", False), ("", "X:8456 ", True)],
)
def test_who_was_refused_frees_nothing_of_others(refused: str, freed: str, same: bool) -> None:
    found = explained(REFUSED.format(refused, freed))
    assert ("as it was refused" in found.story.answer) is same
    assert ("the process X (8456) gives back that range" in found.story.answer) is not same


SANITY = """\
resource sanity check: requesting [mem 0xe0000000-0xefffffff], which spans more than \
BOOTFB [mem 0xe0000000-0xe012bfff]
"""


def test_the_resource_of_a_sanity_check_owns_its_part() -> None:
    memory = lines(SANITY, "The memory")
    assert "It is BOOTFB: 0xe0000000-0xe012bfff (1200K) of it or beside it." in memory
    assert "doesn't say" not in memory
    # Whose the rest is isn't said.
    assert "whose the rest of it is" in lines(SANITY, "What is missing").lower()


# ivtvfb on 4.2 to 5.5: memory that ivtv has mapped uncached.
DEBUGPAT = """\
x86/PAT: Overlap at 0xd5000000-0xd5800000
x86/PAT: reserve_memtype added [mem 0xd5510000-0xd56b0fff], track uncached-minus, req {}, ret uncached-minus
uncached-minus @ 0xd5000000-0xd5800000
uncached-minus @ 0xd5510000-0xd56b1000
My board has it at 0xd5000000.
"""


def test_a_request_that_got_another_type_counts_before_the_list() -> None:
    found = explained(DEBUGPAT.format("write-combining"))
    assert found.known_bug == "silent-downgrade"
    assert "asked for as write-combining (WC)" in found.story.answer
    assert len(found.about.entries) == 2


def test_a_request_that_got_its_type_leaves_the_list_first() -> None:
    assert "in the list of reservations" in explained(DEBUGPAT.format("uncached-minus")).story.answer


@pytest.mark.parametrize(
    ("kernel", "probe"),
    [
        ("2.6.32-28-generic", None),
        ("4.8.0-59-generic", None),
        ("5.4.0-42-generic", "reserve_memtype"),
        ("5.10.0-18-amd64", "memtype_reserve"),
    ],
)
def test_the_function_to_trace_has_that_kernels_name(kernel: str, probe: str | None) -> None:
    line = "X:1 conflicting memory types d8000000-e0000000 write-combining<->uncached-minus"
    missing = lines(
        f"[    0.000000] Linux version {kernel} (x@y)\n[    9.000000] {line}\n", "What is missing"
    )
    assert "debugpat" in missing
    assert ("bpftrace" in missing) is (probe is not None)
    assert probe is None or f"kprobe:{probe} " in missing


def test_the_function_to_trace_where_the_kernel_is_not_said() -> None:
    line = "x86/PAT: X:1 map pfn expected mapping type {} for [mem 0xd8000000-0xdfffffff], got write-back\n"
    missing = lines(line.format("uncached-minus"), "What is missing")
    assert "kprobe:memtype_reserve " in missing
    assert "(4.9 and later; reserve_memtype before 5.6)" in missing


@pytest.mark.parametrize(
    ("kernel", "form", "place"),
    [
        # phys_mem_access_prot_allowed() and reserve_pfn_range() until 2.6.29, a function of its own since
        # then, which ecdd6ee77b73 renamed in 5.6.
        ("2.6.27", "/dev/mem ", "arch/x86/mm/pat.c, phys_mem_access_prot_allowed()"),
        ("2.6.29", "reserve_pfn_range ", "arch/x86/mm/pat.c, reserve_pfn_range()"),
        ("3.2.1", "", "arch/x86/mm/pat.c, kernel_map_sync_memtype()"),
        ("6.12.5", "", "arch/x86/mm/pat/memtype.c, memtype_kernel_map_sync()"),
    ],
)
def test_where_a_change_failed(kernel: str, form: str, place: str) -> None:
    text = (
        f"[    0.000000] Linux version {kernel} (x@y)\n"
        "[    9.000000] CPA: called for zero pte. vaddr = ffff88007d5b0000 cpa->vaddr = ffff88007d5b0000\n"
        f"[    9.000001] acpidump:2024 {form}ioremap_change_attr failed uncached-minus for "
        "7d5b0000-7d5b1000\n"
    )
    story = explained(text).story
    assert story.rule == place
    assert "no entry there (line 2), so the request of the process acpidump (2024)" in story.answer


def test_the_x_server_is_named() -> None:
    text = "(WW) VESA(0): Failed to set up write-combining range (0xfc000000,0x800000)\n"
    assert explained(text).story.answer.startswith("the X server got no write-combining MTRR for 0xfc000000-")


def test_a_size_that_is_no_whole_number_of_anything_has_a_unit() -> None:
    text = (
        "resource sanity check: requesting [mem 0x000c0000-0x000e0000], which spans more than PCI Bus "
        "0000:00 [mem 0x000d0000-0x000d3fff]\n"
    )
    answer = explained(text).story.answer
    assert "0xc0000-0xe0000 (131073 bytes)" in answer
    assert "0xd0000-0xd3fff (16K)" in answer
