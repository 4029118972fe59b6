"""The memory type range registers (MTRRs): what they say of an address, and how a range is written.

Register layouts and precedences: Intel SDM vol. 3, "Memory Type Range Registers (MTRRs)" and "MTRR
Precedences". AMD's extensions (TOM2 write-back, RdMem and WrMem bits of fixed ranges) aren't modelled:
QEMU up to 7.2 has none of their registers.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.size import format_size, parse_size

MTRR_CAPABILITY = 0xFE
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

_FIXED_END = 1 << 20


class Undefined(enum.Enum):
    """The type of :data:`UNDEFINED`."""

    UNDEFINED = "undefined"

    def __str__(self) -> str:
        return self.value


UNDEFINED: Final = Undefined.UNDEFINED
"""Overlapping variable ranges whose types the manuals give no meaning to."""

MtrrType: TypeAlias = MemType | Literal[Undefined.UNDEFINED]


@dataclass(frozen=True, init=False)
class MtrrRange:
    """A range of physical addresses and its memory type.

    Whether a variable MTRR can hold it is asked of :func:`encode_range`.

    :param base: First address: an int, or text such as ``"0xFD000000"`` or ``"4G"``.
    :param size: Bytes: an int, or text such as ``"16M"``.
    :raises ValueError: Text that isn't a number of bytes.
    """

    base: int
    size: int
    memtype: MemType

    def __init__(self, base: int | str, size: int | str, memtype: MemType) -> None:
        object.__setattr__(self, "base", parse_size(base))
        object.__setattr__(self, "size", parse_size(size))
        object.__setattr__(self, "memtype", memtype)

    def __str__(self) -> str:
        return f"{format_size(self.size)} {self.memtype} at {self.base:#x}"


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
        return address & self.mask == self.base & self.mask


@dataclass(frozen=True)
class MtrrState:
    """The MTRRs as read from one CPU.

    :param capability: MSR 0xFE.
    :param default_type_register: MSR 0x2FF.
    :param fixed: The registers of :data:`FIXED_MSRS`, in that order.
    :param variable: (PHYSBASE, PHYSMASK) of each pair, from MSR 0x200 on.
    :raises ValueError: The pairs aren't as many as VCNT of MTRRcap says.
    """

    capability: int
    default_type_register: int
    fixed: tuple[int, ...]
    variable: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        count = self.capability & 0xFF
        if len(self.variable) != count:
            raise ValueError(
                f"MTRRcap {self.capability:#x} says {count} variable MTRRs, not {len(self.variable)}"
            )


@dataclass(frozen=True)
class DecodedMtrrs:
    """What the registers of one CPU mean.

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
        fixed=decode_fixed(state.fixed),
        variable=variable,
    )


def decode_fixed(registers: tuple[int, ...]) -> tuple[MtrrRange, ...]:
    """The 88 fixed ranges below 1 MiB, ascending.

    :param registers: The values of :data:`FIXED_MSRS`, in that order.
    :raises ValueError: A byte holds a reserved memory type, or there aren't eleven 64-bit values.
    """
    if len(registers) != len(FIXED_MSRS):
        raise ValueError(f"there are {len(FIXED_MSRS)} fixed-range MTRRs, not {len(registers)}")
    ranges = []
    for (msr, start, size), value in zip(_FIXED_REGISTERS, registers, strict=True):
        if not 0 <= value < 1 << 64:
            raise ValueError(f"fixed-range MTRR {msr:#x}: {value:#x} isn't a 64-bit register value")
        for i, encoding in enumerate(value.to_bytes(8, "little")):
            ranges.append(MtrrRange(start + i * size, size, _memory_type(encoding, msr, f" byte {i}")))
    return tuple(ranges)


def _memory_type(encoding: int, msr: int, part: str = "") -> MemType:
    if encoding not in MTRR_TYPES:
        raise ValueError(f"MTRR {msr:#x}{part} holds the reserved memory type {encoding:#04x}")
    return MemType(encoding)


def memory_type_at(state: MtrrState, address: int) -> MtrrType:
    """What the MTRRs of a CPU say of a physical address.

    :returns: ``UNDEFINED`` where ranges overlap that the manuals define no outcome for. Implementations
        differ there: Linux 6.1 takes UC, Xen the last match, BitVisor the first.
    :raises ValueError: The address has more than 52 bits, or see :func:`decode`.
    """
    if not 0 <= address < 1 << 52:
        raise ValueError(f"{address:#x} isn't a physical address of at most 52 bits")
    mtrrs = decode(state)
    if not mtrrs.enabled:
        return MemType.UC
    if address < _FIXED_END and mtrrs.fixed_enabled:
        return next(each.memtype for each in mtrrs.fixed if address < each.base + each.size)
    types = {each.memtype for each in mtrrs.variable if each.covers(address)}
    if len(types) <= 1:
        return types.pop() if types else mtrrs.default
    if MemType.UC in types:
        return MemType.UC
    return MemType.WT if types == {MemType.WT, MemType.WB} else UNDEFINED


def encode_range(mtrr_range: MtrrRange, physical_bits: int) -> tuple[int, int]:
    """The (PHYSBASE, PHYSMASK) pair that gives a range its type.

    :param physical_bits: The CPU's physical address width (CPUID 0x80000008 EAX 7:0).
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
    return base | mtrr_range.memtype, (1 << physical_bits) - size | VALID
