"""The meaning of complaints about MTRRs and the PAT."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import explain, sections
from pytest_memtype.explain.story import Story


def story(text: str) -> Story:
    return explain(read(text), []).story


# qubes-users, a dom0 of 4.19: Xen PV's PAT, as Xen has set it.
_XEN = """\
[    0.000000] Hypervisor detected: Xen PV
[    0.010541] Disabled
[    0.010543] x86/PAT: MTRRs disabled, skipping PAT initialization too.
[    0.010546] x86/PAT: Configuration [0-7]: WB  WT  UC- UC  WC  WP  UC  UC
"""


def test_the_pat_that_xen_has_set() -> None:
    found = story(_XEN)
    assert "as at reset" not in found.answer
    assert "without write-combining" not in found.answer
    assert "WB WT UC- UC WC WP UC UC, with write-combining in slot 4" in found.answer
    # Xen's MTRRs aren't a VMM's that could set them for the guest.
    assert not found.advice


def test_a_pat_that_is_left_as_at_reset() -> None:
    found = story(_XEN.replace("Xen PV", "KVM").replace("WC  WP  UC  UC", "WB  WT  UC- UC"))
    assert "it is as at reset, without write-combining" in found.answer
    assert any("0x806" in each for each in found.advice)


_MISMATCH = "mtrr: type mismatch for fd000000,400000 old: {} new: {}\n"


@pytest.mark.parametrize(
    ("old", "new", "kernel"),
    [
        # 2.4.20 and 2.6.19, mtrr_add_page(): only a new uncachable register passes.
        ("uncachable", "write-combining", ""),
        ("write-back", "write-combining", "2.6.18"),
    ],
)
def test_the_rule_of_types_before_2_6_20(old: str, new: str, kernel: str) -> None:
    banner = f"Linux version {kernel} (x@y)\n" if kernel else ""
    rule = story(banner + _MISMATCH.format(old, new)).rule
    assert "only if the new one is uncachable" in rule
    assert "one of the two" not in rule


@pytest.mark.parametrize("kernel", ["", "2.6.20", "6.1.90"])
def test_the_rule_of_types_since_2_6_20(kernel: str) -> None:
    """types_compatible(): write-through and write-back get along, too."""
    banner = f"Linux version {kernel} (x@y)\n" if kernel else ""
    rule = story(banner + _MISMATCH.format("write-back", "write-combining")).rule
    assert "only if one of the two is uncachable, or they are write-through and write-back" in rule


@pytest.mark.parametrize(
    ("existing", "words"),
    [("0xe0000000,0x4000000", "has all of 0xe0000000-0xe3ffffff"), ("0xe4000000,0x10000000", "in part")],
)
def test_a_register_around_another_overlaps_all_of_it(existing: str, words: str) -> None:
    found = story(f"[17.820000] mtrr: 0xe0000000,0x8000000 overlaps existing {existing}")
    assert words in found.answer
    assert ("in part" in found.answer) == (words == "in part")


def test_ram_that_is_lost_is_counted() -> None:
    """mtrr_trim_uncached_memory(): what isn't write-back is reserved in the map of memory."""
    found = story("WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing 13040MB of RAM.")
    assert found.answer.startswith("13040 MB of RAM can't be used")
    assert not found.danger.startswith("no:")


# A mail of Luis Rodriguez of 2016 that lists the messages of the source.
_QUOTED = """\
> I noticed five reasons in the code surrounding pat_enabled().
> The five reasons for setting pat_disabled to true are given as message strings:
>
> 1. "MTRRs disabled, skipping PAT initialization too."
> 2. "PAT support disabled because CONFIG_MTRR is disabled in the kernel."
> 3. "PAT support disabled via boot option."
> 4. "PAT not supported by the CPU."
> 5. "PAT support disabled by the firmware."
"""


def test_a_list_of_messages_is_no_boot() -> None:
    """pat_disable() (memtype.c) says one reason a boot."""
    found = explain(read(_QUOTED), [])
    assert found.about.main is None
    assert found.story.answer.startswith("line 4 names a message of the kernel's about memory types")


