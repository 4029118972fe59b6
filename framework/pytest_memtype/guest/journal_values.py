"""Values as the journal writes them, in a form that can be compared between kernels."""

from __future__ import annotations

import errno
import functools
import itertools
from collections.abc import Iterable

from pytest_memtype.guest.kernel_list import ListEntry
from pytest_memtype.guest.region import Region
from pytest_memtype.machine.firmware_layout import firmware_layout
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout, intended
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrState
from pytest_memtype.x86.mtrr_runs import runs


def pat_text(slots: Iterable[MemType]) -> str:
    """The slots of a PAT as text: ``"PAT WB WC UC- UC WB WP UC- WT"``."""
    return " ".join(("PAT", *map(str, slots)))


def listed(entries: Iterable[ListEntry]) -> list[list[int | str]]:
    """Reservations of the kernel's list, each ``[start, pages, type]``."""
    return [[each.region.start, each.region.pages, str(each.memtype)] for each in entries]


def type_or_errno(memtype: MemType | None, number: int) -> str:
    """The result of a look-up: a memory type, or the name of a positive errno where there is none."""
    return str(memtype) if memtype is not None else errno.errorcode.get(number, str(number))


@functools.lru_cache(maxsize=8)
def _state(layout: Layout, hardware: Hardware) -> MtrrState:
    return intended(layout, physical_bits=hardware.physical_bits, firmware=firmware_layout(hardware))


def mtrr_type(layout: Layout, hardware: Hardware, region: Region) -> str | None:
    """The type that a layout gives a region; None where its pages differ, and on a CPU without MTRRs.

    What the layout leaves is as the guest's firmware has set it.

    :param layout: The layout that the guest was booted with.
    :param hardware: The guest's hardware, on which also depends what its firmware sets.
    :param region: The region.
    """
    # A test may ask for addresses that the CPU doesn't have.
    beyond = any(each.end > 1 << hardware.physical_bits for each in region.parts())
    if "-mtrr" in hardware.cpu.split(",") or beyond:
        return None
    return type_by(_state(layout, hardware), region)


def type_by(state: MtrrState | None, region: Region) -> str | None:
    """The type that some MTRRs give a region; None where its pages differ, and without MTRRs."""
    if state is None:
        return None
    spans = itertools.chain.from_iterable(runs(state, each.start, each.end) for each in region.parts())
    found: str | None = None
    for span in spans:
        # Two are enough to see that they differ.
        if found not in (None, str(span.memtype)):
            return None
        found = str(span.memtype)
    return found
