"""The CPUs of a stopped guest: which of them translate addresses, and what gives an entry its meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pytest_memtype.audit.effective import Typing
from pytest_memtype.audit.roots import Root, loaded_roots
from pytest_memtype.errors import UsageError
from pytest_memtype.machine.device_state import CpuRegisters
from pytest_memtype.x86.effective import Vendor
from pytest_memtype.x86.mtrr import FIXED_MSRS

_PAGING: Final = 1 << 31  # CR0.PG
_LONG_MODE: Final = 1 << 10  # EFER.LMA
_FIVE_LEVELS: Final = 1 << 12  # CR4.LA57


@dataclass(frozen=True)
class Processors:
    """All CPUs of a guest.

    :param cpus: Their registers, by number.
    :param physical_bits: MAXPHYADDR.
    :param has_mtrr: Does CPUID say so?
    """

    cpus: tuple[CpuRegisters, ...]
    vendor: Vendor
    physical_bits: int
    has_mtrr: bool = True

    @property
    def running(self) -> tuple[CpuRegisters, ...]:
        """Those in 64-bit mode. The others have not been started, or have not got there yet."""
        return tuple(each for each in self.cpus if each.cr0 & _PAGING and each.efer & _LONG_MODE)

    @property
    def depth(self) -> int:
        """Levels of the page tables.

        :raises UsageError: no CPU is in 64-bit mode.
        """
        return 5 if self._first.cr4 & _FIVE_LEVELS else 4

    @property
    def typing(self) -> Typing:
        """What the first running CPU makes of an entry.

        :raises UsageError: no CPU is in 64-bit mode.
        """
        cpu = self._first
        return Typing(cpu.pat_value, cpu.mtrr if self.has_mtrr else None, self.vendor)

    @property
    def roots(self) -> tuple[Root, ...]:
        """The roots in CR3, by frame."""
        return loaded_roots({each.cpu: each.cr3 for each in self.running})

    def disagreements(self) -> list[str]:
        """The registers that two running CPUs have different values in."""
        first, others = self._first, self.running[1:]
        return [
            f"{name} is {value:#x} on CPU {first.cpu} and {theirs:#x} on CPU {cpu.cpu}"
            for cpu in others
            for (name, value), (_, theirs) in zip(
                _registers(first, mtrrs=self.has_mtrr), _registers(cpu, mtrrs=self.has_mtrr), strict=True
            )
            if value != theirs
        ]

    @property
    def _first(self) -> CpuRegisters:
        if not self.running:
            raise UsageError("no CPU of the guest is in 64-bit mode: it has no page tables to audit yet")
        return self.running[0]


def _registers(cpu: CpuRegisters, *, mtrrs: bool) -> Iterator[tuple[str, int]]:
    yield "IA32_PAT", cpu.pat_value
    if not mtrrs:
        return
    yield "IA32_MTRR_DEF_TYPE", cpu.mtrr_default_type
    for msr, value in zip(FIXED_MSRS, cpu.mtrr_fixed, strict=True):
        yield f"the fixed-range MTRR {msr:#x}", value
    for number, (base, mask) in enumerate(cpu.mtrr_variable):
        yield f"IA32_MTRR_PHYSBASE{number}", base
        yield f"IA32_MTRR_PHYSMASK{number}", mask
