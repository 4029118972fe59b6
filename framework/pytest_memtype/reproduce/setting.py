"""The machines on which messages may be made again: layout, hardware, and where the memory lies."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pytest_memtype.dumps.facts import Dump, Kind
from pytest_memtype.errors import LayoutError
from pytest_memtype.explain.imported_layout import fitted, layout_of
from pytest_memtype.machine.hardware import HIGH_START, LOW_WHEN_SPLIT, MIB, SPLIT_FROM, Hardware
from pytest_memtype.machine.layout import Layout, intended
from pytest_memtype.reproduce.step import Board
from pytest_memtype.reproduce.wanted import RAM, PageLines
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrRange
from pytest_memtype.x86.mtrr_runs import runs

PAGE: Final = 4096

_RESET: Final = (MemType.WB, MemType.WT, MemType.UC_MINUS, MemType.UC) * 2
"""The PAT as a reset leaves it."""

_MOST_MEMORY: Final = 6 << 30
"""Bytes of RAM: a kernel counts its pages when it boots, which takes time."""

_TOP: Final = 32 * MIB
"""RAM above what is wanted: firmware keeps its tables in the last of it."""

_MOST_LOW: Final = SPLIT_FROM - MIB
"""Bytes of RAM, all of it below 4 GiB."""

_STEP: Final = 128 * MIB

DEVICE: Final = (0xFD000000, 0xFE000000)
"""The memory of the test device: the BAR where SeaBIOS puts it on q35."""

_OF_MTRRS: Final = re.compile(
    r"(?:en|dis)able_mtrr_(?:cleanup|trim)|mtrr_cleanup_debug|mtrr_(?:chunk_size|gran_size|spare_reg_nr)=\w{1,20}"
)
"""Parameters of arch/x86/kernel/cpu/mtrr/cleanup.c."""

_FREE: Final = 0x20_0000_0000
"""Where nothing is in any guest: 128 GiB."""

_TAKEN: Final = ((0xB0000000, 0xC0000000), (0xFED00000, 0xFED01000))
"""What the kernel maps itself on q35, UC-: MMCONFIG and HPET (seen with 5.10 to 7.3)."""

FIRMWARE: Final = Layout("firmware")
OFF: Final = Layout(
    "mtrr-disabled", default=MemType.WB, enabled=False, description="MTRRs switched off: all memory uncached"
)
BLANK: Final = Layout("blank", default=MemType.UC, description="MTRRs on, and no range in them")


@shown_in_hexadecimal("offset")
@dataclass(frozen=True)
class Setting:
    """A machine, and where on it a range of a report lies.

    :param layout: The layout of its MTRRs.
    :param hardware: Its hardware.
    :param has_mtrr: Are there MTRRs that are on?
    :param pat: Is there a PAT that is on?
    :param ram: Is the range RAM?
    :param offset: What is added to the report's addresses to have the guest's.
    :param doubt: How far it is from what the report says: 0 for a machine that fits.
    :param notes: What differs from the report, one line each.
    """

    layout: Layout
    hardware: Hardware
    has_mtrr: bool
    pat: bool
    ram: bool
    offset: int
    doubt: int
    notes: tuple[str, ...] = ()

    def board(self, edges: Iterable[int]) -> Board:
        """The memory between some of the guest's addresses."""
        cut = tuple(sorted(set(edges)))
        pairs = list(pairwise(cut))
        return Board(cut, tuple(self.ram for _ in pairs), tuple(self._write_back(*pair) for pair in pairs))

    def _write_back(self, start: int, end: int) -> bool:
        if not self.has_mtrr:
            return False
        state = intended(self.layout, physical_bits=self.hardware.physical_bits)
        return all(run.memtype is MemType.WB for run in runs(state, start, end))


def settings(dump: Dump, lines: PageLines | None) -> Iterator[Setting]:
    """The machines to try for some messages, those that fit the report first.

    :param dump: The report.
    :param lines: The messages about one range; None for messages of the boot alone.
    """
    for doubt, ram in enumerate(_ram(dump, lines)):
        for hardware, offset, notes in _places(lines.extent if lines else None, ram=ram):
            for machine in _machines(dump, hardware, _shifted(lines, offset)):
                yield dataclasses.replace(
                    machine, ram=ram, offset=offset, doubt=machine.doubt + doubt, notes=notes + machine.notes
                )


