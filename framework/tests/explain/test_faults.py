"""WARNINGs and BUGs: who was running, what led there, in which form the stack is, which bugs may be it."""

from __future__ import annotations

import pytest

from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.dumps.facts import Kind
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import Explanation, explain


def explained(text: str) -> Explanation:
    return explain(read(text), [each.bug for each in catalogue()])


# 2.6.27-rc3 on 32 bits: the stack has what others left on it.
BUG_32 = """\
Aug 14 15:58:23 test kernel: ------------[ cut here ]------------
Aug 14 15:58:23 test kernel: kernel BUG at arch/x86/mm/pat.c:233!
Aug 14 15:58:23 test kernel: invalid opcode: 0000 [#1]
Aug 14 15:58:23 test kernel: Pid: 1627, comm: modprobe Not tainted (2.6.27-rc3-git2 #8)
Aug 14 15:58:23 test kernel: EIP: 0060:[<c0111262>] EFLAGS: 00010286 CPU: 0
Aug 14 15:58:23 test kernel: EIP is at reserve_memtype+0x392/0x3a0
Aug 14 15:58:23 test kernel: Call Trace:
Aug 14 15:58:23 test kernel:  [<c01ffb1c>] acpi_ns_search_one_scope+0x14/0x37
Aug 14 15:58:23 test kernel:  [<c010f96d>] __ioremap_caller+0xed/0x2a0
Aug 14 15:58:23 test kernel:  [<c010fb34>] ioremap_nocache+0x14/0x20
Aug 14 15:58:23 test kernel:  =======================
Aug 14 15:58:23 test kernel: EIP: [<c0111262>] reserve_memtype+0x392/0x3a0 SS:ESP 0068:c5836cb0
Aug 14 15:58:23 test kernel: ---[ end trace e2df639a3eac4cc1 ]---
"""
BUG_64 = """\
[ 3299.676027] kernel BUG at arch/x86/mm/pat.c:279!
[ 3299.676027] invalid opcode: 0000 [#1] PREEMPT SMP DEBUG_PAGEALLOC
[ 3299.678596] Pid: 21541, comm: trinity-child6 Tainted: G        W    3.5.0-rc4 #479
[ 3299.678596] RIP: 0010:[<ffffffff810a8b62>]  [<ffffffff810a8b62>] reserve_memtype+0x22/0x3d0
[ 3299.696632] Call Trace:
[ 3299.696632]  [<ffffffff81161bc6>] ? mark_held_locks+0xf6/0x120
[ 3299.696632]  [<ffffffff810a8fe2>] reserve_pfn_range+0xd2/0x1e0
[ 3299.696632]  [<ffffffff8220e016>] mtdchar_mmap+0xe6/0x100
[ 3299.696632] RIP  [<ffffffff810a8b62>] reserve_memtype+0x22/0x3d0
[ 3299.696632]  RSP <ffff88000ad61bc8>
"""


@pytest.mark.parametrize(
    ("text", "process", "pid", "innermost"),
    [
        (BUG_32, "modprobe", 1627, "acpi_ns_search_one_scope"),
        (BUG_64, "trinity-child6", 21541, "reserve_pfn_range"),
    ],
)
def test_a_bug_is_read_with_its_place(text: str, process: str, pid: int, innermost: str) -> None:
    dump = read(text)
    (bug,) = dump.of(Kind.BUG)
    assert (bug.function, bug.process, bug.pid) == ("reserve_memtype", process, pid)
    assert bug.trace[0] == innermost
    assert not dump.unread


def test_a_bug_elsewhere_is_none_of_ours() -> None:
    text = BUG_64.replace("arch/x86/mm/pat.c", "mm/memory.c").replace("reserve_memtype", "unmap_page_range")
    assert not read(text).of(Kind.BUG)


# scripts/decode_stacktrace.sh; the kernel test robot's RIP has the same form.
DECODED = """\
[ 3431.738346] WARNING: CPU: 12 PID: 17371 at arch/x86/mm/pat.c:781 untrack_pfn+0x65/0xb0()
[ 3431.742138] CPU: 12 PID: 17371 Comm: trinity-c361 Not tainted 3.14.0-next-20140410-sasha #390
[ 3431.752853] Call Trace:
[ 3431.753625] dump_stack (lib/dump_stack.c:52)
[ 3431.757062] warn_slowpath_null (kernel/panic.c:453)
[ 3431.758828] untrack_pfn (arch/x86/mm/pat.c:781 (discriminator 3))
[ 3431.760785] unmap_single_vma (mm/memory.c:1316)
[ 3431.762703] ? sched_clock (arch/x86/include/asm/paravirt.h:192 arch/x86/kernel/tsc.c:305)
[ 3431.777012] move_vma (mm/mremap.c:306)
[ 3431.778621] SyS_mremap (mm/mremap.c:439 mm/mremap.c:501 mm/mremap.c:470)
[ 3431.778900] tracer (??:?)
[ 3431.780576] tracesys (arch/x86/kernel/entry_64.S:749)
"""


