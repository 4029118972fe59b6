"""Messages and the WARNINGs that they belong to."""

from __future__ import annotations

from pytest_memtype.dumps.facts import Kind
from pytest_memtype.dumps.main_complaint import main_complaint
from pytest_memtype.dumps.read import read

# arch/x86/mm/pat/memtype.c, memtype_reserve_io(): WARN_ON_ONCE(iomem_map_sanity_check(start, size)).
RESERVE_IO = """\
[   12.135536] resource: resource sanity check: requesting {}, which spans more than A [mem 0xa0000-0xbffff]
[   12.135542] ------------[ cut here ]------------
[   12.135543] WARNING: CPU: 6 PID: 599 at arch/x86/mm/pat/memtype.c:721 memtype_reserve_io+0xfc/0x110
[   12.135652] CPU: 6 UID: 0 PID: 599 Comm: (udev-worker) Tainted: G S 6.15.0-13743-g8630c59e9936 #16
[   12.135656] RIP: 0010:memtype_reserve_io+0xfc/0x110
[   12.135700] Call Trace:
[   12.135701]  <TASK>
[   12.135702]  arch_io_reserve_memtype_wc+0x3f/0x80
[   12.135703]  amdgpu_bo_init+0x2b/0xb0 [amdgpu]
"""
SIZE_0 = "[mem 0x0000000000000000-0xffffffffffffffff]"

# arch/x86/mm/pageattr.c, __cpa_process_fault(), 4.18.
ZERO_PTE = """\
[    0.000000] CPA: called for zero pte. vaddr = 4ffe0000 cpa->vaddr = 4ffe0000
[    0.000000] WARNING: CPU: 0 PID: 0 at arch/x86/mm/pageattr.c:1211 __cpa_process_fault+0x21e/0x232
[    0.000000] CPU: 0 PID: 0 Comm: swapper Not tainted 4.18.0-rc8-00056-g3157060 #210
"""


def test_what_is_worded_counts() -> None:
    """The words say what was warned of; the WARNING only where."""
    for text, kind in (
        (RESERVE_IO.format("[mem 0xd0000000-0xdfffffff]"), Kind.SANITY),
        (RESERVE_IO.format(SIZE_0), Kind.SANITY),
        (ZERO_PTE, Kind.CPA),
        (ZERO_PTE.replace("__cpa_process_fault+", "__change_page_attr_set_clr+"), Kind.CPA),
    ):
        main = main_complaint(read(text).complaints)
        assert main is not None
        assert main.kind is kind


def test_a_message_has_the_process_and_the_stack_of_its_warning() -> None:
    (sanity,) = read(RESERVE_IO.format(SIZE_0)).of(Kind.SANITY)
    assert (sanity.process, sanity.pid) == ("(udev-worker)", 599)
    assert sanity.trace == ("arch_io_reserve_memtype_wc", "amdgpu_bo_init")


def test_a_warning_elsewhere_is_no_messages() -> None:
    """WARN_ONCE: the stack is that of the first such line only."""
    later = (
        "[   90.000000] resource sanity check: requesting [mem 0xfed10000-0xfed15fff], which spans more than "
    )
    text = (
        RESERVE_IO.format(SIZE_0) + "[  80.0] else\n" * 9 + later + "pnp 00:01 [mem 0xfed10000-0xfed13fff]\n"
    )
    assert [each.process for each in read(text).of(Kind.SANITY)] == ["(udev-worker)", None]


def test_the_place_of_a_warning_is_understood() -> None:
    dump = read(RESERVE_IO.format(SIZE_0))
    assert not [each.text for each in dump.unread if "RIP" in each.text]


def test_a_stack_without_its_heading() -> None:
    """People cut "Call Trace:" out, with the registers above it."""
    text = (
        "  WARNING: CPU: 22 PID: 1 at arch/x86/mm/pat/memtype.c:530 memtype_reserve+0x2ab/0x460\n"
        "  CPU: 22 UID: 0 PID: 1 Comm: swapper/0 Tainted: G        W           6.16.0-rc7+ #2 VOLUNTARY\n"
        "  RIP: 0010:memtype_reserve+0x2ab/0x460\n"
        "   __ioremap_caller+0x16d/0x3d0\n"
        "   ioremap_cache+0x17/0x30\n"
        "   acpi_os_map_iomem+0x1f3/0x240\n"
    )
    dump = read(text)
    (warning,) = dump.of(Kind.WARNING)
    assert warning.trace == ("__ioremap_caller", "ioremap_cache", "acpi_os_map_iomem")
    assert dump.unread == ()


def test_registers_are_no_stack() -> None:
    text = RESERVE_IO.format(SIZE_0).replace(
        "Call Trace:",
        "RAX: 0000000000000000 RBX: ffff8881\n[   12.1] Code: aa fb ff ff\n[   12.1] Call Trace:",
    )
    (warning,) = read(text).of(Kind.WARNING)
    assert warning.trace == ("arch_io_reserve_memtype_wc", "amdgpu_bo_init")