def of_two_types(dump: Dump, start: int, end: int) -> Setting | None:
    """The machine on which a range of device memory has two MTRR types; None where none has room for it.

    :param dump: The report.
    :param start: The range's first address.
    :param end: The address behind it.
    """
    for hardware, offset, notes in _places((start, end), ram=False):
        own = _own(dump, hardware)
        if own is not None and not offset:
            state = intended(own[0], physical_bits=hardware.physical_bits)
            first, *others = (each.memtype for each in runs(state, start, end))
            # UC in front hides what follows (type_merge(), 6.5 and later).
            if others and first is not MemType.UC:
                return Setting(own[0], hardware, True, True, False, 0, 0, notes + own[1])
        half = MtrrRange(start + offset, (end - start) // 2, MemType.WC)
        layout = Layout(
            "two-types",
            default=MemType.UC,
            ranges=[*_covering(hardware), half],
            description="one half of the memory of the report is write-combining, the other uncached",
        )
        if own is not None:
            notes += ("the report's registers give the memory one type, and the guest's two",)
        return Setting(layout, hardware, True, True, False, offset, 0, notes)
    return None


def _shifted(lines: PageLines | None, offset: int) -> tuple[int, int] | None:
    extent = lines.extent if lines else None
    return None if extent is None else (extent[0] + offset, extent[1] + offset)


def _ram(dump: Dump, lines: PageLines | None) -> Sequence[bool]:
    """Whether the range is RAM, the likelier answer first."""
    if lines is None or lines.extent is None:
        return (False,)
    if any(message.event in RAM for message in lines.messages):
        return (True,)
    start, end = lines.extent
    known = [*dump.e820, *(each.span for each in dump.resources)]
    said = any(
        each.name.lower() in ("usable", "system ram") and each.start <= start and end - 1 <= each.end
        for each in known
    )
    return (True, False) if said else (False, True)


def _places(extent: tuple[int, int] | None, *, ram: bool) -> Iterator[tuple[Hardware, int, tuple[str, ...]]]:
    """Hardware under which a range is what it shall be, with what is added to its addresses."""
    if extent is None:
        yield Hardware(), 0, ()
        return
    start, end = extent
    hardware = _with_ram(start, end) if ram else _with_device(start, end)
    if hardware is not None:
        yield hardware, 0, ()
        return
    size = end - start
    if ram:
        # As far from the next large page as it was, and with RAM around it.
        to = 128 * MIB + start % (2 * MIB)
        hardware = _with_ram(to, to + size)
    else:
        to = _FREE + start % (1 << 30)
        hardware = _with_device(to, to + size)
    if hardware is not None:
        where = "no RAM" if ram else "no free device memory"
        yield hardware, to - start, (f"a guest has {where} at {start:#x}: it is at {to:#x} instead",)


def _with_ram(start: int, end: int) -> Hardware | None:
    """Hardware that has RAM from one address up to another, and around them."""
    if start < 16 * MIB:
        return None
    # What Linux has for each page of RAM (64 bytes) lies at the top, too, and ioremap() takes it for no RAM.
    need = end + _TOP + end // 64
    if need <= _MOST_LOW:
        # In steps, so that reports of much the same addresses have guests alike.
        memory = min(max(-(-need // _STEP) * _STEP, 256 * MIB), _MOST_LOW)
    elif start > HIGH_START:
        memory = max(need - HIGH_START + LOW_WHEN_SPLIT, SPLIT_FROM)
    else:
        return None
    return None if memory > _MOST_MEMORY else Hardware(memory=_mebibytes(memory))


def _mebibytes(size: int) -> str:
    return f"{-(-size // MIB)}M"


def _with_device(start: int, end: int) -> Hardware | None:
    """Hardware that has no RAM from one address up to another, nor beside them."""
    hardware = Hardware()
    if end + PAGE > 1 << hardware.physical_bits:
        return None
    if start - PAGE < hardware.memory_bytes:
        return None
    if any(start < last and first < end for first, last in _TAKEN):
        return None
    return hardware


def _machines(dump: Dump, hardware: Hardware, extent: tuple[int, int] | None) -> Iterator[Setting]:
    """The machines with some hardware, their layouts and their boot."""
    kinds = {each.kind for each in dump.own}
    words = (dump.command_line or "").split()
    if kinds & {Kind.MTRR_INCONSISTENT}:
        hardware = dataclasses.replace(hardware, cpus=2)
    pat = not (Kind.PAT_DISABLED in kinds or "nopat" in words or Kind.PAT_ABSENT in kinds)
    if Kind.PAT_ABSENT in kinds:
        hardware = dataclasses.replace(hardware, cpu=f"{hardware.cpu},-pat")
    elif not pat:
        hardware = dataclasses.replace(hardware, cmdline="nopat")
    # Each once, the last counts: a report's line may have words of any kind, more than a guest's holds.
    asked = list({word.partition("=")[0]: word for word in words if _OF_MTRRS.fullmatch(word)}.values())
    if {Kind.MTRR_CLEANUP_FAILED, Kind.MTRR_CLEANED} & kinds and "enable_mtrr_cleanup" not in asked:
        asked.append("enable_mtrr_cleanup")
    if asked:
        line = f"{hardware.cmdline} {' '.join(asked)}".strip()
        hardware = dataclasses.replace(hardware, cmdline=line)
    without = _without_mtrr(dump, kinds, pat=pat)
    own = _own(dump, hardware)
    plain = Setting(FIRMWARE, hardware, True, pat, False, 0, 0)
    with_mtrr = [plain] if own is None else [dataclasses.replace(plain, layout=own[0], notes=own[1])]
    if Kind.MTRR_LOSES_RAM in kinds and own is None:
        with_mtrr = [dataclasses.replace(plain, layout=_uncovered(hardware))]
    if Kind.MTRR_BLANK in kinds and own is None:
        with_mtrr = [dataclasses.replace(plain, layout=BLANK)]
    if extent is not None:
        other = _write_back_at(extent, hardware)
        doubt = 0 if own is None else 1
        notes = (
            () if own is None else ("the layout isn't the report's: with that no kernel says these lines",)
        )
        with_mtrr.append(dataclasses.replace(plain, layout=other, doubt=doubt, notes=notes))
    off = _off(dump, plain)
    said = ("the report's MTRRs are off; with that no kernel says these lines",)
    if without:
        yield off
        yield from (dataclasses.replace(each, doubt=1, notes=each.notes + said) for each in with_mtrr)
    else:
        yield from with_mtrr
        yield dataclasses.replace(off, doubt=2, notes=("the MTRRs are off, which the report doesn't say",))


def _without_mtrr(dump: Dump, kinds: set[Kind], *, pat: bool) -> bool:
    """Whether the report's machine has no MTRRs, or has them off."""
    if {Kind.PAT_SKIPPED, Kind.MTRR_OFF} & kinds or dump.cpu.has_mtrr is False:
        return True
    if dump.mtrr is not None and dump.mtrr.same_machine:
        return dump.mtrr.enabled is False
    nothing = dump.mtrr_map is not None and dump.mtrr_map.entries == 0
    return nothing or (pat and dump.pat.types == _RESET)


def _off(dump: Dump, plain: Setting) -> Setting:
    # The other reason that mtrr_bp_init() gives is "by BIOS".
    lacking = any("not available" in each.raw.lower() for each in dump.of(Kind.MTRR_OFF))
    if lacking or dump.cpu.has_mtrr is False:
        cpu = f"{plain.hardware.cpu},-mtrr"
        return dataclasses.replace(
            plain, hardware=dataclasses.replace(plain.hardware, cpu=cpu), has_mtrr=False
        )
    return dataclasses.replace(plain, layout=OFF, has_mtrr=False)


def _covering(hardware: Hardware) -> list[MtrrRange]:
    """Write-back ranges that cover RAM, as few as there are."""
    return [
        MtrrRange(each.start, 1 << (each.size - 1).bit_length(), MemType.WB)
        for each in hardware.ram
        if each.size
    ]


def _write_back_at(extent: tuple[int, int], hardware: Hardware) -> Layout:
    """A layout under which a range is write-back, with a page on each side."""
    if DEVICE[0] <= extent[0] and extent[1] <= DEVICE[1]:
        # All of the device, so that all reports about it have guests alike.
        extent = DEVICE[0] + PAGE, DEVICE[1] - PAGE
    start, end = extent[0] - PAGE, extent[1] + PAGE
    size = PAGE
    while start // size != (end - 1) // size:
        size *= 2
    ranges = [*_covering(hardware), MtrrRange(start // size * size, size, MemType.WB)]
    return Layout(
        "write-back-there",
        default=MemType.UC,
        ranges=ranges,
        description="the memory of the report is write-back",
    )


def _uncovered(hardware: Hardware) -> Layout:
    """A layout that leaves half of RAM without write-back."""
    size = 1 << (hardware.memory_bytes.bit_length() - 2)
    return Layout(
        "ram-not-covered",
        default=MemType.UC,
        ranges=[MtrrRange(0, size, MemType.WB)],
        description="half of RAM",
    )


def _own(dump: Dump, hardware: Hardware) -> tuple[Layout, tuple[str, ...]] | None:
    """The layout of a report as a guest can have it, and what had to be changed; None without one."""
    listing = dump.mtrr
    if listing is None or not listing.same_machine:
        return None
    if not listing.variable and listing.default is None:
        return None
    imported = fitted(layout_of(dump, "report"), hardware)
    try:
        intended(imported.layout, physical_bits=hardware.physical_bits)
    except LayoutError:
        return None
    return imported.layout, imported.notes
