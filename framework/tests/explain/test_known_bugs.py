"""Which known bug a report fits: message, sequence and version together. The versions are docs/bugs' own."""

from __future__ import annotations

import pytest

from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import Explanation, explain, sections
from pytest_memtype.explain.known_bugs import _RULES
from pytest_memtype.x86.memtype import MemType

FREED = "x86/PAT: t:99 freeing invalid memtype [mem 0xfd400000-0xfd40bfff]"
SPLIT = "The program calls mprotect() on half of the mapping, then munmap()."
FORK = "It maps /dev/mem MAP_PRIVATE, writes the first word and forks: Cannot allocate memory."


def explained(text: str) -> Explanation:
    return explain(read(text), [each.bug for each in catalogue()])


@pytest.mark.parametrize(
    ("kernel", "words", "bug"),
    [
        ("6.1.90", SPLIT, "vma-split-leak"),
        ("6.15.9", SPLIT, "vma-split-leak"),
        ("6.16.0", SPLIT, "none"),
        ("7.3.4", SPLIT, "none"),
        ("3.6.11", SPLIT, "none"),
        ("5.10.218", FORK, "fork-frees-parents"),
        ("6.1.85", FORK, "fork-frees-parents"),
        ("6.12.24", FORK, "fork-frees-parents"),
        ("6.12.25", FORK, "none"),
        ("6.1.162", FORK, "none"),
        # Without a sequence two bugs fit 5.10.218 alike. 6.12.43 has but one of them, and a driver's
        # set_memory_wb() for pages that it never had says so as well (open-gpu-kernel-modules#1278).
        ("5.10.218", "", "none"),
        ("6.12.43", "", "none"),
        ("5.15.160", "", "none"),
    ],
)
def test_freed(kernel: str, words: str, bug: str) -> None:
    found = explained(f"Linux version {kernel} (x@y)\n[   93.114000] {FREED}\n{words}\n")
    assert found.known_bug == bug
    assert all(each.sure for each in found.suspects if found.known_bug != "none")


def test_the_kernel_of_the_complaint_decides() -> None:
    boots = "[    0.000000] Linux version 5.4.100 (x@y)\n[    0.000000] Linux version 6.17.8 (x@y)\n"
    assert explained(f"{boots}[   93.114000] {FREED}\n{SPLIT}\n").known_bug == "none"


def test_two_that_fit_are_both_named() -> None:
    found = explained(f"Linux version 5.10.218 (x@y)\n[   93.114000] {FREED}\n")
    assert {each.id for each in found.suspects} == {"vma-split-leak", "fork-frees-parents"}
    assert not any(each.sure for each in found.suspects)


def test_a_message_alone_is_a_suspicion() -> None:
    found = explained(f"Linux version 6.12.43 (x@y)\n[   93.114000] {FREED}\n")
    assert [(each.id, each.sure) for each in found.suspects] == [("vma-split-leak", False)]
    assert "or was never reserved" in found.story.answer


_CONFLICT = "x86/PAT: X:1 conflicting memory types e0000000-f0000000 {}<->{}\n"
_FAILED = "x86/PAT: memtype_reserve failed [mem 0xe0000000-0xefffffff], track {0}, req {0}\n"
_UC_MINUS, _WC = "uncached-minus", "write-combining"


@pytest.mark.parametrize(
    ("text", "bug"),
    [
        # The first type may be the request's: the line is the same.
        (_CONFLICT.format(_UC_MINUS, _WC), "none"),
        (_CONFLICT.format(_UC_MINUS, _WC) + _FAILED.format(_UC_MINUS), "none"),
        # The first type isn't the request's (NVIDIA/gds-nvidia-fs#77).
        (_CONFLICT.format(_WC, _UC_MINUS) + _FAILED.format(_UC_MINUS), "mixed-overlap"),
        # mmap() and ioremap() take the type that is there.
        (_CONFLICT.format(_UC_MINUS, _WC) + "mmap() of resource0 fails.\n", "mixed-overlap"),
        (_CONFLICT.format(_UC_MINUS, _WC) + "We don't call mmap().\n", "none"),
        (
            _CONFLICT.format(_UC_MINUS, _WC)
            + _FAILED.format(_UC_MINUS)
            + "ioremap memtype_reserve failed -16\n",
            "mixed-overlap",
        ),
    ],
)
def test_two_types_of_one_range(text: str, bug: str) -> None:
    found = explained(text)
    assert found.known_bug == bug
    assert [(each.id, each.sure) for each in found.suspects] == [("mixed-overlap", bug != "none")]


def test_a_strict_request_that_the_writer_denies() -> None:
    conflict = _CONFLICT.format(_WC, _UC_MINUS)
    denied = explained(f"We don't call set_memory_wc() anywhere, only mmap() of resource0_wc.\n{conflict}")
    assert not denied.about.strict
    assert "nothing else" not in denied.story.answer
    told = explained(f"The driver calls set_memory_wc().\n{conflict}")
    assert told.about.strict
    assert (told.about.asked, told.about.held) == (MemType.WC, (MemType.UC_MINUS,))


