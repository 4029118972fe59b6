"""Registers of the guest's CPUs that decide on memory types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pytest_memtype.guest.strict import flag, integer
from pytest_memtype.x86 import pat
from pytest_memtype.x86.amd import AmdMemory
from pytest_memtype.x86.effective import Vendor, vendor_from_cpuid
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import DEFAULT_TYPE, FIXED_MSRS, VALID, MtrrState
from pytest_memtype.x86.smrr import Smrr

# CPUID 0x80000008 EAX 7:0 is at most 52 (Intel SDM vol. 3, "Physical Address Space").
_MOST_BITS: Final = 52


@shown_in_hexadecimal("pat_value", "cr0", "cr3", "cr4")
@dataclass(frozen=True)
class Registers:
    """Registers of one CPU, as the guest's own kernel reads them.

    :param cpu: Linux's number of the CPU.
    :param vendor: Maker of the CPU, whose table combines the types.
    :param physical_bits: Width of a physical address in bits.
    :param mtrr: The MTRRs; None on a CPU without MTRRs.
    :param has_pat: Does the CPU have PAT?
    :param pat_value: IA32_PAT; its value after a reset where the CPU has none.
    """

    cpu: int
    vendor: Vendor
    physical_bits: int
    mtrr: MtrrState | None
    has_pat: bool
    pat_value: int
    cr0: int
    cr3: int
    cr4: int

    @property
    def pat(self) -> tuple[MemType, ...]:
        """The eight slots of IA32_PAT."""
        return pat.decode(self.pat_value)


@shown_in_hexadecimal("msr", "intended", "found")
@dataclass(frozen=True)
class RegisterChange:
    """An MTRR that isn't what the layout says.

    :param cpu: Linux's number of the CPU.
    :param msr: Number of the register (MSR).
    :param intended: Value that the layout and the firmware put there.
    :param found: Value that the guest's kernel reads.
    """

    cpu: int
    msr: int
    intended: int
    found: int

    def __str__(self) -> str:
        return f"CPU {self.cpu}: MTRR {self.msr:#x} is {self.found:#x}, not {self.intended:#x}"


def register_changes(intended: MtrrState, registers: Sequence[Registers]) -> tuple[RegisterChange, ...]:
    """Find MTRRs that differ from those intended, by CPU and in the order of programming.

    CPUs without MTRRs have none that differ.
    """
    return tuple(
        RegisterChange(each.cpu, msr, meant, found)
        for each in registers
        if each.mtrr is not None
        for (msr, meant), (_, found) in zip(_by_number(intended), _by_number(each.mtrr), strict=True)
        if meant != found
    )


def _by_number(mtrrs: MtrrState) -> Iterator[tuple[int, int]]:
    yield DEFAULT_TYPE, mtrrs.default_type_register
    for number, (base, mask) in enumerate(mtrrs.variable):
        yield 0x200 + 2 * number, base
        yield 0x201 + 2 * number, mask
    yield from zip(FIXED_MSRS, mtrrs.fixed, strict=True)


def _smrr(pair: list[object] | None) -> Smrr | None:
    """The SMRR, base and mask; None without one, and where it isn't in use: its values mean nothing then."""
    if pair is None:
        return None
    base, mask = map(integer, pair)
    return Smrr(base, mask) if mask & VALID else None


def _amd(registers: list[object] | None) -> AmdMemory | None:
    """AMD's registers; None without them, and where all are 0: QEMU has none, and they read as 0 there."""
    if registers is None or not any(registers):
        return None
    syscfg, top_mem, top_mem2 = map(integer, registers)
    return AmdMemory(syscfg, top_mem, top_mem2)


def _fixed(registers: list[object]) -> tuple[int, ...]:
    if len(registers) != len(FIXED_MSRS):
        raise ValueError(f"there are {len(FIXED_MSRS)} fixed-range MTRRs, not {len(registers)}")
    return tuple(map(integer, registers))


def _physical_bits(value: object) -> int:
    """The width of an address. One that is a stranger's could be a shift that takes all memory."""
    bits = integer(value)
    if bits > _MOST_BITS:
        raise ValueError(f"no CPU has physical addresses of {bits} bits")
    return bits


def decode_registers(content: dict[str, Any]) -> Registers:
    """The registers in a reply of the agent.

    :param content: An object of the reply, for one CPU.
    :raises TypeError: a register is no number.
    :raises ValueError: a register can't have that value, or there are more or fewer than a CPU has.
    """
    mtrr = None
    if flag(content["has_mtrr"]):
        mtrr = MtrrState(
            capability=integer(content["capability"]),
            default_type_register=integer(content["default_type"]),
            fixed=_fixed(content["fixed"]),
            variable=tuple((integer(base), integer(mask)) for base, mask in content["variable"]),
            smrr=_smrr(content["smrr"]),
            amd=_amd(content["amd"]),
        )
    has_pat = flag(content["has_pat"])
    return Registers(
        cpu=integer(content["cpu"]),
        vendor=vendor_from_cpuid(content["vendor"]),
        physical_bits=_physical_bits(content["physical_bits"]),
        mtrr=mtrr,
        has_pat=has_pat,
        pat_value=integer(content["pat"]) if has_pat else pat.RESET_PAT,
        cr0=integer(content["cr0"]),
        cr3=integer(content["cr3"]),
        cr4=integer(content["cr4"]),
    )
