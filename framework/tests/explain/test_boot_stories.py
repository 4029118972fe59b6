"""The meaning of what Linux says of MTRRs and the PAT at boot."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import explain
from pytest_memtype.explain.linux_source import age
from pytest_memtype.explain.story import Story


def story(text: str) -> Story:
    return explain(read(text), []).story


# VirtualBox, with kernels of 4.2 to 4.5; pat_init() prints the table, in get_mtrr_state().
_OFF = """\
[    0.000000] MTRR default type: uncachable
[    0.000000] MTRR variable ranges disabled:
[    0.000000] x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WC  UC- WT
[    0.000000] MTRR: Disabled
"""
_SKIPPED = "[    0.000000] x86/PAT: MTRRs disabled, skipping PAT initialization too.\n"
_BANNER = "[    0.000000] Linux version {} (root@x) (gcc version 5.4.0) #1 SMP\n"


@pytest.mark.parametrize("text", [_OFF, _BANNER.format("4.5.2") + _OFF])
def test_linux_own_pat_is_used_without_mtrrs(text: str) -> None:
    found = story(text)
    assert "the PAT is used all the same" in found.answer
    assert "isn't set up" not in found.answer
    assert "nobody checks" not in found.danger


def test_a_pat_that_is_skipped_is_not_used() -> None:
    """Ubuntu's 4.4 has the line of 4.7, so the version alone says nothing."""
    for text in (_OFF + _SKIPPED, _BANNER.format("4.4.0-21-generic") + _OFF + _SKIPPED):
        found = story(text)
        assert "the PAT isn't set up either" in found.answer
        assert "nobody checks" in found.danger


def test_a_kernel_that_skips_it_does_so_without_the_line() -> None:
    assert "isn't set up" in story(_BANNER.format("5.10.3") + _OFF).answer


def test_without_a_table_nothing_is_said_for_sure() -> None:
    found = story("[    0.000000] MTRR: Disabled\n")
    assert "some kernels before 6.2" in found.answer


def test_mtrrs_that_the_firmware_left_off() -> None:
    """mtrr_bp_init() of 6.2 and later: why = "by BIOS", and the PAT has nothing to do with it."""
    text = (
        "[    0.000129] MTRRs disabled by BIOS\n"
        "[    0.000134] x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WP  UC- WT\n"
    )
    dump = read(text)
    assert not dump.unread
    assert age(dump).since == (6, 2, 0)
    found = story(text)
    assert found.answer.startswith("the firmware has left the MTRRs off; the PAT is used all the same")
    assert "uncached (UC-)" in found.answer
    assert any("0x806" in each for each in found.advice)


def test_a_cpu_without_mtrrs_is_told_nothing_of_registers() -> None:
    text = (
        "MTRRs disabled (not available)\n"
        "x86/PAT: PAT not supported by the CPU.\n"
        "x86/PAT: Configuration [0-7]: WB  WT  UC- UC  WB  WT  UC- UC\n"
    )
    found = story(text)
    assert "the CPU has no MTRRs" in found.answer
    assert not found.advice
    assert any("0x806" in each for each in story(f"Hypervisor detected: KVM\n{text.splitlines()[0]}").advice)


_CLEANED = """\
[    0.000000] original variable MTRRs
[    0.000000] reg 0, base: 0GB, range: 2GB, type WB
[    0.000000] reg 1, base: 2GB, range: 1GB, type WB
[    0.000000] reg 2, base: 3022MB, range: 2MB, type UC
[    0.000000] total RAM covered: 3022M
[    0.000000] Found optimal setting for mtrr clean up
[    0.000000]  gran_size: 64K \tchunk_size: 64M \tnum_reg: {} \tlose cover RAM: {}
[    0.000000] New variable MTRRs
"""


@pytest.mark.parametrize(
    ("number", "words"), [(3, "3 are in use, as many as before"), (2, "2 are in use now, and were 3 before")]
)
def test_registers_before_and_after_cleanup_are_counted(number: int, words: str) -> None:
    found = story(_CLEANED.format(number, "0G"))
    assert words in found.answer
    assert "no RAM is left uncovered" in found.answer
    assert found.danger.startswith("no:")


def test_ram_that_cleanup_loses() -> None:
    found = story(_CLEANED.format(3, "512M"))
    assert "512 MiB of RAM" in found.answer
    assert not found.danger.startswith("no:")


