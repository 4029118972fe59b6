"""The memory type range registers (MTRRs): what they say of an address, and how a range is written.

Register layouts and precedences: Intel SDM vol. 3, "Memory Type Range Registers (MTRRs)" and "MTRR
Precedences". What SMRR and AMD's registers add is in :mod:`pytest_memtype.x86.smrr` and
:mod:`pytest_memtype.x86.amd`.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pytest_memtype.x86.amd import RD_WR_MEM, AmdMemory
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.size import format_size, parse_size
from pytest_memtype.x86.smrr import Smrr

DEFAULT_TYPE = 0x2FF

CAPABILITY_FIXED = 1 << 8
FIXED_ENABLE = 1 << 10
"""FE of the default type register."""
ENABLE = 1 << 11
"""E of the default type register."""
VALID = 1 << 11
"""V of a mask register."""

MTRR_TYPES = frozenset(MemType) - {MemType.UC_MINUS}

_PAGE = 1 << 12
_ADDRESS_FIELD = (1 << 52) - _PAGE

_FIXED_REGISTERS = (
    (0x250, 0x00000, 64 << 10),
    (0x258, 0x80000, 16 << 10),
    (0x259, 0xA0000, 16 << 10),
    *((0x268 + i, 0xC0000 + i * 0x8000, 4 << 10) for i in range(8)),
)
FIXED_MSRS = tuple(msr for msr, _, _ in _FIXED_REGISTERS)
"""The eleven fixed-range registers, in the order of the addresses they cover."""

MOST_VARIABLE = (FIXED_MSRS[0] - 0x200) // 2
"""The most variable MTRRs: two MSRs each, from 0x200 to the first fixed-range register.

