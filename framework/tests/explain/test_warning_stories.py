"""Warnings, and messages that only tell what Linux did: nothing is claimed that they don't say."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import Explanation, as_json, explain, sections


def explained(text: str) -> Explanation:
    return explain(read(text), [])


def lines(text: str, title: str) -> str:
    return "\n".join(line for each in sections(explained(text)) if each.title == title for line in each.lines)


RESERVE_IO = """\
[   12.135536] resource: resource sanity check: requesting {}, which spans more than A [mem 0xa0000-0xbffff]
[   12.135542] ------------[ cut here ]------------
[   12.135543] WARNING: CPU: 6 PID: 599 at arch/x86/mm/pat/memtype.c:721 memtype_reserve_io+0xfc/0x110
[   12.135652] CPU: 6 UID: 0 PID: 599 Comm: (udev-worker) Tainted: G S 6.15.0-13743-g8630c59e9936 #16
"""


def test_a_bar_without_an_address() -> None:
    text = RESERVE_IO.format("[mem 0x0000000000000000-0xffffffffffffffff]")
    story = explained(text).story
    assert "size 0 at address 0" in story.answer
    assert "the process (udev-worker) (599)" in story.answer
    assert "iomem_map_sanity_check()" in story.rule
    assert story.danger.startswith("no sign of it")
    assert "pat_memtype_list" not in lines(text, "What is missing")
    assert as_json(explained(text))["range"] == "none"


def test_a_reservation_over_several_resources_is_no_mapping() -> None:
    """memtype_reserve_io() looks at resources before it reserves."""
    answer = explained(RESERVE_IO.format("[mem 0xd0000000-0xdfffffff]")).story.answer
    assert "asked for 0xd0000000-0xdfffffff" in answer
    assert "mapped 0x" not in answer


def test_the_warning_alone_is_no_danger() -> None:
    story = explained(RESERVE_IO.format("x").partition("\n")[2]).story
    assert "spans more than one resource" in story.answer
    assert story.danger.startswith("no sign of it")


OLD_SANITY = """\
[   16.890046] resource map sanity check conflict: 0xff000000 0xffffffff 0xff700000 0xffffffff reserved
[   16.890058] ------------[ cut here ]------------
[   16.890061] WARNING: at /build/linux/arch/x86/mm/ioremap.c:226 __ioremap_caller+0x349/0x390()
{}[   16.890078] Pid: 1391, comm: modprobe Not tainted {}-server #42-Ubuntu
"""
INFO = "[   16.890063] Info: mapping multiple BARs. Your kernel is fine.\n"


@pytest.mark.parametrize(
    ("info", "kernel", "mapped"),
    [
        # 2.6.32's __ioremap_caller() looks at resources first, and then refuses RAM; 3.1's looks last.
        ("", "2.6.28-11", False),
        (INFO, "2.6.32-11", False),
        (INFO, "3.1.0-11", True),
        (INFO, "3.13.0-36", True),
    ],
)
def test_what_is_mapped_and_what_was_asked_for(info: str, kernel: str, mapped: bool) -> None:
    answer = explained(OLD_SANITY.format(info, kernel)).story.answer
    verb = "mapped" if mapped else "asked for"
    assert answer.startswith(f"the process modprobe (1391) {verb} 0xff000000-0xffffffff")


def test_the_caller_line_comes_behind_the_mapping() -> None:
    text = (
        "resource sanity check: requesting [mem 0xfed10000-0xfed15fff], which spans more than "
        "pnp 00:01 [mem 0xfed10000-0xfed13fff]\n"
        "caller snb_uncore_imc_init_box+0x6a/0x90 mapping multiple BARs\n"
    )
    assert "snb_uncore_imc_init_box() mapped 0xfed10000" in explained(text).story.answer


ZERO_PTE = """\
[    0.000000] CPA: called for zero pte. vaddr = 4ffe0000 cpa->vaddr = 4ffe0000
[    0.000000] WARNING: CPU: 0 PID: 0 at arch/x86/mm/{}:1211 __cpa_process_fault+0x21e/0x232
[    0.000000] CPU: 0 PID: 0 Comm: swapper Not tainted {} #210
"""


@pytest.mark.parametrize(("file", "kernel"), [("pageattr.c", "4.18.0-rc8"), ("pat/set_memory.c", "6.12.5")])
def test_no_entry_in_the_page_table(file: str, kernel: str) -> None:
    text = ZERO_PTE.format(file, kernel)
    story = explained(text).story
    assert "the virtual address 0x4ffe0000" in story.answer
    assert story.rule == f"arch/x86/mm/{file}, __cpa_process_fault()"
    assert "reservation stays" not in story.danger
    assert "pat_memtype_list" not in lines(text, "What is missing")
    assert as_json(explained(text))["range"] == "none"


@pytest.mark.parametrize(
    ("place", "keeps"),
    [
        ("arch/x86/mm/pat/memtype.c:1000 untrack_pfn", True),
        ("arch/x86/mm/pat/memtype.c:960 get_pat_info", True),
        ("arch/x86/mm/pat/memtype.c:600 memtype_free", True),
        ("arch/x86/mm/pat/set_memory.c:2194 set_memory_4k", False),
        ("arch/x86/mm/pat/set_memory.c:1889 change_page_attr_set_clr", False),
    ],
)
def test_only_what_keeps_reservations_leaves_one_behind(place: str, keeps: bool) -> None:
    text = f"[    9.000000] WARNING: CPU: 0 PID: 9 at {place}+0x2d/0x36\n"
    assert ("reservation" in explained(text).story.danger) is keeps
    assert ("pat_memtype_list" in lines(text, "What is missing")) is keeps


def test_an_address_that_the_cpu_lacks_is_told() -> None:
    text = (
        "[    0.415924] ioremap: invalid physical address a0a601800000001\n"
        "[    0.415929] WARNING: at /build/linux/arch/x86/mm/ioremap.c:83 __ioremap_caller+0x372/0x380()\n"
        "[    0.415932] Pid: 1, comm: swapper/0 Not tainted 3.5.0-27-generic #46-Ubuntu\n"
    )
    story = explained(text).story
    assert "0xa0a601800000001" in story.answer
    assert "firmware" in " ".join(story.advice)
    assert "pat_memtype_list" not in lines(text, "What is missing")


@pytest.mark.parametrize(
    ("kernel", "said", "unsaid"),
    [
        # pmd_set_huge(): only "not uniform" since 6.5; before, also not write-back.
        ("6.4.10", "write-back", "aren't known"),
        ("6.12.5", "aren't known", "write-back"),
    ],
)
def test_small_pages(kernel: str, said: str, unsaid: str) -> None:
    line = (
        "pmd_set_huge: Cannot satisfy [mem 0x80000000-0x80200000] with a huge-page mapping "
        "due to MTRR override."
    )
    answer = explained(f"[    0.0] Linux version {kernel} (x@y)\n[    0.155870] {line}\n").story.answer
    assert said in answer
    assert unsaid not in answer
    assert "(6.5 and later" in explained(f"[    0.155870] {line}\n").story.answer


def test_a_stack_of_another_request_is_told_and_not_who_holds_it() -> None:
    text = (
        "[    1.730459] ioremap error for 0xfed40000-0xfed45000, requested 0x2, got 0x0\n\n"
        "  WARNING: CPU: 22 PID: 1 at arch/x86/mm/pat/memtype.c:530 memtype_reserve+0x2ab/0x460\n"
        "  RIP: 0010:memtype_reserve+0x2ab/0x460\n"
        "   __ioremap_caller+0x16d/0x3d0\n"
        "   ioremap_cache+0x17/0x30\n"
        "   x86_acpi_os_ioremap+0xe/0x20\n"
    )
    types = lines(text, "The types")
    assert "ioremap_cache(), x86_acpi_os_ioremap()" in types
    assert "by whom the line doesn't say" in types
