"""Findings that are as Linux intends them: a small table, each with the reason.

They stay in the list of findings, marked, so that a reader can disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from pytest_memtype.audit.findings import Finding, FindingKind
from pytest_memtype.audit.regions import FIXMAP
from pytest_memtype.x86.effective import Severity
from pytest_memtype.x86.mtrr import FIXED_END


@dataclass(frozen=True)
class Benign:
    """A row of the table: which findings are benign, and why.

    :param applies: Called with a finding of that kind; true if the finding is benign.
    :param reason: Why it is benign, as half a sentence.
    """

    kind: FindingKind
    applies: Callable[[Finding], bool]
    reason: str


def _low(finding: Finding) -> bool:
    return finding.end <= FIXED_END


def _only_in(*names: str) -> Callable[[Finding], bool]:
    def check(finding: Finding) -> bool:
        known = all(each.region in names for each in finding.mappings)
        return bool(finding.mappings) and finding.complete and known

    return check


TABLE: Final = (
    # Linux, arch/x86/mm/pat/memtype.c, memtype_reserve(): below 1 MiB whatever is asked for is mapped
    # write-back.
    Benign(
        FindingKind.TRACKED_OTHERWISE,
        _low,
        "Linux keeps no types of the first MiB, and maps it write-back whatever is asked for",
    ),
    Benign(
        FindingKind.TRACKED_OTHERWISE,
        lambda finding: finding.danger is Severity.OK,
        "the MTRRs make the same of both",
    ),
    # Linux, arch/x86/mm/pat/memtype.c, is_ISA_range(): no types are kept below 1 MiB (5.10 to 7.3).
    Benign(
        FindingKind.UNTRACKED,
        _low,
        "Linux keeps no types of the first MiB, and its direct map has all of it",
    ),
    Benign(
        FindingKind.CONFLICT,
        lambda finding: _low(finding) and finding.danger <= Severity.INFO,
        "Linux keeps no types of the first MiB: its direct map is uncached there by the MTRRs, and a driver "
        "of the VGA window may combine writes",
    ),
    # arch/x86/include/asm/fixmap.h: local APIC and IOAPIC are entries of the fixmap, set_fixmap_nocache().
    Benign(
        FindingKind.UNTRACKED,
        _only_in(FIXMAP),
        "the kernel writes entries of its fixmap itself, and reserves nothing",
    ),
    Benign(
        FindingKind.SMRAM,
        lambda finding: finding.danger is Severity.OK,
        "it is mapped with the type that system-management mode uses",
    ),
)


def mark_benign(finding: Finding) -> Finding:
    """A finding, marked as benign if a row of the table applies to it."""
    for row in TABLE:
        if row.kind is finding.kind and row.applies(finding):
            return replace(finding, benign=row.reason)
    return finding
