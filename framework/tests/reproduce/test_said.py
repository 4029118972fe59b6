"""Whether a kernel says what a report says: the same words for the same reason, at the same addresses."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.facts import Complaint
from pytest_memtype.dumps.read import read
from pytest_memtype.reproduce.said import same
from pytest_memtype.reproduce.setting import settings
from pytest_memtype.reproduce.wanted import wanted

OVERLAP = "mtrr: 0xd0000000,0x10000000 overlaps existing {}"


def complaint(line: str) -> Complaint:
    (found,) = read(line).complaints
    return found


@pytest.mark.parametrize(
    ("wants", "says", "alike"),
    [
        ("PAT support disabled by the firmware.", "PAT support disabled via boot option.", False),
        ("PAT support disabled via boot option.", "PAT support disabled via boot option.", True),
        # Until 2019 the line gave no reason.
        ("PAT support disabled.", "PAT support disabled via boot option.", True),
        ("MTRRs disabled by BIOS", "MTRRs disabled (not available)", False),
        ("MTRRs disabled (not available)", "MTRRs disabled (not available)", True),
        (OVERLAP.format("0xd8000000,0x10000000"), OVERLAP.format("0xc0000000,0x18000000"), False),
        (OVERLAP.format("0xd8000000,0x10000000"), OVERLAP.format("0xd8000000,0x10000000"), True),
        (
            "mtrr: size and base must be multiples of 4 kiB",
            "mtrr: base(0xd0001000) is not aligned on a size(0x2000) boundary",
            False,
        ),
        (
            "mtrr: your CPUs had inconsistent fixed MTRR settings",
            "mtrr: your CPUs had inconsistent variable MTRR settings",
            False,
        ),
        (
            "mtrr: your CPUs had inconsistent fixed MTRR settings",
            "mtrr: your CPUs had inconsistent fixed MTRR settings",
            True,
        ),
        # A guest has other RAM, which docs/from-a-report.md says.
        (
            "WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing 5MB of RAM.",
            "WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing 1024MB of RAM.",
            True,
        ),
    ],
)
def test_the_same_words(wants: str, says: str, alike: bool) -> None:
    assert same(complaint(wants), complaint(says), offset=0) is alike


def test_what_no_guest_can_say_is_not_tried() -> None:
    report = read("x86/PAT: PAT support disabled by the firmware.\n")
    assert (wanted(report).complaints, wanted(report).unknown) == ((), report.complaints)


@pytest.mark.parametrize(("why", "cpu"), [("(not available)", True), ("by BIOS", False)])
def test_mtrrs_are_off_as_in_the_report(why: str, cpu: bool) -> None:
    setting = next(settings(read(f"x86/mtrr: MTRRs disabled {why}\n"), None))
    assert not setting.has_mtrr
    assert ("-mtrr" in setting.hardware.cpu, setting.layout.enabled) == (cpu, cpu)
