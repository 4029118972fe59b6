"""Claims that a text doesn't bear out: of who asked, of a fork that passed, of what comes of a warning."""

from __future__ import annotations

import pytest

from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import Explanation, explain, sections


def explained(text: str) -> Explanation:
    return explain(read(text), [each.bug for each in catalogue()])


# Kernel bugzilla, attachment 175121; and linux-mm, 2015-12-22, which says that the new VMA is tracked.
MOVED = """\
[   67.887346] WARNING: CPU: 3 PID: 5144 at arch/x86/mm/pat.c:904 untrack_pfn+0x99/0xa0()
[   67.892540] Call Trace:
[   67.892870]  [<ffffffff8104b309>] untrack_pfn+0x99/0xa0
[   67.892952]  [<ffffffff81138f3c>] unmap_single_vma+0x73c/0x750
[   67.893446]  [<ffffffff811413b0>] do_munmap+0x1f0/0x460
[   67.893560]  [<ffffffff811444bd>] {}+0x14d/0x280
[   67.893641]  [<ffffffff81144992>] SyS_mremap+0x3a2/0x510
"""


def test_a_mapping_that_was_moved_keeps_its_reservation() -> None:
    told = explained(MOVED.format("move_vma")).story
    assert told.danger == "no: the moved mapping has the reservation, and gives it back"
    assert "not given back" not in told.answer


def test_another_warning_of_the_same_function() -> None:
    assert explained(MOVED.format("exit_mmap")).story.danger.startswith("maybe")


# linux-mm, May 2025: the kernel's selftest pfnmap.
SELFTEST = """\
#            OK  pfnmap.{}
# PASSED: 6 / 6 tests passed.
# Totals: pass:6 fail:0 xfail:0 xpass:0 skip:0 error:0
However, we are able to trigger:
[   27.888251] x86/PAT: pfnmap:1790 freeing invalid memtype [mem 0x00000000-0x00000fff]
There are probably more things worth testing in the future, such as MAP_PRIVATE handling.
"""


@pytest.mark.parametrize(
    ("test", "bugs"),
    [
        ("fork", ["fork-frees-parents", "vma-split-leak"]),
        ("mremap_expand", ["fork-frees-parents", "vma-split-leak"]),
        ("munmap_split", ["vma-split-leak"]),
        ("mremap_shrink", ["vma-split-leak"]),
    ],
)
def test_a_test_that_passed(test: str, bugs: list[str]) -> None:
    found = explained(SELFTEST.format(test)).suspects
    assert [each.id for each in found] == bugs
    assert not any("after a fork() that failed, memory" in each.why for each in found)


@pytest.mark.parametrize(
    "words", ["fork() fails.", "fork() gave EINVAL.", "It failed in fork().", "fork: ENOMEM"]
)
def test_a_fork_that_failed(words: str) -> None:
    (found,) = explained(SELFTEST.format("x") + words).suspects
    assert found.id == "fork-frees-parents"


# linuxboot/heads#1640: 16M of ROM, which is cached for reads.
BLANK = """\
[    0.001678] MTRR default type: uncachable
[    0.001849] MTRR variable ranges enabled:
[    0.001955]   0 base 00FF000000 mask FFFF000000 write-protect
[    0.002567] CPU MTRRs all blank - virtualized system.
"""


def test_a_register_that_is_not_write_back() -> None:
    assert "no RAM above 1 MiB is write-back. Linux" in explained(BLANK).story.answer
    assert "write-back, if the MTRRs are on" in explained(BLANK.splitlines()[-1]).story.answer


@pytest.mark.parametrize(
    "line",
    [
        # tip-bot, August 2020: /proc/vmcore's reader, in a kdump kernel.
        "ioremap on RAM at 0x0000000000040000 - 0x0000000000040fff",
        "ioremap: invalid physical address a0a601800000001",
        "ioremap error for 0xf0000000-0xf0001000, requested 0x2, got 0x0",
        "resource sanity check: requesting [mem 0xe000-0xffff], which spans more than A [mem 0xe000-0xefff]",
    ],
)
def test_nobody_is_called_a_driver(line: str) -> None:
    told = explained(f"[    1.000000] {line}\n").story
    assert "driver asked" not in told.answer
    assert told.answer.startswith("somebody whom the line doesn't name")
    assert "driver" not in told.danger