def test_a_result_without_the_registers_before() -> None:
    lines = _CLEANED.format(4, "0G").splitlines()
    found = story("\n".join(lines[5:7]))
    assert "4 are in use now" in found.answer
    assert "before" not in found.answer
    assert "anew" in story(lines[5]).answer
    assert "in use" not in story(lines[5]).answer


def test_registers_before_are_counted_in_the_log_of_the_registers() -> None:
    """Without mtrr_cleanup_debug the log of MTRRs, which 5.3 prints anyway, has them."""
    text = """\
[    0.000826] MTRR default type: uncachable
[    0.000828] MTRR variable ranges enabled:
[    0.000829]   0 base 000000000000 mask FFFF80000000 write-back
[    0.000830]   1 base 000080000000 mask FFFFC0000000 write-back
[    0.000830]   2 base 0000C0000000 mask FFFFE0000000 write-back
[    0.000831]   3 base 0000DCE80000 mask FFFFFFFF0000 uncachable
[    0.000831]   4 disabled
[    0.001925] Found optimal setting for mtrr clean up
[    0.001926]  gran_size: 64K \tchunk_size: 64M \tnum_reg: 4  \tlose cover RAM: 0G
"""
    assert "4 are in use, as many as before" in story(text).answer


_BLANK = "[    0.000000] WARNING: strange, CPU MTRRs all blank?\n"
_TRIM = (
    "[    0.000000] WARNING: at {}arch/x86/kernel/cpu/mtrr/main.c:1500 "
    "mtrr_trim_uncached_memory+0x153/0x386()\n"
)


def test_blank_registers_are_left_blank() -> None:
    """mtrr_trim_uncached_memory() warns and returns, with an uncachable default type alone."""
    found = story(_BLANK)
    assert "default type is uncachable" in found.answer
    assert "changes nothing" in found.answer
    assert "cleanup.c" in found.rule
    assert "generic.c" not in found.rule


def test_the_file_of_a_warning_beside_is_the_place() -> None:
    for text in (_TRIM.format("") + _BLANK, _BANNER.format("2.6.27") + _BLANK):
        assert story(text).rule == "arch/x86/kernel/cpu/mtrr/main.c, mtrr_trim_uncached_memory()"
    # The separate file is of 2009.
    new = story(_BANNER.format("2.6.32") + _BLANK)
    assert new.rule == "arch/x86/kernel/cpu/mtrr/cleanup.c, mtrr_trim_uncached_memory()"


def test_a_mask_is_mended_in_what_linux_reads() -> None:
    """generic_get_mtrr() writes no register."""
    found = story("[    0.000000] mtrr: your BIOS has set up an incorrect mask, fixing it up.")
    assert "the register stays as it is" in found.answer
    assert "generic_get_mtrr()" in found.rule
    assert "cleanup.c" not in found.rule


def test_the_file_of_old_kernels() -> None:
    """2.4.0 has mtrr_state_warn() in arch/i386/kernel/mtrr.c."""
    line = "mtrr: your CPUs had inconsistent variable MTRR settings\n"
    assert story(f"Linux version 2.2.18 (x@y)\n{line}").rule.startswith(
        "arch/i386/kernel/mtrr.c, mtrr_state_warn()"
    )
    assert story(f"Linux version 6.1.90 (x@y)\n{line}").rule.startswith(
        "arch/x86/kernel/cpu/mtrr/generic.c, mtrr_state_warn()"
    )
    failed = "mtrr_cleanup: can not find optimal value\n"
    assert "mtrr/main.c" in story(f"Linux version 2.6.28 (x@y)\n{failed}").rule


def test_memory_that_registers_make_uncachable_is_named() -> None:
    text = (
        "[    0.000000] WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing 1278MB of RAM.\n"
        "reg00: base=0x00000000 (   0MB), size=2048MB: write-back, count=1\n"
        "reg01: base=0x80000000 (2048MB), size=1024MB: uncachable, count=1\n"
        "reg02: base=0xc0000000 (3072MB), size= 256MB: uncachable, count=1\n"
        "reg03: base=0xcff00000 (3327MB), size=   1MB: uncachable, count=1\n"
    )
    assert "make 0x80000000-0xcfffffff (1280M) uncachable" in story(text).answer
