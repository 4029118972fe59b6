"""The line that names who asked for memory of several resources stands below each such check."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.facts import Kind
from pytest_memtype.dumps.read import read

# kernel/resource.c, iomem_map_sanity_check(), and arch/x86/mm/ioremap.c, __ioremap_caller().
ASKED = "resource sanity check: requesting"
ROM = f"{ASKED} [mem 0x000c0000-0x000fffff], which spans more than PCI Bus 0000:00 [mem 0xd0000-0xdffff]"
HPET = f"{ASKED} [mem 0xfed10000-0xfed15fff], which spans more than pnp 00:07 [mem 0xfed10000-0xfed13fff]"
NVIDIA = "caller _nv000906rm+0x1bf/0x1f0 [nvidia] mapping multiple BARs"
ROUTER = "caller router_probe+0x1b/0x60 mapping multiple BARs"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((ROM, NVIDIA), ["_nv000906rm"]),
        # What repeats is one message, and the last has no line below it here.
        ((ROM, NVIDIA, ROM), ["_nv000906rm"]),
        ((ROM, NVIDIA, ROM, NVIDIA), ["_nv000906rm"]),
        ((ROM, NVIDIA, ROM, ROUTER), [None]),
        # The line of the second is none of the first's.
        ((ROM, HPET, ROUTER), [None, "router_probe"]),
        ((ROM, NVIDIA, HPET, ROUTER), ["_nv000906rm", "router_probe"]),
    ],
)
def test_whose_it_is(lines: tuple[str, ...], expected: list[str | None]) -> None:
    text = "\n".join(f"[   12.{number:06}] {line}" for number, line in enumerate(lines))
    assert [each.caller for each in read(text).of(Kind.SANITY)] == expected


def test_the_range_of_a_driver_of_freebsd() -> None:
    """Its linuxkpi has blanks around the dash."""
    text = "Failed to add WC MTRR for [0xc0000000 - 0xcfffffff]: -22; performance may suffer\n"
    (found,) = read(text).of(Kind.MTRR_WC_FAILED)
    assert found.span is not None
    assert (found.span.start, found.span.end, found.errno) == (0xC0000000, 0xCFFFFFFF, 22)


@pytest.mark.parametrize(
    "line",
    [
        "[1218757.588146] gdrdrv:track_pfn_remap failed :-22",
        "KiInitializeMTRR: MTRR_MSR_DEFAULT is not consistent between processors.",
    ],
)
def test_lines_that_nobody_understands_are_listed(line: str) -> None:
    assert [each.text for each in read(f"{line}\n").unread] == [line]
