"""KVM compared with TCG: the same short program in a guest of each, and the first record that differs.

A fast KVM may still answer differently from the CPU that tests are written for: one that drops writes to
MTRRs, as some hypervisors do that Linux runs in, gives every layout the same effective types. So ``auto``
takes KVM only after this program has given the same records under both, and ``--accel kvm`` warns where it
hasn't. Records are compared by the function of ``memtype compare``; addresses, process ids, times and the
kernel's messages, which differ between any two guests, are not.

The program: a guest with two CPUs and a layout of its own boots, is saved as a template and cloned; its
registers are read inside and outside; drivers and a process map device memory and RAM with each type; MTRRs
and PAT are changed from outside, those of each CPU to other values, and through ``/proc/mtrr``, and read back
on each CPU; an alias is made, and the audit must find it. A change of the program raises
:data:`pytest_memtype.machine.accelerator.PROGRAM`, so that results in the cache are made anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_memtype.errors import (
    HostError,
    MemtypeError,
    QualificationError,
    TemplateError,
    Unavailable,
    UsageError,
)
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.registers import Registers
from pytest_memtype.host.progress import Progress
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.host.store import build_dir, exclusive, temp_dir
from pytest_memtype.kernels.bundle import Bundle
from pytest_memtype.machine.accelerator import Choice, Qualification, Wanted, choose
from pytest_memtype.machine.device_state import CpuRegisters
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.machine.qemu_command import Accelerator
from pytest_memtype.report.compare import Column, Difference, differences
from pytest_memtype.report.record import Record
from pytest_memtype.run.boot import GuestPlan, cloned
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrRange, MtrrState

HARDWARE: Final = Hardware(cpus=2)

#: RAM, and three types of the test device's memory; the rest of the device is UC by default.
LAYOUT: Final = Layout(
    "qualification",
    default=MemType.UC,
    ranges=(
        MtrrRange(0, "256M", MemType.WB),
        MtrrRange(0xFD000000, "4M", MemType.WC),
        MtrrRange(0xFD400000, "4M", MemType.WT),
        MtrrRange(0xFD800000, "4M", MemType.WB),
    ),
)
#: Addresses of the first pages of windows, each of another type by the MTRRs.
_WINDOWS: Final = (0xFD010000, 0xFD410000, 0xFD810000, 0xFDC10000)
_WINDOW_STEP: Final = 0x4000
_PAGES: Final = 2

_CASE: Final = "qualification"
_BOTH: Final[tuple[Accelerator, Accelerator]] = ("tcg", "kvm")


@dataclass(frozen=True)
class Programmed:
    """The records of the program under one accelerator.

    :param accelerator: ``tcg`` or ``kvm``.
    :param records: A record for each step, as tests leave them.
    """

    accelerator: Accelerator
    records: tuple[Record, ...]


def chosen(made: Bundle, wanted: Wanted, *, progress: Progress) -> Choice:
    """The accelerator for the guests of this host, KVM only after it was compared with TCG.

    :param made: The kernel to try and to compare with, where no result is in the cache.
    :param wanted: The accelerator that the user wants, or ``auto``.
    :param progress: Called with one line at the start of each slow stage, and with what is wrong with KVM.
    :raises HostError: KVM is wanted and can't be had, or QEMU isn't installed.
    """
    cache = cache_directory()
    return choose(
        made.image,
        made.initramfs,
        wanted,
        cache=cache,
        progress=progress,
        qualify=lambda: qualify(made, cache=cache, progress=progress),
    )


def qualify(made: Bundle, *, cache: Path, progress: Progress) -> Qualification:
    """Run the program under TCG and under KVM, and compare.

    :param made: The kernel to run, with its module.
    :param cache: Folder of the cache; the program needs 300 MiB there for a while.
    :param progress: Called with one line at the start of each slow stage.
    :raises QualificationError: the program doesn't run to its end under one of them.
    :raises HostError: the disk is full, or this host has no time.
    """
    if made.module is None:
        raise QualificationError(f"kernel {made.release} has no module; use another")
    progress("comparing KVM with TCG")
    place = build_dir(cache, _CASE)
    with exclusive(place, progress):
        return compared(lambda accelerator: _run_in_place(made, accelerator, place, progress))


def _run_in_place(made: Bundle, accelerator: Accelerator, place: Path, progress: Progress) -> Programmed:
    # A folder for each, so that two templates never need room at the same time.
    with temp_dir(place) as work:
        return run_program(made, accelerator, work=work, progress=progress)


def compared(run: Callable[[Accelerator], Programmed]) -> Qualification:
    """Compare the records of the program under TCG and under KVM.

    :param run: Called with an accelerator; runs the program under it.
    :raises QualificationError: the program doesn't run to its end under one of them.
    :raises HostError: this host can't run it now.
    """
    tcg, kvm = (_to_its_end(run, accelerator) for accelerator in _BOTH)
    found = differences([Column("TCG", tcg.records), Column("KVM", kvm.records)])
    return Qualification(len(tcg.records), _in_words(found) if found else None)


def _to_its_end(run: Callable[[Accelerator], Programmed], accelerator: Accelerator) -> Programmed:
    try:
        return run(accelerator)
    except HostError:
        raise
    except (MemtypeError, TemplateError) as error:
        # A faulty KVM may end a guest. So may a host without room, but that passes.
        raise QualificationError(
            f"the program doesn't run to its end under {accelerator.upper()}: {_first_line(error)}"
        ) from error


def _in_words(found: list[Difference]) -> str:
    first = found[0]
    tcg, kvm = first.answers
    # A record that only one of them has differs as a whole.
    more = f" ({len(found) - 1} more differ)" if len(found) > 1 else ""
    return (
        f"record {first.step} ({first.operation}): {first.side} says {tcg} under TCG, {kvm} under KVM{more}"
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def run_program(made: Bundle, accelerator: Accelerator, *, work: Path, progress: Progress) -> Programmed:
    """Boot, save and clone a guest, and run the program in it.

    :param made: The kernel to run, with its module.
    :param accelerator: ``tcg`` or ``kvm``.
    :param work: An empty folder for the template and the logs.
    :param progress: Called with one line at the start of each slow stage.
    :raises MemtypeError: the guest can't be had, or ended.
    :raises TemplateError: the guest can't be saved or restored.
    """
    plan = GuestPlan(made.image, made.initramfs, LAYOUT, HARDWARE, accelerator, launcher=made.launcher)
    guest = cloned(plan, logs=work / "logs", cache=work / "templates", progress=progress)
    with guest.machine:
        program(guest)
        about = {"case": _CASE, "guest": 1}
        return Programmed(accelerator, tuple({**about, **entry} for entry in guest.journal.entries))


def program(guest: Guest) -> None:
    """Run the program's steps in a guest, whose journal keeps their records.

    :param guest: A guest with the layout :data:`LAYOUT` on :data:`HARDWARE`.
    :raises GuestError: the guest ended.
    """
    _read_registers(guest, "after the boot")
    _map_in_kernel(guest)
    _map_in_process(guest)
    _change_mtrrs(guest)
    _audit(guest)


def _map_in_kernel(guest: Guest) -> None:
    """Map with two drivers, each type in each window; then change the type of RAM."""
    first, second = guest.driver("first"), guest.driver("second")
    for number, memtype in enumerate(MemType):
        for window in _WINDOWS:
            region = guest.region(window + number * _WINDOW_STEP, _PAGES << 12)
            made = first.ioremap(region, memtype)
            guest.lookup(region)
            second.ioremap(region, MemType.WB if memtype is not MemType.WB else MemType.WC)
            guest.memtype_list(region)
            if made.mapping is not None:
                first.release(made.mapping)
    ram = guest.ram(4)
    for memtype in (MemType.WC, MemType.UC_MINUS):
        made = first.set_memory(ram, memtype)
        if made.mapping is not None:
            first.release(made.mapping)
    guest.reset()


def _map_in_process(guest: Guest) -> None:
    """Map with a process, in each way and with each type; then fork it."""
    process = guest.process("process")
    ways = [("driver", memtype) for memtype in MemType]
    ways += [("sysfs", MemType.WC), ("devmem", MemType.UC_MINUS), ("insert_pfn", MemType.WC)]
    for number, (via, memtype) in enumerate(ways):
        region = guest.region(_WINDOWS[number % len(_WINDOWS)] + (8 + number) * _WINDOW_STEP, _PAGES << 12)
        mapping = process.mmap(region, memtype, via=via).mapping
        if mapping is not None:
            process.write(mapping, page=1)
            process.read(mapping, page=0)
            process.page_table(mapping, guest.registers()[0])
        guest.memtype_list(region)
    child = process.fork("child")
    process.exit()
    child.exit()
    guest.reset()


def _change_mtrrs(guest: Guest) -> None:
    """Change MTRRs from outside, to other values on each CPU, and inside; read them back each time."""
    guest.change_registers(_each_its_own)
    _read_registers(guest, "changed from outside")
    guest.change_registers(LAYOUT)
    _read_registers(guest, "changed back")
    writer = guest.process("writer")
    writer.mtrr_add(0xFE000000, "1M", MemType.WP)
    _read_registers(guest, "added through /proc/mtrr")
    writer.mtrr_delete(4)
    _read_registers(guest, "deleted through /proc/mtrr")
    writer.exit()


def _each_its_own(cpu: CpuRegisters) -> CpuRegisters:
    """Registers of a CPU with other values in the unused ranges and the last fixed range, by its number."""
    used = len(LAYOUT.ranges)
    # Disabled ranges, so that nothing but the registers changes. 40 bits of address, see Hardware.
    unused = tuple(
        ((0x80 + 0x10 * cpu.cpu + number) << 20 | 6, 0xFFFFF00000)
        for number in range(used, len(cpu.mtrr_variable))
    )
    return dataclasses.replace(
        cpu,
        mtrr_variable=cpu.mtrr_variable[:used] + unused,
        mtrr_fixed=(*cpu.mtrr_fixed[:-1], (0x0505050505050505, 0x0606060606060606)[cpu.cpu % 2]),
    )


def _audit(guest: Guest) -> None:
    """Audit the guest without an alias, and with an alias that Linux doesn't know of."""
    _note_findings(guest, "audit without an alias")
    region = guest.region(_WINDOWS[3] + 32 * _WINDOW_STEP, _PAGES << 12)
    process = guest.process("aliased")
    mapping = process.mmap(region, MemType.WC, via="insert_pfn").mapping
    if mapping is not None:
        process.write(mapping, page=0)
    guest.driver("aliasing").ioremap(region, MemType.WC)
    _note_findings(guest, "audit with an alias")


