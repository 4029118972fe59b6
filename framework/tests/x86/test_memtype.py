import pytest

from pytest_memtype.x86.memtype import MemType, parse_memtype

# Encodings: Intel SDM vol. 3, "Memory Types That Can Be Encoded With PAT".
# Kernel names: cattr_name(), arch/x86/mm/pat/memtype.c, Linux 6.1.
MEMORY_TYPES = [
    ("UC", 0x00, "UC", "uncached"),
    ("WC", 0x01, "WC", "write-combining"),
    ("WT", 0x04, "WT", "write-through"),
    ("WP", 0x05, "WP", "write-protected"),
    ("WB", 0x06, "WB", "write-back"),
    ("UC_MINUS", 0x07, "UC-", "uncached-minus"),
]


@pytest.mark.parametrize(("name", "encoding", "short", "kernel_name"), MEMORY_TYPES)
def test_encoding_and_names(name: str, encoding: int, short: str, kernel_name: str) -> None:
    memtype = MemType[name]
    assert memtype.value == encoding
    assert memtype.short == short
    assert str(memtype) == f"{memtype}" == short
    assert memtype.kernel_name == kernel_name
    for text in (name, short, kernel_name, name.lower(), f" {kernel_name.upper()} "):
        assert parse_memtype(text) is memtype


def test_there_are_no_others() -> None:
    assert {memtype.value for memtype in MemType} == {row[1] for row in MEMORY_TYPES}


@pytest.mark.parametrize("text", ["", "UC--", "writeback", "6", "uncacheable-minus"])
def test_unknown_name_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown memory type .*uncached-minus") as refusal:
        parse_memtype(text)
    assert "\n" not in str(refusal.value)


# mtrr_attrib_to_str() of Linux 6.1, and the spelling of Intel's manual.
@pytest.mark.parametrize(
    ("text", "encoding"), [("uncachable", 0), ("Uncacheable", 0), ("write-protect", 5), ("write-back", 6)]
)
def test_words_of_proc_mtrr(text: str, encoding: int) -> None:
    assert parse_memtype(text) == encoding
