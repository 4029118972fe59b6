"""The audit of a guest of our own, while it is stopped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_memtype.audit.audit import Audit, analyse, audit, snapshot
from pytest_memtype.audit.features import Features, features
from pytest_memtype.audit.findings import Tracked
from pytest_memtype.audit.processors import Processors
from pytest_memtype.audit.ram import ProcessRam, RamFile
from pytest_memtype.audit.roots import find_roots, roots_from_guest
from pytest_memtype.errors import HostError, UsageError
from pytest_memtype.machine.device_state import read_cpus
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.memory_map import owners
from pytest_memtype.machine.vcpu_registers import cpu_shape, outside_registers, stopped

# By -cpu and accelerator: asking QEMU takes longer than the walk.
_features: dict[tuple[str, str], Features] = {}


def audit_machine(
    machine: Machine,
    *,
    spaces: Mapping[int, tuple[int, str]] | None = None,
    tracked: Sequence[Tracked] | None = None,
) -> Audit:
    """Audit a guest of our own: stop it, read its page tables, let it go on as it was, and find the faults.

    :param machine: The guest's machine.
    :param spaces: The processes that the guest names: guest-physical address of each one's highest table to
        (pid, name). None looks for roots in all of RAM instead, which takes a second for 2 GiB.
    :param tracked: The memory whose type the guest keeps track of; None when it wasn't asked.
    :raises GuestError: QEMU ended.
    :raises UsageError: the guest isn't in 64-bit mode, or this host doesn't let a process look into its
        child.
    """
    known = _known(machine)
    with stopped(machine):
        started = time.perf_counter()
        processors = Processors(outside_registers(machine), known.vendor, known.physical_bits, known.has_mtrr)
        with contextlib.closing(ProcessRam(machine.process.pid, machine.memory.ranges)) as ram:
            searched = time.perf_counter()
            if spaces is None:
                roots = find_roots(ram, processors.roots)
            else:
                roots = roots_from_guest(ram, processors.roots, spaces)
            found = time.perf_counter()
            taken = snapshot(ram, processors, roots)
        stop = time.perf_counter() - started
    whose = owners(machine.config.hardware, machine.plugged.values())
    result = analyse(taken, processors, owners=whose, tracked=tracked)
    figures = replace(result.figures, roots_ms=(found - searched) * 1000, stop_ms=stop * 1000)
    return replace(result, figures=figures)


def audit_template(machine: Machine) -> Audit | None:
    """Audit the template that a guest was cloned from; None for a guest that was booted.

    :param machine: The guest's machine.
    :raises HostError: the template is gone.
    """
    guest = machine.config
    if guest.state is None or guest.ram_file is None:
        return None
    known = _known(machine)
    try:
        state = guest.state.read_bytes()
        ram = RamFile(guest.ram_file, guest.hardware.ram)
    except (OSError, UsageError):
        raise HostError(
            f"{guest.ram_file.parent}: the template was removed while its clone lived; nobody knows any more "
            "what it had when it had booted"
        ) from None
    cpus = read_cpus(state, cpu_shape(guest), cpus=guest.hardware.cpus)
    processors = Processors(cpus, known.vendor, known.physical_bits, known.has_mtrr)
    return audit(ram, processors, find_roots(ram, processors.roots), owners=owners(guest.hardware))


def _known(machine: Machine) -> Features:
    kind = (machine.config.hardware.cpu, machine.config.accelerator)
    if kind not in _features:
        _features[kind] = features(machine.qmp)
    return _features[kind]
