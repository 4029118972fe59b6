"""Random layouts are valid ones, whatever CPU they are for."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from pytest_memtype.audit.vector import memory_types
from pytest_memtype.machine.layout import Layout, intended, validate
from pytest_memtype.strategies import layouts, mtrr_ranges
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrRange, encode_range


@given(data=st.data(), physical_bits=st.integers(32, 52), registers=st.integers(1, 10))
def test_valid(data: st.DataObject, physical_bits: int, registers: int) -> None:
    layout = data.draw(layouts(physical_bits=physical_bits, variable_registers=registers))
    validate(layout, physical_bits=physical_bits, variable_registers=registers)
    encode_range(data.draw(mtrr_ranges(physical_bits=physical_bits)), physical_bits)


@settings(max_examples=40)
@given(layouts(memory="300M"))
def test_a_guests_ram_stays_write_back(layout: Layout) -> None:
    assert layout.enabled
    without_fixed = dataclasses.replace(layout, fixed_enabled=False)
    pages = np.arange(0, 300 << 20, 1 << 12, dtype=np.uint64)
    assert (memory_types(intended(without_fixed, physical_bits=40), pages) == MemType.WB).all()


@given(mtrr_ranges(above="1G", holes=False))
def test_ranges_above(mtrr_range: MtrrRange) -> None:
    assert mtrr_range.base >= 1 << 30
    assert mtrr_range.ignored_bits == 0


@pytest.mark.parametrize(
    "wanted",
    [
        lambda layout: len(layout.ranges) == 8,
        lambda layout: not layout.enabled,
        lambda layout: not layout.fixed_enabled,
        lambda layout: layout.fixed is not None,
        lambda layout: any(each.ignored_bits for each in layout.ranges),
        lambda layout: any(each.register is not None for each in layout.ranges),
        # Two that overlap.
        lambda layout: len({(each.base, each.size) for each in layout.ranges}) < len(layout.ranges),
    ],
)
def test_variety(wanted: Callable[[Layout], bool]) -> None:
    find(
        layouts(),
        wanted,
        settings=settings(max_examples=2000, database=None, phases=[Phase.generate]),
    )


def test_without_hypothesis() -> None:
    program = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import pytest_memtype\n"
        "import pytest_memtype.strategies"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], timeout=60, check=False, capture_output=True, text=True
    )
    assert "ImportError: pytest_memtype.strategies needs hypothesis; pip install" in run.stderr
