import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memtype.x86.size import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("007", 7),
        ("4K", 4 * 1024),
        ("256M", 256 * 1024**2),
        ("16m", 16 * 1024**2),
        ("1G", 1024**3),
        ("2T", 2 * 1024**4),
        ("0xFD000000", 4244635648),
        ("0X10", 16),
        (" 0x1M ", 1024**2),
        ("2048MB", 2 * 1024**3),
        ("64KiB", 64 * 1024),
        ("0x10B", 0x10B),
    ],
)
def test_text(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "M", "-4K", "4B", "12B", "4Ki", "1.5M", "0x", "FD000000", "4 K", "1e3", "\u0664K"]
)
def test_other_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="isn't a number of bytes; write it like") as refusal:
        parse_size(text)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (1, "1"), (4096, "4K"), (6144, "6K"), (6145, "6145"), (1 << 24, "16M")]
)
def test_format(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(min_value=0, max_value=1 << 64))
def test_round_trip(size: int) -> None:
    assert parse_size(format_size(size)) == parse_size(hex(size)) == parse_size(size) == size
