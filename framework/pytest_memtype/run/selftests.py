"""The kernel's own tests, run in guests of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pexpect

from pytest_memtype.console.ktap import Subtest, subtests
from pytest_memtype.errors import GuestError, HostError
from pytest_memtype.guest.guest import Guest
from pytest_memtype.host.private_folder import temporary_folder
from pytest_memtype.host.progress import Progress
from pytest_memtype.kernels.bundle import Bundle
from pytest_memtype.kernels.selftests import FOLDER, Selftests
from pytest_memtype.machine.accelerator import Wanted
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.run.boot import GuestPlan, booted
from pytest_memtype.run.qualification import chosen

CPA: Final = "cpa-test"
"""The kernel's test of set_memory_*() on its direct map, arch/x86/mm/pat/cpa-test.c: no program, a thread."""

# It begins 30 s after the boot; a guest without KVM takes seconds for it.
_CPA_SECONDS: Final = 300

# A test that needs a minute hangs: all together take two seconds.
_PROGRAM_SECONDS: Final = 60


@dataclass(frozen=True)
class SelftestRun:
    """A program, and what it is to map.

    :param name: As the table has it.
    :param program: The program's name.
    :param arguments: Its arguments, as the guest's shell reads them. ``$1`` is the file of the test device's
        BAR in sysfs, for write-combining mappings: only a prefetchable BAR has one.
    """

    name: str
    program: str
    arguments: str = ""


RUNS: Final = (
    SelftestRun("pfnmap /dev/mem", "pfnmap"),
    SelftestRun("pfnmap BAR", "pfnmap", '-- "${1%_wc}"'),
    SelftestRun("pfnmap BAR, wc", "pfnmap", '-- "$1"'),
    SelftestRun("mremap_dontunmap", "mremap_dontunmap"),
    SelftestRun("test_mremap_vdso", "test_mremap_vdso"),
)
"""What is run, in this order, each in the same guest."""


@dataclass(frozen=True)
class Selftest:
    """Result of one test on one kernel.

    :param run: The :attr:`SelftestRun.name`, or :data:`CPA`.
    :param subtest: What came of it.
    """

    run: str
    subtest: Subtest


def run_selftests(
    made: Bundle, tests: Selftests, *, layout: Layout, accelerator: Wanted, progress: Progress
) -> Iterator[Selftest]:
    """Boot a guest, run the kernel's own tests in it, and give each result as it comes.

    A guest that dies of one is booted again for the rest.

    :param made: The kernel, with its module, without which no guest starts.
    :param tests: The tests, built.
    :param layout: The layout that the MTRRs are programmed with.
    :param accelerator: The accelerator that the user wants, or ``auto``.
    :param progress: Called with one line at the start of each slow stage.
    :raises HostError: the kernel has no module for its guest, or the host can't run it.
    :raises MemtypeError: the guest doesn't boot.
    """
    if made.module is None:
        raise HostError(f"kernel {made.release}: no guest starts without the module; use another")
    choice = chosen(made, accelerator, progress=progress).accelerator
    left = list(RUNS)
    with temporary_folder("selftests") as name:
        archive = Path(name) / "initramfs.cpio"
        # The kernel unpacks several archives one behind the other.
        archive.write_bytes(made.initramfs.read_bytes() + tests.archive.read_bytes())
        plan = GuestPlan(made.image, archive, layout, Hardware(), choice)
        while True:
            progress(f"booting {made.release}")
            guest = booted(plan, logs=Path(name) / f"logs-{len(left)}")
            with guest.machine:
                try:
                    while left:
                        progress(f"{made.release}: {left[0].name}")
                        yield from _results(guest, left[0])
                        left.pop(0)
                    progress(f"{made.release}: {CPA}")
                    yield Selftest(CPA, _cpa(guest))
                    return
                except GuestError as error:
                    dead = left.pop(0).name if left else CPA
                    yield Selftest(dead, Subtest(dead, "failed", f"the guest ended: {error.message}"))
                    if dead == CPA:
                        return


def _results(guest: Guest, run: SelftestRun) -> Iterator[Selftest]:
    done = guest.shell(
        "set -- /sys/bus/pci/devices/*/resource*_wc; "
        f"timeout {_PROGRAM_SECONDS} /{FOLDER}/{run.program} {run.arguments} 2>&1"
    )
    for each in subtests(done.output, status=done.status, program=run.program):
        yield Selftest(run.name, each)


def _cpa(guest: Guest) -> Subtest:
    if guest.shell("grep -q pageattr-test /proc/[0-9]*/comm").status != 0:
        return Subtest(CPA, "skipped", "the kernel was built without CONFIG_CPA_DEBUG")
    try:
        what = guest.console.expect([rb"NOT PASSED\. Please report", rb"\bok\.\r?\n"], timeout=_CPA_SECONDS)
    except pexpect.TIMEOUT:
        return Subtest(CPA, "failed", f"it said nothing within {_CPA_SECONDS} s")
    return Subtest(CPA, "ok") if what else Subtest(CPA, "failed", "NOT PASSED, see the kernel's log")
