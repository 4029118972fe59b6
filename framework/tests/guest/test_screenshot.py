"""Pictures of a guest's display."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_memtype import Guest, MemType
from pytest_memtype.errors import GuestError
from pytest_memtype.guest.screenshot import Picture, read_ppm, screenshot

# The format's definition: magic number, width and height, largest value, then rows of red, green, blue.
PPM = b"P6\n2 3\n255\n" + bytes([1, 2, 3, 10, 10, 10] + [10, 10, 10] * 4)


def test_pixels() -> None:
    picture = read_ppm(PPM)
    assert (picture.width, picture.height) == (2, 3)
    assert picture.pixels[0, 0].tolist() == [1, 2, 3]
    assert picture.colours() == {(1, 2, 3): 1, (10, 10, 10): 5}


def test_equality_is_of_the_pixels() -> None:
    picture = read_ppm(PPM)
    other = picture.pixels.copy()
    assert picture == Picture(other)
    other[2, 1, 0] += 1
    assert picture != Picture(other)
    assert picture != Picture(np.zeros((3, 3, 3), np.uint8))


@pytest.mark.parametrize(
    "content", [b"", PPM[:-1], PPM + b"\0", PPM.replace(b"P6", b"P5"), PPM.replace(b"2 3", b"two")]
)
def test_no_picture(content: bytes) -> None:
    with pytest.raises(GuestError, match=f"no picture: {len(content)} bytes"):
        read_ppm(content)


def test_what_a_process_writes_is_seen(guest: Guest) -> None:
    # SeaBIOS 1.16 sets this mode (vgasrc/bochsdisplay.c), 4 bytes a pixel, and blue is the first of them. Its
    # cursor blinks (vgasrc/swcursor.c): whether it is there depends on when Linux has taken over.
    before = guest.screenshot()
    assert (before.width, before.height) == (1280, 800)
    assert before.colours().keys() <= {(0, 0, 0), (170, 170, 170)}
    expected = before.pixels.copy()
    expected[0, 0] = (0, 0, 255)
    process = guest.process("painter")
    mapping = process.mmap(guest.mmio(pages=1), MemType.UC_MINUS).mapping
    assert mapping is not None
    process.write(mapping, page=0, value=0xFF)
    assert guest.screenshot() == Picture(expected) != before


def test_of_a_display_that_is_not_there(guest: Guest) -> None:
    with pytest.raises(GuestError, match="screendump"):
        screenshot(guest.qmp, device="second")
