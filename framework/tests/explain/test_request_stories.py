"""The meaning of requests to the MTRRs that failed: each line has its own rule."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.facts import Kind
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import Explanation, as_json, explain, sections

_MISMATCH = "mtrr: type mismatch for {} old: write-back new: write-combining\n"


def explained(text: str) -> Explanation:
    return explain(read(text), [])


def words(text: str) -> str:
    return "\n".join(line for each in sections(explained(text)) for line in each.lines)


@pytest.mark.parametrize("prefix", ["mtrr: ", ""])
def test_a_removal_is_no_request(prefix: str) -> None:
    """mtrr_del_page() as of 6.12, where mtrr.c has no prefix, and of 2.4.0."""
    found = explained(f"[  147.033553] {prefix}no MTRR for e0000000,10000000 found")
    assert as_json(found)["range"] == ["0xe0000000", "0xefffffff"]
    assert "given back" in found.story.answer
    assert "mtrr_del_page()" in found.story.rule
    assert "power of two" not in found.story.rule


def test_a_removal_without_a_range() -> None:
    found = explained("mtrr: MTRR 2 not used")
    assert "given back" in found.story.answer
    assert "mtrr_del_page()" in found.story.rule


def test_a_refusal_counts_more_than_the_removal_that_follows() -> None:
    text = (
        "[    2.1] mtrr: no MTRR for f5000000,e00000 found\n"
        "[   39.0] mtrr: base(0xf5000000) is not aligned on a size(0xe00000) boundary\n"
    )
    found = explained(text)
    assert found.about.main is not None
    assert found.about.main.kind is Kind.MTRR_UNALIGNED
    assert "no MTRR for f5000000,e00000 found" in words(text)


@pytest.mark.parametrize(
    ("kernel", "place"),
    [
        ("6.12.1", "arch/x86/kernel/cpu/mtrr/generic.c, generic_validate_add_page()"),
        ("2.6.20", "arch/i386/kernel/cpu/mtrr/generic.c, generic_validate_add_page()"),
        # 2.4.0 has one file, and the check in mtrr_add_page() itself.
        ("2.4.20", "arch/i386/kernel/mtrr.c, mtrr_add_page()"),
    ],
)
def test_the_check_of_alignment_by_version(kernel: str, place: str) -> None:
    line = "mtrr: base(0xf5000000) is not aligned on a size(0xe00000) boundary"
    found = explained(f"Linux version {kernel} (x@y)\n{line}").story
    assert found.rule == place
    assert "power of two" in found.answer


def test_whole_pages_have_a_range_in_the_line_below() -> None:
    """mtrr_check() (mtrr_add() in 2.4.0) prints two lines."""
    text = "mtrr: size and base must be multiples of 4 kiB\nmtrr: size: 0x800  base: 0xe0000000\n"
    found = explained(text)
    assert as_json(found)["range"] == ["0xe0000000", "0xe00007ff"]
    assert "whole pages" in found.story.rule
    assert "mtrr_add()" in found.story.rule
    assert not as_json(found)["unread"]


def test_a_cpu_without_the_type() -> None:
    """mtrr_add_page() asks have_wrcomb(): generic_have_wrcomb() looks at bit 10 of MTRRcap."""
    found = explained("[    7.211034] mtrr: your processor doesn't support write-combining").story
    assert "have_wrcomb()" in found.rule
    assert "power of two" not in found.rule
    assert "CPU" in found.answer


@pytest.mark.parametrize(
    "line",
    [
        "mtrr: Serverworks LE detected. Write-combining disabled.",
        "mtrr: Serverworks LE rev < 6 detected. Write-combining disabled.",
        "Intel 450NX MMC detected. Write-combining disabled.",
    ],
)
def test_a_chipset_that_linux_does_not_trust(line: str) -> None:
    found = explained(f"[ 1.0] {line}\n[ 1.0] mtrr: your processor doesn't support write-combining\n")
    assert "chipset" in found.story.answer
    assert "has no such type" not in found.story.answer
    assert not found.dump.unread


@pytest.mark.parametrize(
    "line",
    [
        "mtrr: base(0xe0001000) is not 4 MiB aligned",
        "mtrr: writable mtrr between 0x70000000 and 0x7003FFFF may hang the CPU.",
        "mtrr: cannot set region below 1 MiB (0x0a0000,0x020000)",
        "base or size exceeds the MTRR width",
    ],
)
def test_other_refusals_are_understood(line: str) -> None:
    found = explained(f"[    1.000000] {line}")
    assert not found.dump.unread
    assert "refused" in found.story.answer


def test_the_x_server_says_so_too() -> None:
    """mtrr_add_wc_region() of X.org's lnx_video.c: base and size."""
    found = explained("(WW) fglrx(0): Failed to set up write-combining range (0xec000000,0x1fc0000)")
    assert as_json(found)["range"] == ["0xec000000", "0xedfbffff"]
    assert as_json(found)["asked"] == "WC"
    assert "the X server" in found.story.answer
    assert "doesn't say why" in found.story.answer


# A mail of 2006: 983552 MiB are 0xf020000000, the complement of a mask of 36 bits in a CPU of 40.
_ODD = "reg00: base=0x00000000 (   0MB), size=983552MB: write-back, count=1\n"


def test_a_register_whose_mask_lacks_bits() -> None:
    text = _ODD + _MISMATCH.format("e8000000,8000000")
    found = explained(text)
    assert "0x0-0xf01fffffff" in found.story.answer
    assert "covers 0x0-0x1fffffff (512M)" in found.story.answer
    assert "not this memory" in found.story.answer
    assert any("register 0" in each for each in found.story.advice)
    assert not any("enable_mtrr_cleanup" in each for each in found.story.advice)


