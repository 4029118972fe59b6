"""Functions of the kernel that it doesn't export, and its own page tables."""

from __future__ import annotations

import errno
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_memtype import Guest, InMemory, Leaves, MemType, PageSize
from pytest_memtype.errors import AgentError, Unavailable, UsageError
from pytest_memtype.guest.faults import FaultCounts
from pytest_memtype.plugin.fixtures import GuestFactory
from pytest_memtype.x86.pat import RESET_PAT

pytestmark = pytest.mark.shared_guest

WB = MemType.WB


def test_what_a_call_takes_and_gives(guest: Guest) -> None:
    """memtype_reserve(start, end, WC, &granted), whose answer is in memory; and the errno of a refusal."""
    bar = guest.mmio(pages=1)
    kernel = guest.kernel
    called = kernel.call("memtype_reserve", bar.start, bar.end, 1, InMemory(3), memory=[7, 7, 7, 7])
    assert (called.errno, called.number) == (0, 0)
    assert called.memory[:5] == (7, 7, 7, called.memory[3], 0)
    assert called.memory[3] & 0xFFFFFFFF == 1
    assert len(guest.memtype_list(bar)) == 1
    assert kernel.call("memtype_free", bar.start, bar.end).errno == 0
    again = kernel.call("memtype_free", bar.start, bar.end)
    assert (again.errno, again.number) == (errno.EINVAL, -errno.EINVAL)
    assert [each["result"] for each in guest.journal.entries if each["operation"] == "kernel_call"] == [
        0,
        0,
        errno.EINVAL,
    ]


def test_the_addresses_of_ram(guest: Guest) -> None:
    """Direct map and struct page, by what the kernel itself makes of them."""
    ram = guest.ram(pages=2)
    kernel = guest.kernel
    address = kernel.direct(ram[1])
    assert kernel.physical(address) == ram[1].start
    assert kernel.call("slow_virt_to_phys", address + 5).returned == ram[1].start + 5
    assert kernel.call("kernel_page_present", kernel.page(ram[1])).returned & 0xFF == 1
    found = kernel.direct_pages(ram)
    assert (found.types, found.in_order, found.starts) == ((WB, WB), True, (ram.start,))
    assert kernel.pages(address, 1, start=ram[0].start).in_order is False
    (rights,) = found.rights
    assert (rights.present, rights.writable, rights.executable, rights.user) == (True, True, False, False)


def test_text_is_executable_and_nothing_is_mapped_behind(guest: Guest) -> None:
    found = guest.kernel.pages(guest.kernel.address("memtype_free") & ~0xFFF, 1)
    assert (found.rights[0].executable, found.rights[0].writable) == (True, False)
    hole = guest.kernel.pages(0xFFFFFF7F00000000, 1)
    assert hole.leaves == (Leaves(PageSize.SIZE_4K, 1, None),)
    assert (hole.starts, hole.in_order, hole.rights[0].present) == ((None,), False, False)
    # What lies behind the end of this table would be address 0.
    end = guest.kernel.pages((1 << 64) - 0x2000, 1)
    assert (end.starts, end.leaves) == ((None,), (Leaves(PageSize.SIZE_4K, 1, None),))


