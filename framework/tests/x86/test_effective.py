import itertools

import pytest

from pytest_memtype.x86.effective import (
    EFFECTIVE_TYPES,
    EffectiveType,
    Severity,
    Vendor,
    danger,
    danger_reason,
    effective_type,
    vendor_from_cpuid,
)
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import UNDEFINED

# MTRR, page attribute, Intel, AMD. One line for each cell, in the order Intel prints them.
# Intel SDM vol. 3, "Effective Page-Level Memory Types for Pentium III and More Recent Processor Families";
# AMD APM vol. 2, "Combined Effect of MTRRs and PAT", as collected in the project's reference page.
CELLS = """
UC  UC   UC  UC
UC  UC-  UC  UC
UC  WC   WC  WC
UC  WT   UC  UC
UC  WB   UC  UC
UC  WP   UC  UC
WC  UC   UC  CD
WC  UC-  WC  WC
WC  WC   WC  WC
WC  WT   UC  CD
WC  WB   WC  WC
WC  WP   UC  CD
WT  UC   UC  CD
WT  UC-  UC  CD
WT  WC   WC  WC
WT  WT   WT  WT
WT  WB   WT  WT
WT  WP   WP  CD
WB  UC   UC  CD
WB  UC-  UC  CD
WB  WC   WC  WC
WB  WT   WT  WT
WB  WB   WB  WB
WB  WP   WP  WP
WP  UC   UC  CD
WP  UC-  WC  CD
WP  WC   WC  WC
WP  WT   WT  CD
WP  WB   WP  WP
WP  WP   WP  WP
"""
TYPES = {"UC": 0, "WC": 1, "WT": 4, "WP": 5, "WB": 6, "UC-": 7}
ROWS = [tuple(line.split()) for line in CELLS.split("\n") if line]


@pytest.mark.parametrize(("mtrr", "page_attribute", "intel", "amd"), ROWS)
def test_cell(mtrr: str, page_attribute: str, intel: str, amd: str) -> None:
    cell = MemType(TYPES[mtrr]), MemType(TYPES[page_attribute])
    assert str(effective_type(*cell, Vendor.INTEL)) == intel
    assert str(effective_type(*cell, Vendor.AMD)) == amd


def test_every_cell_is_there() -> None:
    assert {row[:2] for row in ROWS} == set(itertools.product(TYPES.keys() - {"UC-"}, TYPES.keys()))


@pytest.mark.parametrize("vendor", Vendor)
@pytest.mark.parametrize("memtype", MemType)
def test_outside_the_tables(vendor: Vendor, memtype: MemType) -> None:
    assert effective_type(UNDEFINED, memtype, vendor) is EffectiveType.UNDEFINED
    with pytest.raises(ValueError, match="UC- isn't an MTRR memory type"):
        effective_type(MemType.UC_MINUS, memtype, vendor)


def test_vendor() -> None:
    assert vendor_from_cpuid("GenuineIntel") is Vendor.INTEL
    assert vendor_from_cpuid("AuthenticAMD") is Vendor.AMD
    assert vendor_from_cpuid("HygonGenuine") is Vendor.AMD
    with pytest.raises(ValueError, match=r"no table .* for CPU vendor 'CentaurHauls'"):
        vendor_from_cpuid("CentaurHauls")


# Graded after Intel SDM vol. 3, "Programming the PAT" ("a WC page must never be aliased to a cacheable
# page") and AMD APM vol. 2, chapter 7 (all mappings cacheable, or none); the project's reference page.
DANGERS = """
UC UC OK
UC WC INFO
UC WT ERROR
UC WP ERROR
UC WB ERROR
WC WC OK
WC WT FATAL
WC WP FATAL
WC WB FATAL
WT WT OK
WT WP WARNING
WT WB WARNING
WP WP OK
WP WB WARNING
WB WB OK
CD CD OK
CD UC OK
CD WC INFO
CD WT ERROR
CD WP ERROR
CD WB ERROR
UNDEFINED UC ERROR
UNDEFINED CD ERROR
UNDEFINED WC FATAL
UNDEFINED WT FATAL
UNDEFINED WP FATAL
UNDEFINED WB FATAL
UNDEFINED UNDEFINED FATAL
"""
BY_NAME = {each.name: each for each in EFFECTIVE_TYPES}
PAIRS = [tuple(line.split()) for line in DANGERS.split("\n") if line]


@pytest.mark.parametrize(("a", "b", "grade"), PAIRS)
def test_danger(a: str, b: str, grade: str) -> None:
    assert danger(BY_NAME[a], BY_NAME[b]) is Severity[grade]
    assert danger(BY_NAME[b], BY_NAME[a]) is Severity[grade]


def test_every_pair_is_graded() -> None:
    graded = {frozenset(pair[:2]) for pair in PAIRS}
    assert graded == {frozenset({a, b}) for a in BY_NAME for b in BY_NAME}


def test_reasons() -> None:
    assert danger_reason(EffectiveType.WB, EffectiveType.WC).startswith(
        "combined writes don't check the caches"
    )
    assert danger_reason(EffectiveType.UNDEFINED, EffectiveType.UC) == (
        f"undefined may turn out to be any type: {danger_reason(EffectiveType.WB, EffectiveType.UC)}"
    )
    for a, b in itertools.product(EFFECTIVE_TYPES, repeat=2):
        assert danger_reason(a, b) == danger_reason(b, a) != ""
        assert "\n" not in danger_reason(a, b)


def test_grades_are_ordered() -> None:
    assert Severity.OK < Severity.INFO < Severity.WARNING < Severity.ERROR < Severity.FATAL


@pytest.mark.parametrize("name", ["UC", "WC", "WT", "WP", "WB"])
def test_effective_types_that_are_memory_types(name: str) -> None:
    """One object by either name, so that a comparison says what it seems to say."""
    found: list[object] = [getattr(EffectiveType, name), EffectiveType(name), EffectiveType[name]]
    assert all(each is MemType[name] for each in found)


def test_the_class_has_all_effective_types() -> None:
    names = ["UC", "WC", "WT", "WP", "WB", "CD", "UNDEFINED", "ALIASED"]
    every: list[object] = list(EffectiveType)
    assert [getattr(each, "name", None) for each in every] == names
    assert set(every) == {*EFFECTIVE_TYPES, EffectiveType.ALIASED}
    assert list(reversed(EffectiveType)) == every[::-1]
    assert len(EffectiveType) == len(names)
    assert dict(EffectiveType.__members__) == dict(zip(names, every, strict=True))
    assert all(each in EffectiveType for each in every)
    for other in (MemType.UC_MINUS, "CD", 0):
        assert other not in EffectiveType


def test_those_of_their_own() -> None:
    assert EffectiveType("CD") is EffectiveType["CD"] is EffectiveType.CD
    for unknown in ("UC_MINUS", "name", "_value_"):
        with pytest.raises(ValueError, match="is not a valid EffectiveType"):
            EffectiveType(unknown)
        with pytest.raises(KeyError):
            EffectiveType[unknown]


def test_what_no_access_is_done_as_has_no_danger() -> None:
    for wrong in (EffectiveType.ALIASED, MemType.UC_MINUS):
        with pytest.raises(ValueError, match="isn't a type that one access is done as"):
            danger(wrong, MemType.WB)