VCNT of MTRRcap has room for 255 (Intel SDM vol. 3, "MTRR Feature Identification"), the MSRs have not.
"""

FIXED_END = 1 << 20
"""Where the fixed ranges end."""


class Undefined(enum.Enum):
    """The type of :data:`UNDEFINED`."""

    UNDEFINED = "undefined"

    def __str__(self) -> str:
        return self.value


UNDEFINED: Final = Undefined.UNDEFINED
"""Overlapping variable ranges whose types the manuals give no meaning to."""

MtrrType: TypeAlias = MemType | Literal[Undefined.UNDEFINED]


@shown_in_hexadecimal("base", "size", "ignored_bits")
@dataclass(frozen=True, init=False)
class MtrrRange:
    """A range of physical addresses and its memory type.

    Whether a variable MTRR can hold it is asked of :func:`encode_range`.

    :param base: First address: an int, or text such as ``"0xFD000000"`` or ``"4G"``.
    :param size: Bytes: an int, or text such as ``"16M"``.
    :param memtype: Its type.
    :param ignored_bits: Address bits above the size that the mask leaves out too, so that the range comes
        again at other addresses (a discontinuous range).
    :param register: Number of the variable MTRR that holds it. None is for the lowest that is free.
    :raises ValueError: Text that isn't a number of bytes.
    """

    base: int
    size: int
    memtype: MemType
    ignored_bits: int
    register: int | None

    def __init__(
        self,
        base: int | str,
        size: int | str,
        memtype: MemType,
        *,
        ignored_bits: int | str = 0,
        register: int | None = None,
    ) -> None:
        object.__setattr__(self, "base", parse_size(base))
        object.__setattr__(self, "size", parse_size(size))
        object.__setattr__(self, "memtype", memtype)
        object.__setattr__(self, "ignored_bits", parse_size(ignored_bits))
        object.__setattr__(self, "register", register)

    def __str__(self) -> str:
        again = f", again at every combination of {self.ignored_bits:#x}" if self.ignored_bits else ""
        return f"{format_size(self.size)} {self.memtype} at {self.base:#x}{again}"


@shown_in_hexadecimal("base", "mask")
@dataclass(frozen=True)
class VariableMtrr:
    """A valid variable MTRR: covers the addresses with ``address & mask == base & mask``.

    Base and size are too little to describe it, because hardware accepts a mask with holes ("Discontinuous
    ranges"; not encouraged by Intel).
    """

    register: int
    base: int
    mask: int
    memtype: MemType

    def covers(self, address: int) -> bool:
        """Whether it covers an address."""
        return address & self.mask == self.base & self.mask


@shown_in_hexadecimal("capability", "default_type_register", "fixed", "variable")
@dataclass(frozen=True)
class MtrrState:
    """The MTRRs as read from one CPU.

    :param capability: MSR 0xFE.
    :param default_type_register: MSR 0x2FF.
    :param fixed: The registers of :data:`FIXED_MSRS`, in that order.
    :param variable: (PHYSBASE, PHYSMASK) of each pair, from MSR 0x200 on.
    :param smrr: The range of system-management memory, where an Intel CPU has one.
    :param amd: AMD's registers that have a say, where they are known.
    :raises ValueError: The pairs aren't as many as VCNT of MTRRcap says.
    """

    capability: int
    default_type_register: int
    fixed: tuple[int, ...]
    variable: tuple[tuple[int, int], ...]
    smrr: Smrr | None = None
    amd: AmdMemory | None = None

    def __post_init__(self) -> None:
        count = self.capability & 0xFF
        if len(self.variable) != count:
            raise ValueError(
                f"MTRRcap {self.capability:#x} says {count} variable MTRRs, not {len(self.variable)}"
            )


@dataclass(frozen=True)
class DecodedMtrrs:
    """The meaning of one CPU's MTRRs.

    :param default: Type of what no range covers.
    :param fixed: The 88 ranges below 1 MiB, ascending; in force only with ``fixed_enabled``.
    :param variable: The valid pairs, ascending by register.
    """

    enabled: bool
    fixed_enabled: bool
    default: MemType
    fixed: tuple[MtrrRange, ...]
    variable: tuple[VariableMtrr, ...]


@functools.lru_cache(maxsize=256)
def decode(state: MtrrState) -> DecodedMtrrs:
    """The meaning of the registers.

    :param state: The registers.
    :raises ValueError: A register, invalid pairs aside, holds a reserved memory type; the message names it.
        Hardware answers such a write with #GP; TCG (QEMU 7.2) stores it.
    """
    register = state.default_type_register
    variable = tuple(
        VariableMtrr(
            number,
            base & _ADDRESS_FIELD,
            mask & _ADDRESS_FIELD,
            _memory_type(base & 0xFF, 0x200 + 2 * number),
        )
        for number, (base, mask) in enumerate(state.variable)
        if mask & VALID
    )
    return DecodedMtrrs(
        enabled=bool(register & ENABLE),
        fixed_enabled=bool(register & FIXED_ENABLE and state.capability & CAPABILITY_FIXED),
        default=_memory_type(register & 0xFF, DEFAULT_TYPE),
        fixed=decode_fixed(state.fixed, dram_bits=state.amd is not None and state.amd.fixed_dram_modify),
        variable=variable,
    )


def decode_fixed(registers: tuple[int, ...], *, dram_bits: bool = False) -> tuple[MtrrRange, ...]:
    """The 88 fixed ranges below 1 MiB, ascending.

    :param registers: The values of :data:`FIXED_MSRS`, in that order.
    :param dram_bits: Bits 4 and 3 of each byte are AMD's RdMem and WrMem, and not part of the type.
    :raises ValueError: A byte holds a reserved memory type, or there aren't eleven 64-bit values.
    """
    if len(registers) != len(FIXED_MSRS):
        raise ValueError(f"there are {len(FIXED_MSRS)} fixed-range MTRRs, not {len(registers)}")
    ranges = []
    for (msr, start, size), value in zip(_FIXED_REGISTERS, registers, strict=True):
        if not 0 <= value < 1 << 64:
            raise ValueError(f"fixed-range MTRR {msr:#x}: {value:#x} isn't a 64-bit register value")
        for i, byte in enumerate(value.to_bytes(8, "little")):
            encoding = byte & ~RD_WR_MEM if dram_bits else byte
            ranges.append(MtrrRange(start + i * size, size, _memory_type(encoding, msr, f" byte {i}")))
    return tuple(ranges)


def _memory_type(encoding: int, msr: int, part: str = "") -> MemType:
    if encoding not in MTRR_TYPES:
        raise ValueError(f"MTRR {msr:#x}{part} holds the reserved memory type {encoding:#04x}")
    return MemType(encoding)


def precedence(types: frozenset[MemType], default: MemType) -> MtrrType:
    """The type of an address that variable ranges of some types cover ("MTRR Precedences").

    :param types: The types of all ranges that cover it.
    :param default: The type of what no range covers.
    """
    if len(types) <= 1:
        return next(iter(types), default)
    if MemType.UC in types:
        return MemType.UC
    return MemType.WT if types == {MemType.WT, MemType.WB} else UNDEFINED


def memory_type_at(state: MtrrState, address: int, *, in_smm: bool = False) -> MtrrType:
    """The type that the MTRRs of a CPU give a physical address.

    :param state: The registers.
    :param address: At most 52 bits.
    :param in_smm: Ask for system-management mode; only SMRR tells the two apart.
    :returns: ``UNDEFINED`` where ranges overlap that the manuals define no outcome for. Implementations
        differ there: Linux 6.1 takes UC, Xen the last match, BitVisor the first.
    :raises ValueError: The address has more than 52 bits, or see :func:`decode`.
    """
    if not 0 <= address < 1 << 52:
        raise ValueError(f"{address:#x} isn't a physical address of at most 52 bits")
    mtrrs = decode(state)
    if state.smrr is not None and state.smrr.covers(address):
        return state.smrr.memtype if in_smm else MemType.UC
    if not mtrrs.enabled:
        return MemType.UC
    if address < FIXED_END and mtrrs.fixed_enabled:
        return next(each.memtype for each in mtrrs.fixed if address < each.base + each.size)
    types = frozenset(each.memtype for each in mtrrs.variable if each.covers(address))
    forced = state.amd is not None and state.amd.forces_write_back(address)
    return precedence(types, MemType.WB if forced else mtrrs.default)


def range_of_mask(
    base: int, mask: int, memtype: MemType, *, physical_bits: int | None = None, register: int | None = None
) -> MtrrRange:
    """The range that a mask register makes, which may come again where the mask has holes.

    :param base: The base register; address bits that the mask leaves out don't count, nor do its low 12.
    :param mask: The mask register; its low 12 bits don't count.
    :param memtype: The type.
    :param physical_bits: The CPU's physical address width; None takes the mask's highest bit for the highest.
    :param register: Number of the register, if that is to be kept.
    :raises ValueError: The mask has no address bit, so that the range would be all memory.
    """
    mask &= _ADDRESS_FIELD
    top = mask.bit_length() if physical_bits is None else physical_bits
    mask &= (1 << top) - 1
    if not mask:
        raise ValueError("a mask without an address bit makes no range")
    size = mask & -mask
    ignored = ((1 << top) - size) & ~mask
    # A base's bit beyond the highest of the mask is kept, and refused where the CPU has no such address.
    kept = base & _ADDRESS_FIELD & ~ignored & -size
    return MtrrRange(kept, size, memtype, ignored_bits=ignored, register=register)


def encode_range(mtrr_range: MtrrRange, physical_bits: int) -> tuple[int, int]:
    """The (PHYSBASE, PHYSMASK) pair that gives a range its type.

    :param mtrr_range: The range and its type.
    :param physical_bits: The CPU's physical address width in bits (CPUID 0x80000008 EAX 7:0).
    :raises ValueError: No pair can: one line that says why.
    """
    base, size = mtrr_range.base, mtrr_range.size
    if mtrr_range.memtype not in MTRR_TYPES:
        raise ValueError(
            f"{mtrr_range.memtype} isn't an MTRR memory type; use {', '.join(map(str, sorted(MTRR_TYPES)))}"
        )
    if size < _PAGE:
        raise ValueError(f"size {size:#x} is less than 4K, the smallest an MTRR can hold")
    if size & (size - 1):
        raise ValueError(f"size {size:#x} isn't a power of two; split the range")
    if base < 0 or base % size:
        raise ValueError(f"base {base:#x} isn't a multiple of the size {format_size(size)}")
    if base + size > 1 << physical_bits:
        raise ValueError(
            f"end {base + size:#x} lies beyond the CPU's {physical_bits} bits of physical address"
        )
    return base | mtrr_range.memtype, (1 << physical_bits) - size & ~_ignored_bits(
        mtrr_range, physical_bits
    ) | VALID


def _ignored_bits(mtrr_range: MtrrRange, physical_bits: int) -> int:
    base, size, ignored = mtrr_range.base, mtrr_range.size, mtrr_range.ignored_bits
    if ignored < 0 or ignored >> physical_bits:
        raise ValueError(
            f"ignored bits {ignored:#x} lie beyond the CPU's {physical_bits} bits of physical address"
        )
    if ignored & (size - 1):
        raise ValueError(f"ignored bits {ignored:#x} are inside the size {format_size(size)}; leave them out")
    if ignored & size:
        raise ValueError(f"ignored bits {ignored:#x} only double the size; write {format_size(2 * size)}")
    if base & ignored:
        raise ValueError(f"base {base:#x} has bits set that the mask ignores; clear {base & ignored:#x}")
    return ignored
