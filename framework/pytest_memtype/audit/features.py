"""The features of a guest's CPUs that no register holds: QEMU knows their vendor and what CPUID shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from pytest_memtype.errors import UsageError
from pytest_memtype.machine.qmp import Qmp
from pytest_memtype.x86.effective import Vendor, vendor_from_cpuid

# Intel, SDM volume 3, 4.1.4: MAXPHYADDR is at most 52; 0 stands for TCG's own width (QEMU 7.2,
# target/i386/cpu.h, TCG_PHYS_ADDR_BITS).
_PhysicalBits = Annotated[int, msgspec.Meta(ge=0, le=52)]
_TCG_BITS = 40


class _Cpu(msgspec.Struct, rename="kebab"):
    qom_path: str


class _Property(msgspec.Struct):
    name: str


@dataclass(frozen=True)
class Features:
    """The features of a guest's CPUs, the same for all of them.

    :param physical_bits: MAXPHYADDR: bits of a physical address.
    :param has_mtrr: Does CPUID show MTRRs?
    """

    vendor: Vendor
    physical_bits: int
    has_mtrr: bool


def features(qmp: Qmp) -> Features:
    """Ask QEMU for the features of a guest's CPUs, by the properties of the first CPU's object.

    :param qmp: The control connection to the QEMU.
    :raises UsageError: it is no x86-64 CPU, or of a vendor whose table of effective types isn't known.
    :raises GuestError: QEMU refuses, ends, or answers as no QEMU does.
    """
    paths = [each.qom_path for each in qmp.ask(list[_Cpu], "query-cpus-fast")[:1]]
    names = {each.name for path in paths for each in qmp.ask(list[_Property], "qom-list", {"path": path})}
    if not {"vendor", "phys-bits", "mtrr", "lm"} <= names:
        raise UsageError("the QEMU runs no x86-64 guest; audit one of qemu-system-x86_64")
    (path,) = paths
    vendor = qmp.ask(str, "qom-get", {"path": path, "property": "vendor"})
    bits = qmp.ask(_PhysicalBits, "qom-get", {"path": path, "property": "phys-bits"})
    has_mtrr = qmp.ask(bool, "qom-get", {"path": path, "property": "mtrr"})
    try:
        return Features(vendor_from_cpuid(vendor), bits or _TCG_BITS, has_mtrr)
    except ValueError as error:
        raise UsageError(f"this guest can't be audited: {error}") from None
