"""Registers of the guest's CPUs, read in three ways that must agree, and which way stands alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_memtype.guest.proc_mtrr import ProcMtrr
from pytest_memtype.guest.registers import Registers
from pytest_memtype.machine.device_state import CpuRegisters
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrState, VariableMtrr, decode
from pytest_memtype.x86.size import format_size

INSIDE = "read in the guest"
LISTED = "/proc/mtrr"
OUTSIDE = "read from outside"


@dataclass(frozen=True)
class Disagreement:
    """A register that isn't the same in all ways to read it.

    :param cpu: Linux's number of the CPU.
    :param register: Name of the register or range.
    :param values: Pairs of a way to read it, and the value read in that way.
    :param odd: The way that stands alone; None when there are only two ways, or no two agree.
    """

    cpu: int
    register: str
    values: tuple[tuple[str, str], ...]
    odd: str | None

    def __str__(self) -> str:
        said = ", ".join(f"{value} {way}" for way, value in self.values)
        alone = f"; {self.odd} stands alone" if self.odd else ""
        return f"CPU {self.cpu}: {self.register} is {said}{alone}"


def disagreements(
    *,
    inside: Sequence[Registers],
    listed: Sequence[ProcMtrr] | None,
    outside: Sequence[CpuRegisters],
) -> tuple[Disagreement, ...]:
    """Find where the three ways to read the registers differ, by CPU.

    CR3 isn't compared: no two ways read at one moment, and it changes with the process that runs.

    :param inside: Registers of the CPUs that are online, read in the guest.
    :param listed: The ranges of ``/proc/mtrr``; None on a CPU without MTRRs. They are those of the CPU on
        which the file was read, which isn't known: where no CPU has them, they are compared with the first.
    :param outside: Registers of all CPUs, read from QEMU.
    """
    others = {each.cpu: each for each in outside}
    found: list[Disagreement] = []
    for ours in inside:
        for name, one, other in _registers(ours, others[ours.cpu]):
            if one != other:
                values = ((INSIDE, f"{one:#x}"), (OUTSIDE, f"{other:#x}"))
                found.append(Disagreement(ours.cpu, name, values, None))
    if listed is not None and inside[0].mtrr is not None:
        shown = {each.index: _size_and_type(each.size, each.memtype, each.base) for each in listed}
        if not any(each.mtrr is not None and _by_register(each.mtrr) == shown for each in inside):
            found += _ranges(inside[0].cpu, inside[0].mtrr, shown, others[inside[0].cpu].mtrr)
    return tuple(found)


def _registers(ours: Registers, theirs: CpuRegisters) -> Iterator[tuple[str, int, int]]:
    if ours.has_pat:
        yield "PAT", ours.pat_value, theirs.pat_value
    if ours.mtrr is None:
        return
    yield "the MTRRs' default type", ours.mtrr.default_type_register, theirs.mtrr_default_type
    for number, (one, other) in enumerate(zip(ours.mtrr.fixed, theirs.mtrr_fixed, strict=True)):
        yield f"fixed MTRR {number}", one, other
    for number, (pair, other_pair) in enumerate(zip(ours.mtrr.variable, theirs.mtrr_variable, strict=True)):
        yield f"base {number}", pair[0], other_pair[0]
        yield f"mask {number}", pair[1], other_pair[1]


def _ranges(cpu: int, inside: MtrrState, shown: dict[int, str], outside: MtrrState) -> Iterator[Disagreement]:
    views = {
        INSIDE: _by_register(inside),
        LISTED: shown,
        OUTSIDE: _by_register(outside),
    }
    for register in sorted({number for view in views.values() for number in view}):
        values = {way: view.get(register, "unused") for way, view in views.items()}
        if len(set(values.values())) > 1:
            odd = [way for way, value in values.items() if list(values.values()).count(value) == 1]
            yield Disagreement(
                cpu, f"range {register}", tuple(values.items()), odd[0] if len(odd) == 1 else None
            )


def _by_register(state: MtrrState) -> dict[int, str]:
    return {each.register: _text(each) for each in decode(state).variable}


def _text(mtrr: VariableMtrr) -> str:
    # As Linux does it: of a mask with holes, the size of its least part (generic_get_mtrr(), 5.10 to 7.3).
    return _size_and_type(mtrr.mask & -mtrr.mask, mtrr.memtype, mtrr.base)


def _size_and_type(size: int, memtype: MemType, base: int) -> str:
    return f"{format_size(size)} {memtype} at {base:#x}"
