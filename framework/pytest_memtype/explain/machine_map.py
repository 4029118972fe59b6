"""The memory of a report's machine: whose it is, as far as the text says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from pytest_memtype.dumps.facts import Bar, Dump, Span
from pytest_memtype.dumps.facts import Kind as Message
from pytest_memtype.explain.imported_layout import Imported
from pytest_memtype.machine.layout import intended
from pytest_memtype.machine.memory_map import Kind, Owner
from pytest_memtype.report.layout_map import Map, map_of
from pytest_memtype.x86.mtrr import FIXED_END, MOST_VARIABLE, MtrrState

_PAGE: Final = 1 << 12
#: More ranges of a report's are left out of its picture.
_MOST_RANGES: Final = 512

UNSAID: Final = "not said"


def machine_map(dump: Dump, imported: Imported) -> Map:
    """The map of a report's machine, drawn with its own registers and addresses.

    It begins at 1 MiB where the text has no fixed ranges, which decide below.

    :param dump: What was read of the report.
    :param imported: Its layout, as the machine has it.
    :raises LayoutError: the registers can't hold the layout.
    """
    start = 0 if imported.layout.fixed is not None or not imported.layout.fixed_enabled else FIXED_END
    return map_of(imported.layout, registers_of(imported), _owners(dump, start, 1 << imported.physical_bits))


def registers_of(imported: Imported) -> MtrrState:
    """The registers of a machine with a layout: at least 8 variable ones, as many more as the layout needs.

    :param imported: The layout, and the width of the machine's addresses.
    :raises LayoutError: no registers can hold the layout.
    """
    numbers = [each.register for each in imported.layout.ranges if each.register is not None]
    registers = max([8, len(imported.layout.ranges), *(each + 1 for each in numbers)])
    return intended(
        imported.layout,
        physical_bits=imported.physical_bits,
        variable_registers=min(registers, MOST_VARIABLE),
    )


def owner_of(dump: Dump, span: Span) -> list[tuple[str, Span]]:
    """The owners of a range, as far as the text names them, each with the range that is its.

    The most exact comes first: a device's BAR, then ``/proc/iomem`` from the inside out, then e820. Where
    none names any, it is the resource that a complaint about that range names.

    :param dump: What was read of the report.
    :param span: The range.
    """
    found = [(f"memory of {_name(each)}", each.span) for each in dump.bars if each.span.overlaps(span)]
    nested = sorted(
        (each for each in dump.resources if each.span.overlaps(span)), key=lambda each: -each.depth
    )
    found += [(f"{each.span.name} (/proc/iomem)", each.span) for each in nested]
    found += [(f"{each.name} (e820)", each) for each in dump.e820 if each.overlaps(span)]
    if not found:
        beside = (each.other for each in dump.of(Message.SANITY) if each.span == span)
        found = [(each.name, each) for each in beside if each is not None and each.overlaps(span)]
        # fwts names the line of /proc/iomem that it looked at.
        tested = (each.span for each in dump.of(Message.FWTS) if each.span is not None)
        found += [
            (f"{each.name} (/proc/iomem)", each) for each in tested if each.name and each.overlaps(span)
        ]
    return list(dict.fromkeys(found))


def _name(bar: Bar) -> str:
    which = "the ROM of " if bar.rom else f"BAR {bar.index} of " if bar.index is not None else ""
    what = f" ({bar.description})" if bar.description else ""
    return f"{which}the PCI device {bar.device}{what}" if bar.device else f"{which}a PCI device"


def _owners(dump: Dump, first: int, end: int) -> Iterator[Owner]:
    """The owners of all addresses, ascending, without gaps: of overlapping ones the most exact."""
    known: list[tuple[int, Span, Kind, str]] = []
    for span in dump.e820:
        ram = span.name in ("usable", "System RAM")
        known.append((0, span, Kind.RAM if ram else Kind.FIRMWARE, "RAM" if ram else span.name))
    for resource in dump.resources:
        ram = resource.span.name == "System RAM"
        known.append((1 + resource.depth, resource.span, Kind.RAM if ram else Kind.BAR, resource.span.name))
    for bar in dump.bars:
        known.append((100, bar.span, Kind.BAR, _name(bar)))
    known = known[:_MOST_RANGES]
    edges = {first, end}
    for _, span, _, _ in known:
        # A piece of a page can't have a type of its own.
        edges |= {span.start & -_PAGE, (span.end + _PAGE) & -_PAGE}
    kept = sorted(edge for edge in edges if first <= edge <= end)
    previous: Owner | None = None
    for start, stop in itertools.pairwise(kept):
        inside = [each for each in known if each[1].start < stop and each[1].end >= start]
        _, _, kind, name = max(inside, key=lambda each: each[0], default=(0, None, Kind.NOBODY, UNSAID))
        if previous is not None and (previous.kind, previous.name) == (kind, name):
            previous = Owner(previous.start, stop, kind, name)
            continue
        if previous is not None:
            yield previous
        previous = Owner(start, stop, kind, name)
    if previous is not None:
        yield previous
