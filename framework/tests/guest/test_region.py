from __future__ import annotations

import pytest

from pytest_memtype.guest.region import Region, together

REGION = Region(0xFD000000, 4)


def test_slices_count_pages() -> None:
    assert REGION[1:3] == Region(0xFD001000, 2)
    assert REGION[3] == REGION[-1] == Region(0xFD003000, 1)
    assert REGION[:] == REGION
    assert REGION[2:].end == REGION.end
    assert REGION[3:1].pages == 0


def test_a_page_outside_is_an_error() -> None:
    with pytest.raises(IndexError):
        REGION[4]


def test_there_are_no_pages_in_between() -> None:
    with pytest.raises(ValueError, match="step"):
        REGION[::2]


@pytest.mark.parametrize(("start", "pages"), [(1, 1), (-4096, 1), (0, -1)])
def test_nonsense_is_refused(start: int, pages: int) -> None:
    with pytest.raises(ValueError, match="region"):
        Region(start, pages)


def test_touching_is_not_overlapping() -> None:
    assert not REGION[0:2].overlaps(REGION[2:4])
    assert REGION[0:2].overlaps(REGION[1:4])
    assert not Region(0xFD001000, 0).overlaps(REGION[0])


def test_is_printed_as_linux_prints_memory() -> None:
    assert str(REGION) == "[mem 0xfd000000-0xfd003fff]"


def test_pieces_are_a_region() -> None:
    low, high = Region(0x1000, 2), Region(0x9000, 3)
    both = together([high, low])
    assert (both.start, both.pages, both.size) == (0x9000, 5, 0x5000)
    assert list(both.addresses()) == [0x9000, 0xA000, 0xB000, 0x1000, 0x2000]
    assert both[3] == Region(0x1000, 1)
    assert both[1:3] == Region(0xA000, 2)
    assert both[2:4].parts() == (Region(0xB000, 1), Region(0x1000, 1))
    assert both[5:].pages == 0
    assert both.overlaps(Region(0x2000, 1))
    assert Region(0x2000, 1).overlaps(both)
    assert not both.overlaps(Region(0x3000, 6))
    assert together([low]) == low
    assert low.parts() == (low,)
    with pytest.raises(IndexError):
        _ = both[5]
    with pytest.raises(ValueError, match="no pages in between"):
        _ = both[::2]