# linux-efi, October 2024; another CPU's line stands within the stack.
MEMREMAP = """\
[    6.397804] memremap attempted on mixed range 0x000000005f54e018 size: 0x23ba3cfb
[    6.412733] WARNING: CPU: 2 PID: 1 at kernel/iomem.c:82 memremap+0x58/0x1b0
[    6.432705] CPU: 2 PID: 1 Comm: swapper/0 Not tainted 6.4.3 #1
[    6.669115] Call Trace:
[    6.673986]  <TASK>
[    6.728211]  ? memremap+0x58/0x1b0
[    6.732866] Freeing initrd memory: 51140K
[    6.734986]  tpm_read_log_efi+0x7d/0x1e0
[    6.750795]  tpm_bios_log_setup+0x51/0x170
[    6.985536]  </TASK>
"""


def test_the_stack_of_memremap() -> None:
    answer = explained(MEMREMAP).story.answer
    assert "swapper/0 (1), called by tpm_read_log_efi(), tpm_bios_log_setup(), for 0x5f54e018" in answer


# dri-devel, January 2022: the mail is about the Oops.
OOPS = """\
[  37.9] resource sanity check: requesting [mem 0xc000-0xdffff], which spans more than A [mem 0xd1000-0xd1ff]
[   37.911775] caller pci_map_rom+0x78/0x1d0 mapping multiple BARs
[   38.103023] BUG: kernel NULL pointer dereference, address: 0000000000000023
[   38.104728] Oops: 0000 [#1] PREEMPT SMP NOPTI
[   38.104728] RIP: 0010:radeon_vm_fini+0x15/0x220 [radeon]
"""


def test_an_oops_is_not_explained_by_a_warning() -> None:
    found = explained(OOPS)
    assert found.story.answer.endswith("The Oops in line 3 isn't explained here")
    besides = "".join(line for each in sections(found) if each.title == "Besides" for line in each.lines)
    assert (
        "line 3: an Oops (BUG: kernel NULL pointer dereference, address: 0000000000000023, in radeon_vm_"
        in besides
    )


def test_a_bug_of_memory_types_is_no_other_oops() -> None:
    text = (
        "[    9.0] kernel BUG at arch/x86/mm/pat.c:233!\n[    9.0] Oops: invalid opcode: 0000 [#1] SMP\n"
        "[    9.0] RIP: 0010:reserve_memtype+0x392/0x3a0\n"
    )
    assert "Oops" not in explained(text).story.answer


# LKML, November 2019, Mariusz Ceier: amdgpu was four times slower.
BISECTED = """\
>performance regression on amdgpu and
>8d04a5f97a5fa9d7afdf46eda3a5ceaa973a1bcc is the first bad commit
"""


def test_the_commit_of_a_bug_is_named() -> None:
    (found,) = explained(f"uncached-minus @ 0x2000000000-0x2100000000\n{BISECTED}").suspects
    assert (found.id, found.sure) == ("neighbour-decides", False)
    assert not explained(f"Fixes: 8d04a5f97a5f\n{MEMREMAP}").suspects


def test_a_process_is_told_that_asked_for_what_the_text_does_not_say() -> None:
    """Notes on a crash of Chrome's, September 2026: the line behind it was made unreadable."""
    text = (
        "x86/PAT: Media:58288 conflicting memory types ef740000-f0160000\n"
        "         uncached-minus<->write-combining\n"
    )
    words = [line for each in sections(explained(text)) for line in each.lines]
    assert "Asked for: a type that isn't said, by the process Media (58288)." in words
    # Nobody asks for what is given back.
    freed = "x86/PAT: test:177 freeing invalid memtype [mem 0xfd000000-0xfd000fff]\n"
    assert not any(line.startswith("Asked for") for each in sections(explained(freed)) for line in each.lines)