def test_a_reason_ends_where_its_sentence_does() -> None:
    reason = "PAT support disabled because CONFIG_MTRR is disabled in the kernel"
    (found,) = read(f'The log has "x86/PAT: {reason}." here').complaints
    assert found.raw == reason


@pytest.mark.parametrize(
    "listing",
    [
        # The beginning is missing: all registers are in use, and reg00 is in no line.
        "reg05: base=0x1bc000000 ( 7104MB), size=   64MB, count=1: uncachable\n"
        "reg06: base=0x0d0000000 ( 3328MB), size=  256MB, count=1: write-combining\n"
        "mtrr: no more MTRRs available\n",
        # The register that the line speaks of is in none.
        "reg05: base=0x1bc000000 ( 7104MB), size=   64MB, count=1: uncachable\n"
        "mtrr: type mismatch for e0000000,10000000 old: write-back new: write-combining\n",
    ],
)
def test_a_listing_without_its_beginning_claims_nothing(listing: str) -> None:
    found = explain(read(listing), [])
    words = "\n".join(line for each in sections(found) for line in each.lines)
    assert "No register covers" not in words
    assert found.machine is not None
    assert not found.machine.complete


# LKML, February 2023, on a series for 6.4.
_OFF_AND_LISTED = """\
before:
[root@vh: ~> cat /proc/mtrr
reg00: base=0x000000000 (    0MB), size= 2048MB, count=1: write-back
reg01: base=0x0ff000000 ( 4080MB), size=   16MB, count=1: write-protect

I think it wrongly determines that MTRRs are disabled by BIOS:

MTRRs disabled by BIOS
x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WP  UC- WT
"""


def test_registers_in_use_are_of_another_boot_than_the_line_that_calls_them_off() -> None:
    """mtrr_file_add() and /proc/mtrr itself need mtrr_if, which isn't set where the MTRRs are off."""
    found = story(_OFF_AND_LISTED)
    assert "line 8 calls the MTRRs off" in found.answer
    assert "/proc/mtrr has registers in use (line 3)" in found.answer
    assert "firmware has left" not in found.answer
    assert found.danger.startswith("nothing in the text")
    assert not any("0x806" in each for each in found.advice)


def test_registers_alone_dont_doubt_it() -> None:
    assert "firmware has left the MTRRs off" in story(_OFF_AND_LISTED.partition("I think")[2]).answer


@pytest.mark.parametrize("why", ["because CONFIG_X86_PAT is disabled in the kernel", "via boot option"])
def test_what_is_off_is_as_xen_has_set_it(why: str) -> None:
    """init_cache_modes() takes the types from the register, whoever has set it."""
    xen = f"x86/PAT: PAT support disabled {why}.\n" + _XEN.splitlines()[-1] + "\n"
    assert "with write-combining in slot 4" in story(xen).answer
    assert "no write-combining" not in story(xen).answer
    reset = xen.replace("WC  WP  UC  UC", "WB  WT  UC- UC")
    assert "no write-combining by page table" in story(reset).answer
    assert "no write-combining by page table" in story(xen.splitlines()[0]).answer


_EIGHT = "MTRR variable ranges enabled:\n" + "".join(
    f"  {number} base {number:x}0000000 mask 7FF0000000 write-back\n" for number in range(8)
)
_IN_PROC = "".join(
    f"reg0{number}: base=0x{number:x}0000000 ({256 * number:5}MB), size=  256MB, count=1: write-back\n"
    for number in range(8)
)
_MAP = "MTRR map: 4 entries (3 fixed + 1 variable; max {}), built from {} variable MTRRs\n"


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("MTRR default type: uncachable\n" + _EIGHT, True),
        ("MTRR default type: uncachable\n" + _EIGHT + "  8 disabled\n  9 disabled\n", False),
        (_MAP.format(19, 8) + _IN_PROC, True),
        (_MAP.format(23, 10) + _IN_PROC, False),
        # How many registers the CPU has, /proc/mtrr doesn't say.
        (_IN_PROC, False),
    ],
)
def test_no_register_is_left(text: str, full: bool) -> None:
    answer = story(text).answer
    assert ("All 8 variable MTRRs are in use" in answer) == full
    assert answer.startswith("the text shows MTRRs")
