"""Requests for MTRRs that make the kernel say what a report says, found in the model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_memtype.dumps.facts import Complaint, Kind
from pytest_memtype.machine.layout import VARIABLE_REGISTERS, intended
from pytest_memtype.reproduce.setting import Setting
from pytest_memtype.spec.linux_mtrr import MtrrEvent, MtrrMessage, Range, add
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import decode

_TYPES = (MemType.WC, MemType.UC, MemType.WB, MemType.WT, MemType.WP)
_FREE = 0xFD000000
# Above what a range of write-back that begins at 0 covers.
_HIGH = 0x20_0000_0000
_MIB = 1 << 20


@shown_in_hexadecimal("base", "size")
@dataclass(frozen=True)
class Request:
    """A line for ``/proc/mtrr``: base, size in bytes, and type."""

    base: int
    size: int
    memtype: MemType


def requests_for(
    complaints: Sequence[Complaint], setting: Setting
) -> tuple[tuple[Request, ...], list[Complaint]]:
    """The requests after which the kernel has said some messages, and the messages that none leads to."""
    registers = _registers(setting)
    made: list[Request] = []
    left: list[Complaint] = []
    for complaint in complaints:
        found = _search(complaint, registers)
        if found is None:
            left.append(complaint)
            continue
        for each in found:
            add(registers, each)
            made.append(Request(each.base, each.size, each.memtype))
    return tuple(made), left


def _registers(setting: Setting) -> list[Range | None]:
    bits = setting.hardware.physical_bits
    registers: list[Range | None] = [None] * VARIABLE_REGISTERS
    for each in decode(intended(setting.layout, physical_bits=bits)).variable:
        # The lowest bit of the mask, as Linux takes it (generic_get_mtrr()).
        registers[each.register] = Range(each.base, each.mask & -each.mask, each.memtype)
    return registers


def _search(complaint: Complaint, registers: Sequence[Range | None]) -> tuple[Range, ...] | None:
    """The fewest requests that end in a message."""
    for count in (1, 2):
        for requests in itertools.product(*(_candidates(complaint) for _ in range(count))):
            trial = [*registers]
            said = [add(trial, each) for each in requests]
            if not any(said[:-1]) and _fits(said[-1], complaint):
                return requests
    if complaint.kind is Kind.MTRR_FULL:
        for base in (_FREE, _HIGH):
            filling = _filling(base, registers)
            if filling is not None:
                return filling
    return None


def _filling(base: int, registers: Sequence[Range | None]) -> tuple[Range, ...] | None:
    """As many requests as there are free registers and one more, each of a range of its own."""
    trial, filling = [*registers], []
    for number in range(VARIABLE_REGISTERS + 1):
        request = Range(base + number * _MIB, _MIB, MemType.WC)
        filling.append(request)
        said = add(trial, request)
        if said is not None:
            return tuple(filling) if said.event is MtrrEvent.MTRR_FULL else None
    return None


def _candidates(complaint: Complaint) -> Iterator[Range]:
    """The ranges that the message names, with every type that fits."""
    for span in (complaint.span, complaint.other):
        if span is None:
            continue
        for memtype in (complaint.asked, *complaint.held, *_TYPES):
            if memtype is not None:
                yield Range(span.start, span.size, memtype)
    if complaint.span is None:
        yield Range(_FREE, 16 * _MIB, MemType.WC)


def _fits(message: MtrrMessage | None, complaint: Complaint) -> bool:
    if message is None or message.event.name != complaint.kind.name:
        return False
    span, other = complaint.span, complaint.other
    if span is not None and (span.start, span.size) != (message.request.base, message.request.size):
        return False
    present = message.present
    if other is not None and (present is None or (other.start, other.size) != (present.base, present.size)):
        return False
    if complaint.kind is Kind.MTRR_MISMATCH:
        held = complaint.held and (present is None or present.memtype is not complaint.held[0])
        return not held and complaint.asked in (None, message.request.memtype)
    return True