@pytest.mark.parametrize(
    "text",
    [
        f"The driver calls set_memory_wc().\n{_CONFLICT.format(_WC, _UC_MINUS)}",
        f"x86/PAT: X:7 map pfn expected mapping type {_UC_MINUS} for [mem 0xfd000000-0xfdffffff], got {_WC}",
    ],
)
def test_what_linux_refused_it_would_not_have_given(text: str) -> None:
    words = " ".join(line for each in sections(explained(text)) for line in each.lines)
    assert "Rule 2 refuses it" in words


def test_a_release_that_may_be_any_update_is_no_proof() -> None:
    found = explained(f"Linux version 6.1.0-18-amd64 (x@y)\n[   93.114000] {FREED}\n{FORK}\n")
    assert found.known_bug == "fork-frees-parents"
    assert not found.suspects[0].sure
    assert "doesn't say which it is" in found.suspects[0].why


def test_what_the_writer_denies_is_no_sequence() -> None:
    found = explained(
        f"Linux version 5.10.218 (x@y)\n{FREED}\nThere is no fork in it, no MAP_PRIVATE; {SPLIT}\n"
    )
    assert found.known_bug == "vma-split-leak"


_WARNED = """\
[    5.086254] WARNING: CPU: 0 PID: 129 at arch/x86/mm/pat/memtype.c:983 get_pat_info+0xe5/0x100
[    5.090090] CPU: 0 UID: 1000 PID: 129 Comm: P Not tainted {} #1
[    5.094458] RIP: 0010:get_pat_info+0xe5/0x100
[    5.098708] Call Trace:
[    5.098800]  <TASK>
[    5.099000]  untrack_pfn+0x53/0x120
[    5.099100]  unmap_single_vma+0xa9/0xf0
[    5.099200]  zap_page_range_single+0x10c/0x1c0
[    5.099300]  remap_pfn_range+0x6f/0xa0
[    5.099400]  {}+0x449/0x500 [driver]
[    5.099500]  mmap_region+0x503/0x700
[    5.099600] ---[ end trace 0000000000000000 ]---
"""


@pytest.mark.parametrize(("kernel", "bug"), [("6.12.118", "remap-fails-at-once"), ("6.1.110", "none")])
def test_a_remap_that_fails_leaves_nothing(kernel: str, bug: str) -> None:
    """As guests of 5.10, 6.1 and 6.12 print it (testcases/bugs), with a name in place of ours."""
    found = explained(_WARNED.format(kernel, "driver_mmap"))
    assert found.known_bug == bug
    assert found.story.danger.startswith("no: the reservation is freed")
    assert "not given back" not in found.story.answer


# The words of cornelisnetworks/opa-psm2#74.
_HFI1 = "mmap64 fails with vanilla {} kernel\nthe call to dma_mmap_coherent() under hfi1_file_mmap()\n"


@pytest.mark.parametrize(("kernel", "bug"), [("6.17.3", "pieces-of-one-mapping"), ("6.12.90", "none")])
def test_pieces_of_one_mapping(kernel: str, bug: str) -> None:
    assert explained(f"Linux version {kernel} (x@y)\n{_HFI1.format(kernel)}").known_bug == bug


@pytest.mark.parametrize(
    "text",
    [
        "mmap() of /dev/mem fails with EINVAL, and so does remap_pfn_range()",
        "return remap_pfn_range(vma, vma->vm_start, pfn, vma->vm_end - vma->vm_start, vma->vm_page_prot);\n"
        "and user space gets EINVAL since my buffer isn't page aligned.",
        "modprobe: ERROR: could not insert 'hfi1': Invalid argument",
        "My PSM mouse: mmap fails sometimes in my program",
    ],
)
def test_mmap_that_fails_for_anybody_is_no_known_bug(text: str) -> None:
    assert explained(f"Linux version 6.17.3 (x@y)\n{text}\n").known_bug == "none"


def test_a_driver_that_moves_its_bounds_is_known() -> None:
    text = "mmap() fails, EINVAL:\nvma->vm_end += len;\nerr = dma_mmap_coherent(dev, vma, buf, dma, len);"
    assert explained(f"Linux version 6.17.3 (x@y)\n{text}\n").known_bug == "pieces-of-one-mapping"


def test_rules_name_bugs_of_the_catalogue() -> None:
    assert set(_RULES) <= {each.bug.id for each in catalogue()}


@pytest.mark.parametrize(
    "text",
    [
        "my fork() fails with ENOMEM, after mmap() MAP_PRIVATE of a file, and I wrote to it",
        "mtrr: type mismatch for e0000000,1000000 old: write-back new: write-combining",
        "ioremap error for 0xfed40000-0xfed45000, requested 0x4, got 0x1",
        "AGP 8x card, corrupt textures",
    ],
)
def test_nothing_is_claimed_on_a_new_kernel(text: str) -> None:
    assert explained(f"Linux version 7.3.4 (x@y)\n{text}\n").known_bug == "none"