def test_a_decoded_stack() -> None:
    dump = read(DECODED)
    (warning,) = dump.of(Kind.WARNING)
    assert warning.trace == ("unmap_single_vma", "move_vma", "SyS_mremap", "tracer", "tracesys")
    assert not dump.unread


def test_a_decoded_place_begins_a_stack_without_a_heading() -> None:
    text = (
        "WARNING: CPU: 0 PID: 9 at arch/x86/mm/pat/memtype.c:1060 untrack_pfn+0xf4/0x100\n"
        "RIP: 0010:untrack_pfn (arch/x86/mm/pat/memtype.c:1060 (discriminator 1))\n"
        "unmap_single_vma+0xa9/0xf0\n"
        "unmap_vmas+0xa9/0xf0\n"
    )
    (warning,) = read(text).of(Kind.WARNING)
    assert warning.trace == ("unmap_single_vma", "unmap_vmas")


@pytest.mark.parametrize(
    ("text", "killed", "by"),
    [
        (BUG_32, "the process modprobe (1627)", "__ioremap_caller(), ioremap_nocache()"),
        (BUG_64, "the process trinity-child6 (21541)", "reserve_pfn_range(), mtdchar_mmap()"),
    ],
)
def test_a_range_that_ends_before_it_begins(text: str, killed: str, by: str) -> None:
    """BUG_ON(start >= end) of reserve_memtype(), arch/x86/mm/pat.c, 2.6.26 to 4.19."""
    found = explained(text)
    assert "whose end isn't behind its start" in found.story.answer
    assert f"called by {by}" in found.story.answer
    assert f"killed {killed}" in found.story.answer
    assert found.story.rule.startswith("arch/x86/mm/pat.c, reserve_memtype(), BUG_ON(start >= end)")
    assert found.known_bug == "none"


def test_another_bug_is_only_named() -> None:
    answer = explained(BUG_64.replace("reserve_memtype+", "free_memtype+")).story.answer
    assert "free_memtype() met what must not be" in answer
    assert "behind its start" not in answer


def test_mremap_that_moved_a_mapping() -> None:
    answer = explained(DECODED).story.answer
    assert "mremap() had moved a mapping" in answer
    assert "in the system call" not in answer
    assert "while the process trinity-c361 (17371) was running" in answer
    newer = explained(DECODED.replace("3.14.0-next-20140410-sasha", "4.9.1")).story.answer
    assert "mremap() had moved" not in newer


WARNED = """\
[  301.553285] WARNING: CPU: 7 PID: 1402 at arch/x86/mm/pat/memtype.c:1060 untrack_pfn+0xf4/0x100
[  301.558232] CPU: 7 PID: 1402 Comm: iouring Not tainted {} #1
[  301.559569] RIP: 0010:untrack_pfn+0xf4/0x100
"""


@pytest.mark.parametrize(
    ("kernel", "bugs"),
    [
        # private-write-leak until 6.8 and 5.10.215, the forks' bugs until 6.14, remap_pfn_range()'s from
        # 6.10.11 and 5.10.229 to 6.15: docs/bugs.
        ("6.7.5", {"private-write-leak", "fork-oom-leak", "zap-untracks-all"}),
        ("5.10.234", {"fork-frees-parents", "fork-oom-leak", "remap-fails-at-once", "zap-untracks-all"}),
        ("6.17.3", set()),
    ],
)
def test_a_warning_without_a_stack_may_be_several(kernel: str, bugs: set[str]) -> None:
    found = explained(WARNED.format(kernel))
    assert {each.id for each in found.suspects} == bugs
    assert not any(each.sure for each in found.suspects)
    assert found.known_bug == "none"
    assert "while the process iouring (1402) was running" in found.story.answer


def test_the_process_of_a_change_of_attributes() -> None:
    text = (
        "[    9.000000] CPA: called for zero pte. vaddr = 0 cpa->vaddr = 0\n"
        "[    9.000001] WARNING: arch/x86/mm/pat/set_memory.c:1840 at __cpa_process_fault+0x34d/0x360, "
        "CPU#5: allocate_secret/570\n"
    )
    assert "while the process allocate_secret (570) was running" in explained(text).story.answer
