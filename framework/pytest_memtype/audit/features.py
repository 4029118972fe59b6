"""The features of a guest's CPUs that no register holds: QEMU knows their vendor and what CPUID shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_memtype.errors import UsageError
from pytest_memtype.x86.effective import Vendor, vendor_from_cpuid

#: Carries out a QMP command with its arguments, and gives what QEMU returns.
Execute = Callable[[str, dict[str, Any]], Any]


@dataclass(frozen=True)
class Features:
    """The features of a guest's CPUs, the same for all of them.

    :param physical_bits: MAXPHYADDR: bits of a physical address.
    :param has_mtrr: Does CPUID show MTRRs?
    """

    vendor: Vendor
    physical_bits: int
    has_mtrr: bool


def features(execute: Execute) -> Features:
    """Ask QEMU for the features of a guest's CPUs, by the properties of the first CPU's object.

    :param execute: Called with a QMP command and its arguments; gives what QEMU returns.
    :raises UsageError: it is no x86-64 CPU, or of a vendor whose table of effective types isn't known.
    """
    cpus = execute("query-cpus-fast", {})
    names = {each["name"] for cpu in cpus[:1] for each in execute("qom-list", {"path": cpu["qom-path"]})}
    if not {"vendor", "phys-bits", "mtrr", "lm"} <= names:
        raise UsageError("the QEMU runs no x86-64 guest; audit one of qemu-system-x86_64")
    path = cpus[0]["qom-path"]
    vendor, bits, mtrr = (
        execute("qom-get", {"path": path, "property": name}) for name in ("vendor", "phys-bits", "mtrr")
    )
    try:
        # 0 stands for TCG's own width (QEMU 7.2, target/i386/cpu.h, TCG_PHYS_ADDR_BITS).
        return Features(vendor_from_cpuid(vendor), int(bits) or 40, bool(mtrr))
    except ValueError as error:
        raise UsageError(f"this guest can't be audited: {error}") from None
