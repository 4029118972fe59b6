"""Each function gives for an array what it gives for each element alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_memtype.audit import vector
from pytest_memtype.audit.vector import UNDEFINED_CODE, Codes
from pytest_memtype.x86 import pat
from pytest_memtype.x86.amd import AmdMemory
from pytest_memtype.x86.effective import EFFECTIVE_TYPES, Vendor, effective_type
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import UNDEFINED, MtrrState, MtrrType, memory_type_at
from pytest_memtype.x86.mtrr_runs import spans_types
from pytest_memtype.x86.pte import PageSize, leaf_address, memtype_of_entry, pat_index
from pytest_memtype.x86.smrr import Smrr

MTRR_TYPES = [memtype for memtype in MemType if memtype is not MemType.UC_MINUS]
WORDS = st.integers(0, (1 << 64) - 1)


def code(memtype: MtrrType) -> int:
    return UNDEFINED_CODE if memtype is UNDEFINED else memtype


@st.composite
def states(draw: st.DrawFn) -> MtrrState:
    types = st.sampled_from(MTRR_TYPES)
    low = st.integers(0, 0x3FFF).map(lambda page: page << 12)
    pair = st.tuples(
        st.builds(lambda base, memtype: base | memtype, low, types),
        st.builds(lambda mask, valid: 0xFFFC000000 | mask | valid << 11, low, st.booleans()),
    )
    fixed = st.lists(types, min_size=8, max_size=8).map(lambda each: int.from_bytes(bytes(each), "little"))
    smrr = st.builds(Smrr, st.builds(lambda a, b: a | b, low, types), low.map(lambda mask: 0xFC000800 | mask))
    amd = st.builds(AmdMemory, st.sampled_from([0, 0x740000, 0x700000]), low, low.map(lambda a: a << 8))
    return MtrrState(
        0x508,
        draw(st.sampled_from([0, 0x800, 0xC00])) | draw(types),
        draw(st.tuples(*[fixed] * 11)),
        draw(st.tuples(*[pair] * 8)),
        smrr=draw(st.none() | smrr),
        amd=draw(st.none() | amd),
    )


ADDRESSES = st.lists(
    st.integers(0, 1 << 21) | st.integers(0, 1 << 27) | st.integers(0, (1 << 40) - 1), min_size=1, max_size=50
)


@given(state=states(), addresses=ADDRESSES, in_smm=st.booleans())
def test_memory_type_at(state: MtrrState, addresses: list[int], in_smm: bool) -> None:
    found = vector.memory_types(state, np.array(addresses, np.uint64), in_smm=in_smm)
    assert found.dtype == np.uint8
    assert found.tolist() == [code(memory_type_at(state, each, in_smm=in_smm)) for each in addresses]


def test_more_addresses_than_one_block() -> None:
    state = MtrrState(0x508, 0xC06, (0x0505050505050505,) * 11, ((0x40000000, 0xFFC0000800), *[(0, 0)] * 7))
    addresses = np.arange(0, 1 << 32, 1 << 12, dtype=np.uint64)
    expected = np.full(1 << 20, MemType.WB, np.uint8)
    expected[:256] = MemType.WP
    expected[0x40000:0x80000] = MemType.UC
    assert (vector.memory_types(state, addresses) == expected).all()


@settings(max_examples=30)
@given(state=states(), pages=st.lists(st.integers(0, 1 << 19), max_size=20))
def test_is_mixed(state: MtrrState, pages: list[int]) -> None:
    addresses = [page << 21 for page in (*pages, 0)]
    found = vector.mixed(state, np.array(addresses, np.uint64), PageSize.SIZE_2M)
    assert found.tolist() == [spans_types(state, each, PageSize.SIZE_2M) for each in addresses]


@given(entries=st.lists(WORDS, min_size=1), page_size=st.sampled_from(PageSize))
def test_entries(entries: list[int], page_size: PageSize) -> None:
    leaves = [entry | 0x80 if page_size is not PageSize.SIZE_4K else entry for entry in entries]
    array = np.array(leaves, np.uint64)
    kinds = vector.entry_types(array, page_size=page_size, pat=pat.LINUX_PAT)
    assert kinds.tolist() == [
        memtype_of_entry(each, page_size=page_size, pat=pat.LINUX_PAT) for each in leaves
    ]
    assert vector.pat_indexes(array, page_size).tolist() == [pat_index(each, page_size) for each in leaves]
    assert vector.leaf_addresses(array, page_size).tolist() == [
        leaf_address(each, page_size) for each in leaves
    ]


@pytest.mark.parametrize("vendor", Vendor)
def test_effective_type_of_every_cell(vendor: Vendor) -> None:
    rows: list[MtrrType] = [*MTRR_TYPES, UNDEFINED]
    mtrr = np.array([[code(each)] for each in rows], np.uint8)
    page_attributes = np.array(MemType, np.uint8)
    found = vector.effective_types(mtrr, page_attributes, vendor)
    assert found.dtype == np.uint8
    assert [[EFFECTIVE_TYPES[cell] for cell in row] for row in found] == [
        [effective_type(row, column, vendor) for column in MemType] for row in rows
    ]
    # One type beside an array.
    assert (vector.effective_types(UNDEFINED, page_attributes, vendor) == found[-1]).all()
    assert (vector.effective_types(mtrr, MemType.UC, vendor) == found[:, :1]).all()


@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (1, 2, 3)])
def test_shapes(shape: tuple[int, ...]) -> None:
    state = MtrrState(0x508, 0xC06, (0,) * 11, ((0, 0),) * 8)
    words = np.zeros(shape, np.uint64)
    types = vector.memory_types(state, words)
    assert types.shape == vector.effective_types(types, types, Vendor.AMD).shape == shape
    assert vector.pat_indexes(words, PageSize.SIZE_4K).shape == shape
    assert vector.mixed(state, words, PageSize.SIZE_4K).shape == shape


def test_other_integers_and_strides() -> None:
    state = MtrrState(0x508, 0xC06, (0,) * 11, ((0x200000, 0xFFFFE00800), *[(0, 0)] * 7))
    addresses = np.arange(0, 1 << 24, 1 << 12, dtype=np.int32)[::-3]
    expected = [memory_type_at(state, int(each)) for each in addresses]
    assert vector.memory_types(state, addresses).tolist() == expected
    assert vector.memory_types(state, addresses.astype(">u4")).tolist() == expected


def bad(values: list[int], dtype: str = "u8") -> Codes:
    array: Codes = np.array(values, dtype)
    return array


def test_refusals() -> None:
    state = MtrrState(0x508, 0xC06, (0,) * 11, ((0, 0),) * 8)
    with pytest.raises(ValueError, match="0x10000000000000 isn't a physical address"):
        vector.memory_types(state, bad([0, 1 << 52]))
    with pytest.raises(ValueError, match="-0x1 isn't a physical address"):
        vector.memory_types(state, bad([0, -1], "i8"))
    with pytest.raises(TypeError, match="an array of float64, where integers are needed"):
        vector.memory_types(state, bad([0], "f8"))
    with pytest.raises(ValueError, match=r"0x0000000000001003 has PS .* isn't a 2M leaf"):
        vector.pat_indexes(bad([0x83, 0x1003]), PageSize.SIZE_2M)
    with pytest.raises(
        ValueError, match="no effective memory type for MTRR type 0x07 and page attribute 0x00"
    ):
        vector.effective_types(bad([0, 7], "u1"), MemType.UC, Vendor.AMD)
    with pytest.raises(
        ValueError, match="no effective memory type for MTRR type 0x00 and page attribute 0x03"
    ):
        vector.effective_types(MemType.UC, bad([3], "u1"), Vendor.INTEL)
    with pytest.raises(ValueError, match="0x1000 isn't the address of a 2M page"):
        vector.mixed(state, bad([0x1000]), PageSize.SIZE_2M)


def test_numpy_is_imported_for_arrays_only() -> None:
    """It takes as long to import as all the rest."""
    program = "import sys; from pytest_memtype import *; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0
