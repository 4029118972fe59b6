"""Layouts: the memory types that the MTRRs of the guest's CPUs give to physical addresses.

:mod:`pytest_memtype.machine.layout_file` reads them from files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypedDict

from pytest_memtype.errors import LayoutError
from pytest_memtype.x86.amd import TOM2_ENABLE, TOM2_FORCE_WB, AmdMemory
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import (
    DEFAULT_TYPE,
    ENABLE,
    FIXED_ENABLE,
    FIXED_MSRS,
    MTRR_TYPES,
    MtrrRange,
    MtrrState,
    decode_fixed,
    encode_range,
)
from pytest_memtype.x86.size import parse_size
from pytest_memtype.x86.smrr import Smrr

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

VARIABLE_REGISTERS: Final = 8
"""The number of variable MTRRs of a guest's CPU (QEMU 7.2, target/i386/cpu.h, MSR_MTRRcap_VCNT)."""

CAPABILITY: Final = 0x500 | VARIABLE_REGISTERS
"""MTRRcap of a guest's CPU: besides VCNT, FIX and WC."""

_TOM2_GRANULE: Final = 8 << 20

FIRMWARE_FIXED: Final = (0x0606060606060606, 0x0606060606060606, 0, *(0x0505050505050505,) * 8)
"""The fixed ranges as SeaBIOS 1.16 leaves them (src/fw/mtrr.c): up to 9FFFF WB, A0000-BFFFF UC, then WP."""

FIRMWARE_RANGES: Final = (MtrrRange(0xC0000000, "1G", MemType.UC),)
"""The variable ranges as SeaBIOS leaves them on q35 (1.16): the PCI hole. The default type is WB."""


@shown_in_hexadecimal("fixed")
@dataclass(frozen=True, init=False)
class Layout:
    """The values that the MTRRs are programmed with before the kernel starts.

    :param name: Letters, digits, ``-``, ``_`` and ``.``; it stands in test ids and reports.
    :param default: Type of what no range covers. None leaves every register as the firmware set it;
        then nothing else can be given.
    :param ranges: One variable MTRR each, in this order unless a range names its register.
    :param fixed: The values of :data:`pytest_memtype.x86.mtrr.FIXED_MSRS`, in that order. None leaves the
        first MiB as the firmware set it.
    :param enabled: Whether the MTRRs are in force at all (E). Without, all memory is UC.
    :param fixed_enabled: Whether the fixed ranges are (FE). Without, the first MiB belongs to the others.
    :param tom2: AMD's TOP_MEM2, the address at which RAM above 4 GiB ends, in bytes or as text (``9200M``).
        None is for a CPU without the register, or one where it is not in force.
    :param tom2_write_back: Whether what no range covers there is WB (Tom2ForceMemTypeWB).
    :param smrr: The system-management range register, on a CPU of Intel's that has one; None without.
    :param other_cpus: The layout of the other CPUs where they are programmed one by one; no boot ROM can.
        Linux copies the boot CPU's MTRRs to all of them at boot, whatever they hold.
    :param description: The purpose, on one line. Layouts that differ in nothing else are equal.
    """

    name: str
    default: MemType | None
    ranges: tuple[MtrrRange, ...]
    fixed: tuple[int, ...] | None
    enabled: bool
    fixed_enabled: bool
    tom2: int | None
    tom2_write_back: bool
    smrr: MtrrRange | None
    other_cpus: Layout | None
    description: str = field(compare=False)

    def __init__(
        self,
        name: str,
        *,
        default: MemType | None = None,
        ranges: Sequence[MtrrRange] = (),
        fixed: Sequence[int] | None = None,
        enabled: bool = True,
        fixed_enabled: bool = True,
        tom2: int | str | None = None,
        tom2_write_back: bool = False,
        smrr: MtrrRange | None = None,
        other_cpus: Layout | None = None,
        description: str = "",
    ) -> None:
        for what, value in (("ranges", ranges), ("fixed", fixed)):
            if what == "fixed" and value is None:
                continue
            if not isinstance(value, Sequence) or isinstance(value, str | bytes):
                raise LayoutError(f"layout {name!r}: {what} {value!r} is no list")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "default", default)
        object.__setattr__(self, "ranges", tuple(ranges))
        object.__setattr__(self, "fixed", None if fixed is None else tuple(fixed))
        object.__setattr__(self, "enabled", enabled)
        object.__setattr__(self, "fixed_enabled", fixed_enabled)
        object.__setattr__(self, "tom2", None if tom2 is None else parse_size(tom2))
        object.__setattr__(self, "tom2_write_back", tom2_write_back)
        object.__setattr__(self, "smrr", smrr)
        object.__setattr__(self, "other_cpus", other_cpus)
        object.__setattr__(self, "description", description)


