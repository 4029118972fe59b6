"""From the MTRRs of a report to a layout, and from the report's machine to a guest's.

Two steps: :func:`layout_of` keeps the machine's registers as they are, :func:`fitted` changes what a guest
can't have. Both say in words what the text doesn't say, and what they did about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pytest_memtype.dumps.facts import Dump, Mtrrs, Register, Span
from pytest_memtype.errors import UsageError
from pytest_memtype.explain.fewer_ranges import few_enough, split
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import VARIABLE_REGISTERS, Layout
from pytest_memtype.machine.uncovered import uncovered_ram
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import FIXED_END, MOST_VARIABLE, MTRR_TYPES, MtrrRange, range_of_mask
from pytest_memtype.x86.size import format_size

_PAGE: Final = 1 << 12
_4G: Final = 1 << 32
_TOM2_GRANULE: Final = 8 << 20
LARGEST_WIDTH: Final = 52

#: Bits of address that are taken at least, where the text says no width.
_DEFAULT_WIDTH: Final = 36

#: The most listings that are compared with the one that is taken.
_MOST_LISTINGS: Final = 50


@dataclass(frozen=True)
class Imported:
    """A layout that was read.

    :param layout: The layout.
    :param physical_bits: Width of the machine's physical addresses, as far as the text says it, else the
        least that has room for its ranges.
    :param notes: What the text doesn't say, what was taken for it, and what was changed; a sentence each.
    :param complete: Whether all registers that the text has of it were understood.
    :param default_is_said: Whether the text says the default type.
    :param width_is_said: Whether the text says the width of addresses.
    """

    layout: Layout
    physical_bits: int
    notes: tuple[str, ...]
    complete: bool = True
    default_is_said: bool = True
    width_is_said: bool = True


def layout_of(dump: Dump, name: str = "imported") -> Imported:
    """The layout of a report's machine, with as many registers as that has.

    :param dump: What was read of the report.
    :param name: The name of the layout.
    :raises UsageError: the report has no MTRRs, or more than a CPU can have.
    """
    listing = dump.mtrr
    if listing is None:
        headings = [each.lines[0] for each in dump.mtrrs if each.lines]
        odd = [each.number for each in dump.cut if "base=" in each.text]
        but = ""
        if headings:
            but = f" but headings (line {headings[0]}): no register could be read"
        elif odd:
            but = f" but lines that are cut or wrong (line {odd[0]})"
        raise UsageError(
            f"there are no MTRRs in this text{but}; /proc/mtrr has them, and the kernel's log with "
            "mtrr=debug (6.5 and later)"
        )
    imported = layout_of_listing(dump, listing, name)
    others = _others(dump, listing, imported)
    return replace(imported, notes=(*imported.notes, *others))


def _others(dump: Dump, listing: Mtrrs, imported: Imported) -> list[str]:
    """A sentence that there are listings with other ranges, and which was taken.

    One that shows fewer of the same is part of another, unless the same program has printed both.
    """
    mine = _ranges(imported)
    found = {mine}
    for each in [each for each in dump.mtrrs if each.is_map][:_MOST_LISTINGS]:
        # Linux' new registers stand below the firmware's, and are meant to differ.
        changed = each.source == "mtrr_cleanup" and each.result and listing.source != each.source
        if changed or registers_needed(each) > MOST_VARIABLE:
            continue
        theirs = _ranges(layout_of_listing(dump, each))
        if not theirs <= mine or (each.source == listing.source and each.complete):
            found.add(theirs)
    if len(found) == 1:
        return []
    before = listing.source == "mtrr_cleanup" and not listing.result
    return [
        f"the text has {len(found)} listings of MTRRs that differ: those of lines {min(listing.lines)} to "
        f"{max(listing.lines)} are taken" + (", from before mtrr_cleanup changed them" if before else "")
    ]


def _ranges(imported: Imported) -> frozenset[MtrrRange]:
    # The mask of a range with holes depends on the width, which not each listing says.
    known = (each for each in imported.layout.ranges if not each.ignored_bits)
    return frozenset(replace(each, register=None) for each in known)


def layout_of_listing(dump: Dump, listing: Mtrrs, name: str = "imported") -> Imported:
    """The layout that one of a report's listings shows.

    :param dump: What was read of the report.
    :param listing: The listing.
    :param name: The name of the layout.
    :raises UsageError: it has more registers than a CPU can have.
    """
    if registers_needed(listing) > MOST_VARIABLE:
        raise UsageError(
            f"{listing.source} lists {registers_needed(listing)} variable ranges or more; a CPU has at most "
            f"{MOST_VARIABLE}"
        )
    notes: list[str] = []
    if not listing.complete:
        notes.append(
            f"a line of {listing.source} is cut, not in the text, or wasn't understood: registers may be "
            "missing here"
        )
    if not listing.same_machine:
        notes.append(
            f"these registers (line {listing.lines[0]}) may be of another machine than the complaint, which "
            "the text doesn't say"
        )
    elif not listing.same_boot:
        notes.append(
            f"these registers (line {listing.lines[0]}) are of the log of another boot than the complaint's, "
            "which may have had others"
        )
    temporary = listing.source == "coreboot" and not listing.result
    if temporary:
        notes.append(
            "coreboot set these registers for a while only (TEMPORARY): those that it left aren't in the text"
        )
    width, width_is_said = _width(dump, listing, notes)
    numbered = [each.number for each in listing.variable] != list(range(len(listing.variable)))
    ranges = []
    for each in listing.variable:
        found = _range(each, width, listing, notes)
        if found is not None:
            ranges.append(found if numbered else replace(found, register=None))
    complete = listing.complete and not temporary and len(ranges) == len(listing.variable)
    default = listing.default
    default_is_said = default is not None and default in MTRR_TYPES
    if default is None or default not in MTRR_TYPES:
        # Firmware covers RAM with write-back over uncached memory, or takes holes out of write-back memory.
        default = MemType.UC if any(each.memtype is MemType.WB for each in ranges) else MemType.WB
        notes.append(f"the default type isn't in {listing.source}: {default} is taken for it")
    fixed = _fixed(listing, notes)
    enabled = True if listing.enabled is None else listing.enabled
    if listing.enabled is None:
        notes.append("whether the MTRRs are on isn't said: they are taken to be")
    fixed_enabled = True if listing.fixed_enabled is None else listing.fixed_enabled
    tom2 = listing.tom2 if listing.tom2 and listing.tom2 > _4G and not listing.tom2 % _TOM2_GRANULE else None
    layout = Layout(
        name,
        default=default,
        ranges=ranges,
        fixed=fixed,
        enabled=enabled,
        fixed_enabled=fixed_enabled,
        tom2=tom2,
        tom2_write_back=bool(listing.tom2_write_back) and tom2 is not None,
        description=_description(dump, listing),
    )
    return Imported(
        layout, width, tuple(dict.fromkeys(notes)), complete, default_is_said, width_is_said=width_is_said
    )


def registers_needed(listing: Mtrrs) -> int:
    """The number of variable registers that a CPU with a listing's has at least, by their numbers, too.

    :param listing: The listing.
    """
    return max([len(listing.variable), *(each.number + 1 for each in listing.variable)])


def _description(dump: Dump, listing: Mtrrs) -> str:
    whose = dump.machine or dump.cpu.model or "a machine"
    plain = re.sub(r"\s+", " ", "".join(each if each.isprintable() else "?" for each in whose))
    return f"MTRRs of {plain[:100].strip()}, from {listing.source}"


def _width(dump: Dump, listing: Mtrrs, notes: list[str]) -> tuple[int, bool]:
    """Width of the machine's physical addresses in bits, and whether the text says it."""
    if dump.cpu.physical_bits is not None and 32 <= dump.cpu.physical_bits <= LARGEST_WIDTH:
        return dump.cpu.physical_bits, True
    masks = [each.mask for each in listing.variable if each.mask]
    if masks:
        width = max(each.bit_length() for each in masks)
        meant = _width_of_digits(width, (listing.mask_bits or width) // 4)
        if listing.source == "mtrr=debug" and meant != width:
            notes.append(
                f"no mask has the CPU's highest bits: they are read as masks with holes, of {meant} bits"
            )
            return meant, True
        return min(max(width, 32), LARGEST_WIDTH), True
    ends = [each.base + (each.size or 0) for each in listing.variable]
    if listing.tom2:
        ends.append(listing.tom2)
    odd = [each.size for each in listing.variable if each.size and each.size & (each.size - 1)]
    most = max((end - 1).bit_length() for end in [1, *ends] if end)
    width = min(max(_DEFAULT_WIDTH, most, 40 if odd else 0), LARGEST_WIDTH)
    # An Atom N270 has 32 bits, and MTRRs. A size with several bits has what the kernel took for the width.
    least = 32 if odd else min(max(32, most), LARGEST_WIDTH)
    taken = f": {width} are taken" if width != least else ""
    notes.append(f"the machine's addresses have at least {least} bits; the text doesn't say how many{taken}")
    return width, False


def _width_of_digits(width: int, digits: int) -> int:
    """The width of addresses that print_mtrr_state() has printed masks for.

    It prints 8 digits and those of what is above, of which it counts too many since 6.3: 13 digits are of 37
    to 40 bits there, of 49 to 52 before.

    :param width: Bits of the masks.
    :param digits: Digits of the masks.
    """
    possible = [
        most for most in (4 * digits - 12, 4 * digits) if 32 < most <= LARGEST_WIDTH and most >= width
    ]
    if not possible or any(most - 4 < width for most in possible):
        return width
    return min(possible)


def _range(each: Register, width: int, listing: Mtrrs, notes: list[str]) -> MtrrRange | None:
    what = f"register {each.number}"
    if each.memtype is None or each.memtype not in MTRR_TYPES:
        notes.append(f"{what} is left out: its type is none of an MTRR's")
        return None
    try:
        if each.mask is not None:
            return range_of_mask(
                each.base, each.mask, each.memtype, physical_bits=width, register=each.number
            )
    except ValueError as error:
        notes.append(f"{what} is left out: {error}")
        return None
    size = each.size or 0
    if size < _PAGE or size % _PAGE:
        notes.append(f"{what} is left out: no register holds a size of {format_size(size)}")
        return None
    if size & (size - 1):
        return _of_odd_size(each, size, width, listing, notes)
    if each.base % size:
        notes.append(
            f"{what} has base {each.base:#x}, no multiple of {format_size(size)}: the CPU rounds it down"
        )
    return MtrrRange(each.base & -size, size, each.memtype, register=each.number)


def _of_odd_size(each: Register, size: int, width: int, listing: Mtrrs, notes: list[str]) -> MtrrRange | None:
    """The range of a size that is no power of two.

    Linux prints the two's complement of the mask for a size (generic_get_mtrr(), 6.1), which for a mask with
    holes is one with several bits.
    """
    what = f"register {each.number}"
    if listing.source != "/proc/mtrr":
        notes.append(f"{what} is left out: no register holds {format_size(size)}, and no mask is said")
        return None
    lowest = size & -size
    ignored = size - lowest
    if ignored >> width:
        notes.append(f"{what} is left out: {format_size(size)} is beyond {width} bits of address")
        return None
    notes.append(
        f"{what} is read as a mask with holes: {format_size(size)} is what /proc/mtrr makes of "
        f"mask {(1 << width) - size:#x}"
    )
    base = each.base & ~ignored & -lowest
    return MtrrRange(base, lowest, each.memtype or MemType.UC, ignored_bits=ignored, register=each.number)


def _fixed(listing: Mtrrs, notes: list[str]) -> tuple[int, ...] | None:
    if not listing.fixed:
        notes.append(
            f"the fixed ranges below 1 MiB aren't in {listing.source}: the guest's firmware sets them"
        )
        return None
    registers = fixed_registers(listing.fixed)
    if registers is None:
        notes.append("the fixed ranges are incomplete in the text: the guest's firmware sets them")
    return registers


def fixed_registers(ranges: Iterable[tuple[Span, MemType]]) -> tuple[int, ...] | None:
    """The eleven fixed-range registers that give ranges below 1 MiB their types; None if they leave a gap."""
    steps = [(0x10000, 0x80000), (0x4000, 0xC0000), (0x1000, FIXED_END)]
    known = list(ranges)
    encodings = []
    at = 0
    for step, end in steps:
        while at < end:
            memtype = next(
                (kind for span, kind in known if span.start <= at and at + step - 1 <= span.end), None
            )
            if memtype is None or memtype not in MTRR_TYPES:
                return None
            encodings.append(int(memtype))
            at += step
    return tuple(
        int.from_bytes(bytes(encodings[index : index + 8]), "little") for index in range(0, len(encodings), 8)
    )


def fitted(imported: Imported, hardware: Hardware) -> Imported:
    """A layout that a guest can have, as near to the machine's as can be.

    :param imported: The machine's.
    :param hardware: The guest's.
    """
    notes = list(imported.notes)
    layout, width = imported.layout, hardware.physical_bits
    ranges = [*layout.ranges]
    if layout.tom2 is not None:
        extra = split(_4G, layout.tom2) if layout.tom2_write_back else []
        notes.append(
            f"TOM2 {layout.tom2:#x} is left out, as QEMU's CPUs have no such register"
            + ("; write-back ranges take its place" if extra else "")
        )
        if extra:
            ranges = _apart_from_tom2(ranges, layout.tom2, notes)
        ranges += [MtrrRange(base, size, MemType.WB) for base, size in extra]
    if layout.smrr is not None:
        notes.append("SMRR is left out, as QEMU's CPUs have none")
    ranges = _within(ranges, width, notes)
    ranges = few_enough(ranges, layout.default or MemType.UC, hardware, notes)
    if any((each.register or 0) >= VARIABLE_REGISTERS for each in ranges):
        ranges = [replace(each, register=None) for each in ranges]
        notes.append(f"the registers have other numbers, as a guest's CPU has {VARIABLE_REGISTERS}")
    if imported.width_is_said and imported.physical_bits != width:
        notes.append(f"the machine's addresses have {imported.physical_bits} bits, a guest's {width}")
    beyond = [each for each in ranges if each.base >= hardware.ram[-1].start + hardware.ram[-1].size]
    if any(each.memtype is MemType.WB for each in beyond):
        notes.append(
            f"with {hardware.memory} of memory a guest has no RAM in "
            + ", ".join(str(each) for each in beyond if each.memtype is MemType.WB)
        )
    fitting = replace(
        layout, ranges=tuple(ranges), tom2=None, tom2_write_back=False, smrr=None, other_cpus=None
    )
    uncovered = uncovered_ram(fitting, hardware)
    return Imported(fitting, width, (*notes, *([uncovered] if uncovered else [])))


def _apart_from_tom2(ranges: Sequence[MtrrRange], tom2: int, notes: list[str]) -> list[MtrrRange]:
    """The ranges that may lie over write-back ones: AMD's TOM2 gives way to others, which a range doesn't."""
    kept = []
    for each in ranges:
        there = each.base + each.size > _4G and each.base < tom2
        if there and each.memtype in (MemType.WC, MemType.WP):
            notes.append(f"{each} is left out: over a write-back range its type is undefined")
        else:
            kept.append(each)
    return kept


def _within(ranges: Sequence[MtrrRange], width: int, notes: list[str]) -> list[MtrrRange]:
    """The ranges that a CPU can address."""
    found = []
    for each in ranges:
        if each.base >> width:
            notes.append(f"{each} is left out: a guest's addresses have {width} bits")
            continue
        size = min(each.size, (1 << width) - each.base)
        ignored = each.ignored_bits & ((1 << width) - 1)
        if size != each.size:
            notes.append(f"{each} ends where a guest's addresses do")
        found.append(replace(each, size=size, ignored_bits=ignored))
    return found
