"""The kernel's version in the path that a WARNING names."""

from __future__ import annotations

from pytest_memtype.dumps.read import read


def series(text: str) -> str | None:
    kernel = read(text).kernel
    return None if kernel is None else kernel.series


def release(text: str) -> str | None:
    kernel = read(text).kernel
    return None if kernel is None else kernel.release


def test_the_folder_of_the_build_names_the_kernel() -> None:
    text = (
        "[    0.000000] WARNING: at /build/buildd/linux-2.6.27/arch/x86/kernel/cpu/mtrr/main.c:1500 "
        "mtrr_trim_uncached_memory+0x153/0x386()\n"
    )
    assert series(text) == "2.6.27"
    # A trace's own word says more.
    trace = "[    0.000000] Pid: 0, comm: swapper Not tainted 2.6.27-11-generic #1\n"
    assert release(text + trace) == "2.6.27-11-generic"
    twice = "WARNING: at /build/linux-hwe-XyZ/linux-hwe-4.15.0/arch/x86/mm/pat.c:881 untrack_pfn+0x1/0x2\n"
    assert series(twice) == "4.15"


def test_a_banner_counts_more_than_a_folder() -> None:
    warning = "[    1.0] WARNING: at /build/linux-4.4.0/arch/x86/mm/pat.c:881 untrack_pfn+0x1/0x2()\n"
    banner = "[    0.0] Linux version 4.4.0-21-generic (x@y) (gcc version 5.4.0) #37-Ubuntu SMP\n"
    assert release(banner + warning) == "4.4.0-21-generic"


def test_folders_of_two_kernels_name_none() -> None:
    line = "WARNING: at /build/linux-{}/arch/x86/mm/pat.c:881 untrack_pfn+0x1/0x2()\n"
    assert series(line.format("4.4.0") + line.format("4.15.0")) is None