def test_calls_are_counted_and_not_changed(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    process = guest.process("P")
    with (
        guest.kernel.count("memtype_reserve") as ours,
        guest.kernel.count("memtype_reserve", task=process) as theirs,
    ):
        assert guest.driver("drm").ioremap(bar, MemType.WC).accepted
        assert guest.driver("drm").ioremap(bar, MemType.WC).accepted
        assert process.mmap(bar, MemType.WC).accepted
        assert (ours.counts, theirs.counts) == (FaultCounts(2, 0), FaultCounts(1, 0))


@pytest.mark.parametrize("function", ["no_such_function", "kprobe_int3_handler"])
def test_what_can_not_be_called(guest: Guest, function: str) -> None:
    """One that isn't there, and one that kprobes forbid."""
    kernel = guest.kernel
    for way in (kernel.call, kernel.address, kernel.count):
        with pytest.raises(Unavailable, match=rf"{function}\(\) can't be called: (this kernel|the kernel)"):
            way(function)
    assert not kernel.has(function)
    assert kernel.has("memtype_reserve")


def test_entries_are_read_with_the_pat_of_now(guest_factory: GuestFactory) -> None:
    """Linux' WC is slot 1, which is WT after a reset (Intel SDM vol. 3, "IA32_PAT MSR")."""
    guest = guest_factory()
    ram = guest.ram(pages=1)
    assert guest.driver("drm").set_memory(ram, MemType.WC).granted is MemType.WC
    assert guest.kernel.direct_pages(ram).types == (MemType.WC,)
    guest.change_registers(lambda cpu: replace(cpu, pat_value=RESET_PAT))
    assert guest.kernel.direct_pages(ram).types == (MemType.WT,)


def test_a_function_is_gone_with_its_module(guest_factory: GuestFactory, tmp_path: Path) -> None:
    """Its address is nothing, or another module's, by then."""
    file = tmp_path / "leaves.c"
    file.write_text(
        "#include <linux/module.h>\n"
        "static noinline __used int leaves_answer(void) { return 42; }\n"
        "static int __init leaves_init(void) { return 0; }\nmodule_init(leaves_init);\n"
        'static void __exit leaves_exit(void) {}\nmodule_exit(leaves_exit);\nMODULE_LICENSE("GPL");\n'
    )
    guest = guest_factory()
    module = guest.load(file)
    assert guest.kernel.call("leaves_answer").number == 42
    module.unload()
    with pytest.raises(Unavailable, match="this kernel has no function of that name"):
        guest.kernel.call("leaves_answer")
    assert not guest.kernel.has("leaves_answer")
    guest.load(file)
    assert guest.kernel.call("leaves_answer").number == 42


def test_what_does_not_fit_a_call(guest: Guest) -> None:
    with pytest.raises(UsageError, match="at most 6 arguments and 64 words"):
        guest.kernel.call("memtype_free", 1, 2, 3, 4, 5, 6, 7)
    with pytest.raises(UsageError, match="at most 6 arguments and 64 words"):
        guest.kernel.call("memtype_free", memory=[0] * 65)
    with pytest.raises(AgentError, match="Invalid argument"):
        guest.kernel.call("memtype_free", InMemory(64))
    for arguments in ("1,,2", "1,2,x", "1,2,3,4,5,6,7", "99999999999999999999999"):
        with pytest.raises(AgentError, match="arguments= is not 6 numbers or fewer"):
            guest._agent.call("kernel_call", function="memtype_free", arguments=arguments)
    with pytest.raises(AgentError, match="longer than 63 characters"):
        guest.kernel.call("x" * 64)


@pytest.mark.parametrize(
    ("address", "pages"), [(0x1000, 1), (1 << 48, 1), ((1 << 64) - 0x1000, 3), ((1 << 64) - 0x1000, 0)]
)
def test_addresses_that_are_not_the_kernel_s(guest: Guest, address: int, pages: int) -> None:
    with pytest.raises(AgentError, match="Invalid argument"):
        guest.kernel.pages(address, pages)


def test_more_pages_than_a_run_can_count(guest: Guest) -> None:
    """Counts have 32 bits. Behind 16 TiB of nothing one was 0."""
    with pytest.raises(AgentError, match="Invalid argument"):
        guest.kernel.pages(guest.kernel.direct(0), 1 << 32)
    assert sum(each.pages for each in guest.kernel.pages(guest.kernel.direct(0), (1 << 32) - 1).leaves) > 0


class TestIoctl:
    """MTRRIOC_GET_PAGE_ENTRY of register 0: struct mtrr_gentry, in both widths."""

    @pytest.mark.parametrize(("data", "bits"), [(struct.pack("<QIIII", 0, 0, 0, 9, 0), 64), (bytes(16), 32)])
    def test_its_data_comes_back(self, guest: Guest, data: bytes, bits: int) -> None:
        command = 3 << 30 | len(data) << 16 | ord("M") << 8 | 8
        answer = guest.process("P").ioctl("/proc/mtrr", command, data, of_32_bits=bits == 32)
        assert answer.accepted
        assert len(answer.data) == len(data)
        assert answer.data != data

    def test_its_errors(self, guest: Guest) -> None:
        process = guest.process("P")
        assert process.ioctl("/proc/mtrr", 0, bytes(256)).errno == errno.ENOTTY
        assert process.ioctl("/proc/no-such-file", 0, b"").errno == errno.ENOENT
        command = 3 << 30 | 24 << 16 | ord("M") << 8 | 8
        answer = process.ioctl("/proc/mtrr", command, bytes(24), no_memory=True)
        assert (answer.errno, answer.data) == (errno.EFAULT, b"")

    @pytest.mark.parametrize(("path", "data"), [("/proc/mtrr", bytes(257)), ("/a b", b""), ("", b"")])
    def test_what_can_not_be_said(self, guest: Guest, path: str, data: bytes) -> None:
        with pytest.raises(UsageError, match="can't be said to the agent"):
            guest.process("P").ioctl(path, 0, data)