def test_a_register_that_covers_it_has_no_remark() -> None:
    plain = "reg00: base=0x00000000 (   0MB), size=4096MB: write-back, count=1\n"
    for text in (
        plain + _MISMATCH.format("e8000000,8000000"),
        # By its mask, too, it has the first 512 MiB.
        _ODD + _MISMATCH.format("8000000,8000000"),
    ):
        found = explained(text)
        assert "That register is 0" in found.story.answer
        assert "lacks" not in found.story.answer


def test_another_layout_is_advised_where_it_may_help() -> None:
    """mtrr_cleanup() came with 2.6.27 (95ffa2438d0e)."""
    line = _MISMATCH.format("c0000000,8000000")
    advice = explained(line).story.advice
    assert any("enable_mtrr_cleanup" in each for each in advice)
    failed = explained(f"mtrr_cleanup: can not find optimal value\n{line}").story.advice
    assert not any("enable_mtrr_cleanup" in each for each in failed)
    assert any("mtrr_gran_size=" in each and "line 1" in each for each in failed)
    for text in (f"Linux version 2.6.20 (x@y)\n{line}", f"Found optimal setting for mtrr clean up\n{line}"):
        assert not any("cleanup" in each for each in explained(text).story.advice)
    full = explained("Linux version 2.6.20 (x@y)\nmtrr: no more MTRRs available").story.advice
    assert not any("cleanup" in each for each in full)


@pytest.mark.parametrize(
    ("kernel", "place"),
    [
        ("2.6.18", "arch/i386/kernel/cpu/mtrr/generic.c, generic_validate_add_page()"),
        ("2.4.20", "arch/i386/kernel/mtrr.c, mtrr_add_page()"),
    ],
)
@pytest.mark.parametrize(
    "line",
    [
        "base(0xe0001000) is not 4 MiB aligned",
        "writable mtrr between 0x70000000 and 0x7003FFFF may hang the CPU.",
        "cannot set region below 1 MiB (0x0a0000,0x020000)",
    ],
)
def test_the_place_of_checks_that_intel_s_mtrrs_need(line: str, kernel: str, place: str) -> None:
    assert explained(f"Linux version {kernel} (x@y)\nmtrr: {line}").story.rule == place


_WB = "reg00: base=0x000000000 (    0MB), size= 4096MB, count=1: write-back\n"
_UC = "reg01: base=0x0e0000000 ( 3584MB), size=  512MB, count=1: uncachable\n"
_WC = "reg02: base=0x0d0000000 ( 3328MB), size=  256MB, count=1: write-combining\n"
_WP = _WC.replace("write-combining", "write-protect")
_BOOT = """\
[    0.000000] MTRR default type: {}
[    0.000000] MTRR variable ranges enabled:
[    0.000000]   0 base 000000000 mask F00000000 write-back
[    0.000000]   1 base 0E0000000 mask FE0000000 uncachable
[    0.000000]   2 base 0D0000000 mask FF0000000 {}
"""


@pytest.mark.parametrize(
    ("listing", "helps"),
    [
        (_WB + _UC, True),
        (_WB, False),
        (_WB + _WC.replace("reg02", "reg01"), False),
        # /proc/mtrr has what a driver has added since the boot.
        (_WB + _UC + _WC, True),
        (_WB + _UC + _WP, False),
        (_BOOT.format("uncachable", "uncachable"), True),
        (_BOOT.format("write-back", "uncachable"), False),
        (_BOOT.format("uncachable", "write-combining"), False),
        # Of a listing that is cut nothing is known.
        (_WB + _UC.replace("uncachable", "unca"), True),
    ],
)
@pytest.mark.parametrize("line", [_MISMATCH.format("c0000000,8000000"), "mtrr: no more MTRRs available\n"])
def test_another_layout_is_advised_where_mtrr_cleanup_would_try(line: str, listing: str, helps: bool) -> None:
    """mtrr_need_cleanup() wants a register that is uncachable, and none but it and write-back."""
    advice = explained(listing + line).story.advice
    assert any("enable_mtrr_cleanup" in each for each in advice) == helps


def test_the_register_that_decides_need_not_be_the_first() -> None:
    """types_compatible() has mtrr_add_page() go on to the next register (since 2.6.20)."""
    found = explained(
        _UC.replace("reg01", "reg00") + _WB.replace("reg00", "reg01") + _MISMATCH.format("e8000000,8000000")
    )
    assert "That register is 1" in found.story.answer
    assert "the first that doesn't go with it so decides" in found.story.rule


# A Japanese wiki on Gentoo and uvesafb.
_CLEANED_BY_HAND = (
    "[    0.000000] Command line: BOOT_IMAGE=gentoo ro root=803 video=uvesafb:1680x1050-32,mtrr:2,ywrap "
    "{}mtrr_spare_reg_nr=1 mtrr_gran_size=32M mtrr_chunk_size=128M\n"
)


@pytest.mark.parametrize("line", [_MISMATCH.format("c0000000,8000000"), "mtrr: no more MTRRs available\n"])
def test_an_option_that_is_there_is_not_advised(line: str) -> None:
    given = explained(_CLEANED_BY_HAND.format("enable_mtrr_cleanup ") + line).story.advice
    assert not any("enable_mtrr_cleanup" in each for each in given)
    assert any(
        "enable_mtrr_cleanup" in each for each in explained(_CLEANED_BY_HAND.format("") + line).story.advice
    )


def test_the_x_server_is_who_asked() -> None:
    text = "(WW) RADEON(0): Failed to set up write-combining range (0xe8000000,0x8000000)\n"
    assert "Asked for: write-combining (WC), by the X server." in words(text)
    assert "by the X server" not in words("[drm] failed to add WC MTRR for [e8000000-efffffff]\n")
