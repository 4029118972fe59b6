"""Which CPUs count, and what they disagree on: registers without effect are no disagreement."""

from __future__ import annotations

from typing import Any

import pytest
from memtype_support.hand_made import FIXED_ON, MTRRS_ON, WT, audited, chain, cpu, of_kind, pages, processors

from pytest_memtype.audit.findings import FindingKind
from pytest_memtype.audit.roots import Root
from pytest_memtype.errors import UsageError
from pytest_memtype.machine.device_state import CpuRegisters
from pytest_memtype.x86.effective import Severity
from pytest_memtype.x86.pat import RESET_PAT

LINUX_PAT = 0x0407050600070106  # slots 1, 5 and 7 are others than at reset
TABLES = {**chain(1, 2, 3, 4), **pages(4, [0x20])}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (cpu(), cpu(1, variable=[(0xC0000000, 0)])),
        (cpu(default_type=MTRRS_ON | 6), cpu(1, default_type=MTRRS_ON | 6, fixed=(0,) * 11)),
        (cpu(default_type=6), cpu(1, default_type=0, variable=[(0, 1 << 11)])),
        (cpu(), cpu(1, pat=LINUX_PAT, default_type=0, running=False)),
    ],
)
def test_registers_without_effect(one: CpuRegisters, other: CpuRegisters) -> None:
    assert processors(one, other).disagreements() == []


def test_what_has_an_effect_is_told_once_with_the_address() -> None:
    # 1 GiB from 0xC0000000 on; bits 39 to 30 of the mask.
    other = cpu(1, variable=[(0xC0000000, 0xFFC0000800)], default_type=MTRRS_ON | FIXED_ON | 1 << 9 | 6)
    (found,) = processors(cpu(), other).disagreements()
    assert "0xc0000000 is WB on CPU 0 and UC on CPU 1" in found.text
    assert "IA32_MTRR_PHYSBASE0" in found.text


@pytest.mark.parametrize(("bits", "expected"), [(0, Severity.INFO), (WT, Severity.ERROR)])
def test_a_slot_of_the_pat_matters_where_an_entry_uses_it(bits: int, expected: Severity) -> None:
    """Slot 1 is chosen by PWT alone."""
    other = RESET_PAT & ~0xFF00 | 0x0100
    entries = {**TABLES, **pages(4, [0x21], bits, first_slot=9)}
    (found,) = of_kind(audited(entries, cpu(), cpu(1, pat=other)), FindingKind.CPUS_DISAGREE)
    assert found.danger is expected
    assert "slot 1 of the PAT is WT on CPU 0 and WC on CPU 1" in found.reason


def test_without_mtrrs_they_are_not_compared() -> None:
    assert processors(cpu(), cpu(1, default_type=0), has_mtrr=False).disagreements() == []


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"pat": 2}, "slot 0 holds the reserved encoding 0x02"),
        ({"default_type": MTRRS_ON | 3}, "the reserved memory type 0x03"),
        ({"variable": [(7, 1 << 11)]}, "0x200 holds the reserved memory type 0x07"),
    ],
)
def test_reserved_types_are_one_line(wrong: dict[str, Any], what: str) -> None:
    """TCG (QEMU 7.2) stores what hardware answers with #GP."""
    with pytest.raises(UsageError, match=what):
        audited(TABLES, cpu(**wrong))
    with pytest.raises(UsageError, match=what):
        audited(TABLES, cpu(), cpu(1, **wrong))


def test_cpus_that_never_started_are_left_out() -> None:
    found = processors(cpu(running=False), cpu(1, root=5), cpu(2, root=5), cpu(3, root=6))
    assert [each.cpu for each in found.running] == [1, 2, 3]
    assert found.roots == (Root(5, cpus=(1, 2)), Root(6, cpus=(3,)))
    with pytest.raises(UsageError, match="no CPU of the guest is in 64-bit mode"):
        audited(TABLES, cpu(running=False))


def test_levels_are_those_of_cr4() -> None:
    assert processors(cpu()).depth == 4
    assert processors(cpu(five_levels=True)).depth == 5
