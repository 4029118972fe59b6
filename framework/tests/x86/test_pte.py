import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.pat import LINUX_PAT, RESET_PAT
from pytest_memtype.x86.pte import (
    PAT_LARGE,
    PRESENT,
    PROT_NONE,
    PS,
    PageSize,
    is_hidden,
    leaf_address,
    linux_address,
    memtype_of_entry,
    pat_index,
    table_pat_index,
)

# Intel SDM vol. 3, "Format of a Page-Table Entry that Maps a 4-KByte Page" and its 2-MByte and 1-GByte
# fellows: PWT is bit 3, PCD bit 4, PAT bit 7 of a PTE and bit 12 of the large ones, whose bit 7 is PS = 1.
# Index: "Selecting a Memory Type from the PAT".
SMALL = [(0x00, 0), (0x08, 1), (0x10, 2), (0x18, 3), (0x80, 4), (0x88, 5), (0x90, 6), (0x98, 7)]
LARGE = [
    (0x0080, 0),
    (0x0088, 1),
    (0x0090, 2),
    (0x0098, 3),
    (0x1080, 4),
    (0x1088, 5),
    (0x1090, 6),
    (0x1098, 7),
]
CASES = [
    *((PageSize.SIZE_4K, bits, index) for bits, index in SMALL),
    *((PageSize.SIZE_2M, bits, index) for bits, index in LARGE),
    *((PageSize.SIZE_1G, bits, index) for bits, index in LARGE),
]
TYPE_BITS = {
    PageSize.SIZE_4K: 0x0098,
    PageSize.SIZE_2M: 0x1098,
    PageSize.SIZE_1G: 0x1098,
}
# pat_bp_init(), arch/x86/mm/pat/memtype.c, Linux 6.1.
LINUX_SLOTS = ["WB", "WC", "UC_MINUS", "UC", "WB", "WP", "UC_MINUS", "WT"]
RESET_SLOTS = ["WB", "WT", "UC_MINUS", "UC", "WB", "WT", "UC_MINUS", "UC"]


@pytest.mark.parametrize(("page_size", "bits", "index"), CASES)
@given(others=st.integers(min_value=0, max_value=(1 << 64) - 1))
def test_only_the_type_bits_count(page_size: PageSize, bits: int, index: int, others: int) -> None:
    entry = others & ~TYPE_BITS[page_size] | bits
    assert pat_index(entry, page_size) == index
    assert memtype_of_entry(entry, page_size=page_size, pat=LINUX_PAT) is MemType[LINUX_SLOTS[index]]
    assert memtype_of_entry(entry, page_size=page_size, pat=RESET_PAT) is MemType[RESET_SLOTS[index]]


@pytest.mark.parametrize(("page_size", "shift", "text"), [(12, 12, "4K"), (21, 21, "2M"), (30, 30, "1G")])
def test_page_sizes(page_size: int, shift: int, text: str) -> None:
    size = PageSize(1 << page_size)
    assert size.shift == shift
    assert str(size) == text


@pytest.mark.parametrize("page_size", [PageSize.SIZE_2M, PageSize.SIZE_1G])
def test_large_leaf_needs_ps(page_size: PageSize) -> None:
    with pytest.raises(ValueError, match=rf"PS \(bit 7\) clear, so it isn't a {page_size} leaf"):
        pat_index(0x1003, page_size)


@pytest.mark.parametrize("entry", [-1, 1 << 64])
def test_only_64_bits(entry: int) -> None:
    with pytest.raises(ValueError, match="isn't a 64-bit page-table entry"):
        pat_index(entry, PageSize.SIZE_4K)


def test_entries_above_the_leaf_have_no_pat_bit() -> None:
    # Intel SDM vol. 3, "Memory Typing": PWT and PCD alone choose slot 0 to 3 of accesses to the next table.
    for others in (0, 0xFFFF_FFFF_FFFF_FFE7):
        assert [table_pat_index(others | bits) for bits in (0, 8, 16, 24)] == [0, 1, 2, 3]


def test_leaf_address() -> None:
    # Intel SDM vol. 3, figures of the entries: the base is bits 51:12, 51:21 and 51:30; bit 12 of a large one
    # is PAT, 63 is XD.
    every_bit = (1 << 64) - 1
    assert leaf_address(every_bit, PageSize.SIZE_4K) == 0x000F_FFFF_FFFF_F000
    assert leaf_address(every_bit, PageSize.SIZE_2M) == 0x000F_FFFF_FFE0_0000
    assert leaf_address(every_bit, PageSize.SIZE_1G) == 0x000F_FFFF_C000_0000


def test_the_address_of_a_page_with_prot_none() -> None:
    """Linux inverts it; bit 12 of a large leaf is PAT, and stays."""
    hidden = PROT_NONE | ~0xFD00_3000 & 0x000F_FFFF_FFFF_F000
    assert [is_hidden(each) for each in (hidden, hidden | PRESENT, 0)] == [True, False, False]
    assert linux_address(hidden, PageSize.SIZE_4K) == 0xFD00_3000
    assert linux_address(PRESENT | PROT_NONE | 0xFD00_3000, PageSize.SIZE_4K) == 0xFD00_3000
    large = PROT_NONE | PAT_LARGE | PS | ~0xFD20_0000 & 0x000F_FFFF_FFE0_0000
    assert linux_address(large, PageSize.SIZE_2M) == 0xFD20_0000
