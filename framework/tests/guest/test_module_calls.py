"""Which functions of the kernel the module calls, as its symbols or the kernel's own trace tell.

Each test is about a race that is too short to be met in a test. A call that is made, or isn't, rules it out.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_memtype import Guest, MemType
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.plugin.fixtures import GuestFactory

TRACING = "/tmp/tracing"


def callers(guest: Guest, function: str, work: Callable[[], None]) -> list[str]:
    """Who calls a function of the kernel's while the work is done, as symbol+offset/size and module."""

    def shell(command: str) -> str:
        done = guest.shell(command)
        assert done.status == 0, done.output
        return done.output

    shell(f"mkdir -p {TRACING} && mount -t tracefs trace {TRACING}")
    # As a function begins, the address it returns to is on top of the stack.
    probe = guest.shell(f"echo 'p:called {function} from=$stack0:symbol' > {TRACING}/kprobe_events")
    if probe.status:
        # A later kernel may inline it. To look in /proc/kallsyms takes a busy guest a minute.
        pytest.skip(
            f"Linux {guest.release} has no function {function} that can be traced: {probe.output.strip()}"
        )
    enabled = f"{TRACING}/events/kprobes/called/enable"
    shell(f"echo 1 > {enabled}")
    work()
    shell(f"echo 0 > {enabled}")
    lines = shell(f"grep -o from=.* {TRACING}/trace || true").splitlines()
    return [line.strip().removeprefix("from=") for line in lines]


def test_page_tables_are_read_while_no_other_thread_unmaps(guest: Guest) -> None:
    """munmap() frees page tables with the mmap lock held for reading: __do_munmap() of 5.10 to
    vms_complete_munmap_vmas() of 7.3. A reader's lock is none against that."""
    process, bar = guest.process("X"), guest.mmio(pages=1)

    def work() -> None:
        assert process.mmap(bar, MemType.UC_MINUS).granted is MemType.UC_MINUS

    found = callers(guest, "down_write", work)
    assert [each for each in found if each.startswith("user_mapping_read+")]


def test_the_module_never_lets_go_of_itself(memtype_kernel: str) -> None:
    """Text of a module that nobody holds any more may be freed by another CPU before it has returned.

    Who calls module_put() a trace doesn't tell: as the last call of a function it is a jump.
    """
    module = bundle(memtype_kernel, progress=silent).stripped_module
    assert module is not None
    names = module.read_bytes().split(b"\0")
    assert b"fput" in names
    assert b"module_put" not in names


def test_an_area_is_locked_before_its_operations_change(guest_factory: GuestFactory) -> None:
    """From 6.4 on a page fault looks at vm_ops with the lock of the area alone. vma_start_write() is inlined
    in 6.12, and calls a function in 7.3 (include/linux/mmap_lock.h)."""
    guest = guest_factory(kernel="debian:trixie-backports")
    bar = guest.mmio(pages=1)

    def work() -> None:
        assert guest.process("X").mmap(bar, MemType.UC_MINUS, via="sysfs").accepted

    found = callers(guest, "__vma_start_write", work)
    assert len([each for each in found if each.startswith("user_mapping_adopt+")]) == 1