def _note_findings(guest: Guest, what: str) -> None:
    try:
        found = guest.audit().findings
    except (HostError, Unavailable, UsageError) as error:
        # Runs go on without the audit, too, and say so.
        guest.journal.record_query(what, f"not audited: {error.message}")
        return
    # The kernel's place in RAM differs after each boot (KASLR).
    device = (each for each in found if LAYOUT.ranges[1].base <= each.start < 1 << 32)
    lines = sorted(
        f"{each.kind} {each.danger.name} of {each.pages} pages at {each.start:#x} "
        f"{'/'.join(map(str, each.effective))}"
        for each in device
        if each.benign is None
    )
    guest.journal.record_query(what, "; ".join(lines) or "nothing")


def _read_registers(guest: Guest, when: str) -> None:
    for inside in guest.registers():
        for name, value in _inside(inside):
            guest.journal.record_query(f"{name} of CPU {inside.cpu} inside, {when}", value)
    for outside in guest.registers_outside():
        for name, value in _outside(outside):
            guest.journal.record_query(f"{name} of CPU {outside.cpu} outside, {when}", value)


def _inside(registers: Registers) -> Iterator[tuple[str, str]]:
    yield "vendor", str(registers.vendor)
    yield "width of addresses", f"{registers.physical_bits} bits"
    yield "CR0", f"{registers.cr0:#x}"
    yield "PAT", f"{registers.pat_value:#018x}" if registers.has_pat else "none"
    if registers.mtrr is None:
        yield "MTRRs", "none"
        return
    yield "MTRRcap", f"{registers.mtrr.capability:#x}"
    yield from _mtrrs(registers.mtrr)


def _outside(registers: CpuRegisters) -> Iterator[tuple[str, str]]:
    yield "PAT", f"{registers.pat_value:#018x}"
    yield from _mtrrs(registers.mtrr)


def _mtrrs(mtrrs: MtrrState) -> Iterator[tuple[str, str]]:
    yield "MTRRdefType", f"{mtrrs.default_type_register:#x}"
    for number, value in enumerate(mtrrs.fixed):
        yield f"fixed MTRR {number}", f"{value:#018x}"
    for number, (base, mask) in enumerate(mtrrs.variable):
        yield f"variable MTRR {number}", f"base {base:#x}, mask {mask:#x}"