def validate(layout: Layout, *, physical_bits: int, variable_registers: int = VARIABLE_REGISTERS) -> None:
    """Check that the MTRRs of a CPU can express a layout.

    :param layout: The layout, as a test or a file gave it.
    :param physical_bits: The CPU's physical address width, in bits.
    :param variable_registers: How many variable MTRRs it has (VCNT of MTRRcap).
    :raises LayoutError: the MTRRs can't express it; one line that names the layout and the range.
    """
    where = f"layout {layout.name!r}"
    _check_types(layout, where)
    if not isinstance(layout.name, str) or not NAME.fullmatch(layout.name):
        raise LayoutError(f"{where}: a name is made of letters, digits, '-', '_' and '.'")
    _encode(layout, where, physical_bits=physical_bits, variable_registers=variable_registers)
    _amd(layout, where, physical_bits=physical_bits)
    _smrr(layout, where)
    if layout.other_cpus is not None:
        where += ": other CPUs"
        _check_types(layout.other_cpus, where)
        if layout.other_cpus.tom2 is not None or layout.other_cpus.smrr is not None:
            raise LayoutError(f"{where} can't have tom2 or smrr of their own; firmware sets them alike")
        if layout.other_cpus.default is None:
            raise LayoutError(f"{where} have no default type; give default=, e.g. MemType.UC")
        if layout.other_cpus.other_cpus is not None:
            raise LayoutError(f"{where} can't have other CPUs themselves")
        _encode(layout.other_cpus, where, physical_bits=physical_bits, variable_registers=variable_registers)


def check_bootable(layout: Layout) -> None:
    """Check that QEMU's CPUs have the registers that a layout sets.

    :param layout: A layout that :func:`validate` accepts.
    :raises LayoutError: QEMU's CPUs don't have all of its registers. The layout can still be drawn.
    """
    for key, given, why in (
        ("tom2", layout.tom2 is not None, "have no SYSCFG and TOP_MEM2: they read as 0 and keep nothing"),
        ("smrr", layout.smrr is not None, "have no SMRR, as bit 11 of their MTRRcap says"),
    ):
        if given:
            raise LayoutError(
                f"layout {layout.name!r}: {key} can't be given to a guest: QEMU's CPUs {why}; "
                f"memtype layouts show {layout.name} draws it"
            )


def _check_types(layout: Layout, where: str) -> None:
    """Check the types of a layout's values, for users without a type checker."""
    for name, value in (("enabled", layout.enabled), ("fixed_enabled", layout.fixed_enabled)):
        if not isinstance(value, bool):
            raise LayoutError(f"{where}: {name} {value!r} is neither True nor False")
    if layout.default is not None and not isinstance(layout.default, MemType):
        raise LayoutError(
            f"{where}: the default {layout.default!r} isn't a memory type; give e.g. MemType.UC"
        )
    if not isinstance(layout.description, str) or not layout.description.isprintable():
        raise LayoutError(f"{where}: description isn't one line of printable text")
    if layout.other_cpus is not None and not isinstance(layout.other_cpus, Layout):
        raise LayoutError(f"{where}: other_cpus {layout.other_cpus!r} is no Layout")
    for number, each in enumerate(layout.ranges, start=1):
        if not isinstance(each, MtrrRange) or not isinstance(each.memtype, MemType):
            raise LayoutError(f"{where}: range {number} ({each}) is no MtrrRange with a MemType")
        if each.register is not None and (
            not isinstance(each.register, int) or isinstance(each.register, bool)
        ):
            raise LayoutError(f"{where}: range {number} ({each}): register {each.register!r} is no number")
    for number in layout.fixed or ():
        if not isinstance(number, int) or isinstance(number, bool):
            raise LayoutError(f"{where}: fixed ranges: {number!r} is no number")


def register_writes(
    layout: Layout, *, physical_bits: int, variable_registers: int = VARIABLE_REGISTERS
) -> tuple[tuple[int, int], ...]:
    """The (MSR, value) writes that program a layout, in order; none if it leaves the firmware's registers.

    Between the first write and the last the MTRRs are off, so no access sees half a layout.

    :param layout: The layout to program.
    :param physical_bits: The CPU's physical address width, in bits.
    :param variable_registers: How many variable MTRRs the CPU has (VCNT of MTRRcap).
    :raises LayoutError: :func:`validate` refuses the layout.
    """
    validate(layout, physical_bits=physical_bits, variable_registers=variable_registers)
    if layout.default is None:
        return ()
    writes = [(DEFAULT_TYPE, 0)]
    where = f"layout {layout.name!r}"
    pairs = _encode(layout, where, physical_bits=physical_bits, variable_registers=variable_registers)
    for number, (base, mask) in enumerate(pairs):
        writes += [(0x200 + 2 * number, base), (0x201 + 2 * number, mask)]
    if layout.fixed is not None:
        writes += zip(FIXED_MSRS, layout.fixed, strict=True)
    flags = ENABLE * layout.enabled | FIXED_ENABLE * layout.fixed_enabled
    writes.append((DEFAULT_TYPE, flags | layout.default))
    return tuple(writes)


class _Cpu(TypedDict):
    physical_bits: int
    variable_registers: int


