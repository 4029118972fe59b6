"""The CPUs of a stopped guest: which of them translate addresses, and what gives an entry its meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pytest_memtype.audit.roots import Root, loaded_roots
from pytest_memtype.audit.types import CacheRegisters
from pytest_memtype.errors import UsageError
from pytest_memtype.machine.device_state import CpuRegisters
from pytest_memtype.x86.difference import Undecided, first_difference
from pytest_memtype.x86.effective import Vendor
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import FIXED_ENABLE, FIXED_MSRS, VALID, decode, memory_type_at
from pytest_memtype.x86.pat import decode as decode_pat

_PAGING: Final = 1 << 31  # CR0.PG
_LONG_MODE: Final = 1 << 10  # EFER.LMA
_FIVE_LEVELS: Final = 1 << 12  # CR4.LA57


@dataclass(frozen=True)
class Disagreement:
    """A difference between two CPUs in what page-table entries mean.

    :param text: The difference, in words.
    :param slot: The PAT slot that differs: only entries that choose it are affected. None when the MTRRs
        differ.
    """

    text: str
    slot: int | None = None


@dataclass(frozen=True)
class Processors:
    """The CPUs of a guest, and what their registers mean.

    :param cpus: The registers of each CPU, by its number.
    :param physical_bits: MAXPHYADDR: bits of a physical address.
    :param has_mtrr: Does CPUID show MTRRs?
    """

    cpus: tuple[CpuRegisters, ...]
    vendor: Vendor
    physical_bits: int
    has_mtrr: bool = True

    @property
    def running(self) -> tuple[CpuRegisters, ...]:
        """The CPUs in 64-bit mode. The others have not been started, or have not got there yet."""
        return tuple(each for each in self.cpus if each.cr0 & _PAGING and each.efer & _LONG_MODE)

    @property
    def depth(self) -> int:
        """The number of levels of the page tables, 4 or 5.

        :raises UsageError: no CPU is in 64-bit mode.
        """
        return 5 if self._first.cr4 & _FIVE_LEVELS else 4

    @property
    def typing(self) -> CacheRegisters:
        """The registers of the first running CPU that give an entry its meaning.

        :raises UsageError: no CPU is in 64-bit mode, or its registers hold reserved types.
        """
        cpu = self._first
        _pat(cpu)
        if self.has_mtrr:
            # TCG (QEMU 7.2) stores what hardware answers with #GP.
            try:
                decode(cpu.mtrr)
            except ValueError as error:
                raise UsageError(f"CPU {cpu.cpu} can't be one that runs: {error}") from None
        return CacheRegisters(cpu.pat_value, cpu.mtrr if self.has_mtrr else None, self.vendor)

    @property
    def roots(self) -> tuple[Root, ...]:
        """The roots that running CPUs have in CR3, by frame number."""
        return loaded_roots({each.cpu: each.cr3 for each in self.running})

    def disagreements(self) -> list[Disagreement]:
        """The differences between the first running CPU and each other one in what an entry means.

        :raises UsageError: no CPU is in 64-bit mode, or the registers of one hold reserved types.
        """
        first, others = self._first, self.running[1:]
        found = []
        for cpu in others:
            found += list(_pats(first, cpu))
            if self.has_mtrr:
                found += list(_mtrrs(first, cpu, self.physical_bits))
        return found

    @property
    def _first(self) -> CpuRegisters:
        if not self.running:
            raise UsageError("no CPU of the guest is in 64-bit mode: it has no page tables to audit yet")
        return self.running[0]


def _pats(one: CpuRegisters, other: CpuRegisters) -> Iterator[Disagreement]:
    for slot, (ours, theirs) in enumerate(zip(_pat(one), _pat(other), strict=True)):
        if ours is not theirs:
            text = f"slot {slot} of the PAT is {ours} on CPU {one.cpu} and {theirs} on CPU {other.cpu}"
            yield Disagreement(text, slot=slot)


def _mtrrs(one: CpuRegisters, other: CpuRegisters, physical_bits: int) -> Iterator[Disagreement]:
    try:
        address = first_difference(one.mtrr, other.mtrr, physical_bits=physical_bits)
    except Undecided as undecided:
        yield Disagreement(f"CPUs {one.cpu} and {other.cpu}: {undecided}")
        return
    except ValueError as error:
        raise UsageError(f"CPU {other.cpu} can't be one that runs: {error}") from None
    if address is None:
        return
    ours, theirs = memory_type_at(one.mtrr, address), memory_type_at(other.mtrr, address)
    names = ", ".join(_written_differently(one, other))
    yield Disagreement(
        f"by the MTRRs {address:#x} is {ours} on CPU {one.cpu} and {theirs} on CPU {other.cpu} ({names})"
    )


def _pat(cpu: CpuRegisters) -> tuple[MemType, ...]:
    try:
        return decode_pat(cpu.pat_value)
    except ValueError as error:
        raise UsageError(f"CPU {cpu.cpu} can't be one that runs: {error}") from None


def _written_differently(one: CpuRegisters, other: CpuRegisters) -> Iterator[str]:
    """Names of the MTRRs that differ and are in force on one of two CPUs at least."""
    if one.mtrr_default_type != other.mtrr_default_type:
        yield "IA32_MTRR_DEF_TYPE"
    if (one.mtrr_default_type | other.mtrr_default_type) & FIXED_ENABLE:
        for msr, *values in zip(FIXED_MSRS, one.mtrr_fixed, other.mtrr_fixed, strict=True):
            if values[0] != values[1]:
                yield f"the fixed-range MTRR {msr:#x}"
    pairs = zip(one.mtrr_variable, other.mtrr_variable, strict=True)
    for number, (ours, theirs) in enumerate(pairs):
        if ours != theirs and (ours[1] | theirs[1]) & VALID:
            yield f"IA32_MTRR_PHYSBASE{number} and PHYSMASK{number}"
