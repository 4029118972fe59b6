"""What QEMU knows of a guest's CPUs that no register says: their vendor, and what CPUID shows of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_memtype.errors import UsageError
from pytest_memtype.x86.effective import Vendor, vendor_from_cpuid

#: A QMP command and its arguments to what QEMU returns.
Execute = Callable[[str, dict[str, Any]], Any]


@dataclass(frozen=True)
class Features:
    """Of all CPUs of a guest.

    :param physical_bits: MAXPHYADDR.
    """

    vendor: Vendor
    physical_bits: int
    has_mtrr: bool


def features(execute: Execute) -> Features:
    """Ask QEMU, by the properties of the first CPU's object.

    :raises UsageError: it is no x86-64 CPU, or of a vendor whose table isn't known.
    """
    path = execute("query-cpus-fast", {})[0]["qom-path"]
    names = {each["name"] for each in execute("qom-list", {"path": path})}
    if not {"vendor", "phys-bits", "mtrr", "lm"} <= names:
        raise UsageError("the QEMU runs no x86-64 guest; audit one of qemu-system-x86_64")
    vendor, bits, mtrr = (
        execute("qom-get", {"path": path, "property": name}) for name in ("vendor", "phys-bits", "mtrr")
    )
    try:
        # 0 stands for TCG's own width (QEMU 7.2, target/i386/cpu.h, TCG_PHYS_ADDR_BITS).
        return Features(vendor_from_cpuid(vendor), int(bits) or 40, bool(mtrr))
    except ValueError as error:
        raise UsageError(f"this guest can't be audited: {error}") from None