SEABIOS: Final = Layout("seabios", default=MemType.WB, ranges=FIRMWARE_RANGES, fixed=FIRMWARE_FIXED)
"""The registers as SeaBIOS leaves them on q35 (1.16)."""


def intended(
    layout: Layout,
    *,
    physical_bits: int,
    firmware: Layout = SEABIOS,
    variable_registers: int = VARIABLE_REGISTERS,
) -> MtrrState:
    """The registers of the boot CPU when the kernel starts; those that the layout leaves are the firmware's.

    :param layout: The layout that the boot ROM programs.
    :param physical_bits: The CPU's physical address width, in bits.
    :param firmware: The layout that the firmware sets, see
        :func:`pytest_memtype.machine.firmware_layout.firmware_layout`.
    :param variable_registers: How many variable MTRRs the CPU has; a guest's has 8.
    :raises LayoutError: :func:`validate` refuses one of the two layouts.
    """
    has: _Cpu = {"physical_bits": physical_bits, "variable_registers": variable_registers}
    registers = dict(register_writes(firmware, **has)) | dict(register_writes(layout, **has))
    return MtrrState(
        capability=CAPABILITY & ~0xFF | variable_registers,
        default_type_register=registers[DEFAULT_TYPE],
        fixed=tuple(registers[msr] for msr in FIXED_MSRS),
        variable=tuple(
            (registers[0x200 + 2 * n], registers[0x201 + 2 * n]) for n in range(variable_registers)
        ),
        smrr=_smrr(layout, f"layout {layout.name!r}"),
        amd=_amd(layout, f"layout {layout.name!r}", physical_bits=physical_bits),
    )


def _amd(layout: Layout, where: str, *, physical_bits: int) -> AmdMemory | None:
    """The registers of AMD's that decide on types: all but TOP_MEM."""
    if layout.tom2 is None:
        if layout.tom2_write_back:
            raise LayoutError(f"{where}: tom2_write_back means nothing without tom2")
        return None
    if layout.tom2 % _TOM2_GRANULE or not 1 << 32 < layout.tom2 <= 1 << physical_bits:
        raise LayoutError(
            f"{where}: tom2 {layout.tom2:#x} isn't a multiple of 8M above 4G that the CPU can address"
        )
    return AmdMemory(TOM2_ENABLE | TOM2_FORCE_WB * layout.tom2_write_back, 0, layout.tom2)


def _smrr(layout: Layout, where: str) -> Smrr | None:
    if layout.smrr is None:
        return None
    if layout.smrr.ignored_bits or layout.smrr.register is not None:
        raise LayoutError(f"{where}: smrr has a base, a size and a type, and nothing else")
    try:
        # The registers of SMRR hold 32 bits of address.
        base, mask = encode_range(layout.smrr, 32)
    except ValueError as error:
        raise LayoutError(f"{where}: smrr: {error}") from None
    return Smrr(base, mask)


def _encode(
    layout: Layout, where: str, *, physical_bits: int, variable_registers: int
) -> tuple[tuple[int, int], ...]:
    """The (PHYSBASE, PHYSMASK) of each variable register; (0, 0) for those that aren't needed."""
    if layout.default is None:
        extras = layout.ranges or layout.fixed is not None or layout.other_cpus is not None
        extras = extras or layout.tom2 is not None or layout.tom2_write_back or layout.smrr is not None
        if extras or not (layout.enabled and layout.fixed_enabled):
            raise LayoutError(
                f"{where} says what registers hold but has no default type; give default=, e.g. MemType.UC"
            )
        return ()
    if layout.default not in MTRR_TYPES:
        raise LayoutError(f"{where}: the default {layout.default} isn't an MTRR memory type")
    if layout.fixed is not None:
        try:
            decode_fixed(layout.fixed)
        except ValueError as error:
            raise LayoutError(f"{where}: fixed ranges: {error}") from None
    # Registers that the layout doesn't need may hold ranges of the firmware's.
    pairs = dict.fromkeys(range(variable_registers), (0, 0))
    users: dict[int, str] = {}
    named = [each.register for each in layout.ranges if each.register is not None]
    free = iter([number for number in pairs if number not in named])
    for number, mtrr_range in enumerate(layout.ranges, start=1):
        this = f"range {number} ({mtrr_range})"
        register = mtrr_range.register
        if register is None:
            register = next(free, None)
        if register is None:
            raise LayoutError(
                f"{where}: {this} is one too many: the CPU has {variable_registers} variable MTRRs, "
                f"the layout {len(layout.ranges)} ranges"
            )
        if register not in pairs:
            raise LayoutError(
                f"{where}: {this}: register {register!r} isn't one of 0 to {variable_registers - 1}"
            )
        if register in users:
            raise LayoutError(f"{where}: {this}: register {register} holds {users[register]} already")
        users[register] = this
        try:
            pairs[register] = encode_range(mtrr_range, physical_bits)
        except ValueError as error:
            raise LayoutError(f"{where}: {this}: {error}") from None
    return tuple(pairs.values())
