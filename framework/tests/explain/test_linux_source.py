"""Places in Linux' source, by the version that a text names, or else by the form of its messages."""

from __future__ import annotations

import pytest

from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import explain
from pytest_memtype.explain.linux_source import Age, age, is_newer

_CONFLICT = "Xorg:2342 conflicting memory types d0000000-e0000000 uncached-minus<->write-combining\n"
_TYPES = "track uncached-minus, req uncached-minus"
#: arch/x86/mm/pat.c as of 2.6.31; as of 3.5 (365811d6f9f4); as of 4.2; as of 5.6 (ecdd6ee77b73).
_FORMS = {
    "2.6": f"reserve_memtype failed 0xd0000000-0xe0000000, {_TYPES}",
    "3.5": f"reserve_memtype failed [mem 0xd0000000-0xdfffffff], {_TYPES}",
    "5.6": f"x86/PAT: memtype_reserve failed [mem 0xd0000000-0xdfffffff], {_TYPES}",
}


@pytest.mark.parametrize(
    ("form", "since", "before"),
    [("2.6", (0, 0, 0), (3, 5, 0)), ("3.5", (3, 5, 0), (5, 6, 0)), ("5.6", (5, 6, 0), None)],
)
def test_a_form_has_its_time(form: str, since: tuple[int, ...], before: tuple[int, ...] | None) -> None:
    known = age(read(_FORMS[form]))
    assert (known.kernel, known.since, known.before) == (None, since, before)


def test_the_forms_of_two_kernels_say_nothing() -> None:
    assert age(read("\n".join(_FORMS.values()))) == Age(None)


@pytest.mark.parametrize(
    ("form", "place", "others"),
    [
        (
            "2.6",
            "pat_rbtree.c, memtype_rb_check_conflict() (before 2.6.35: pat.c, chk_conflict())",
            "memtype_interval.c",
        ),
        ("3.5", "pat_rbtree.c, memtype_rb_check_conflict()", "chk_conflict"),
        ("5.6", "arch/x86/mm/pat/memtype_interval.c, memtype_check_conflict()", "before"),
    ],
)
def test_the_place_of_a_form(form: str, place: str, others: str) -> None:
    rule = explain(read(_CONFLICT + _FORMS[form]), []).story.rule
    assert place in rule
    assert others not in rule


def test_without_a_form_all_places_are_named() -> None:
    """ "conflicting memory types" has looked alike from 2.6.27 to today."""
    rule = explain(read(_CONFLICT), []).story.rule
    for each in ("memtype_interval.c", "pat_rbtree.c", "chk_conflict"):
        assert each in rule


@pytest.mark.parametrize("kernel", ["2.6.34", "4.19.10", "5.5.3", "6.1.90"])
def test_a_kernel_has_one_place(kernel: str) -> None:
    text = f"Linux version {kernel} (x@y)\n{_CONFLICT}{_FORMS['2.6']}"
    assert "before" not in explain(read(text), []).story.rule


def test_the_file_of_mtrrs_by_version() -> None:
    """main.c in 4.15, mtrr.c in 4.18 (debug information of Ubuntu's kernels); arch/x86 came with 2.6.24."""
    line = "mtrr: type mismatch for d0000000,10000000 old: write-back new: write-combining\n"

    def rule(kernel: str) -> str:
        return explain(read(f"Linux version {kernel} (x@y)\n{line}"), []).story.rule

    assert rule("6.1.90").startswith("arch/x86/kernel/cpu/mtrr/mtrr.c, mtrr_add_page()")
    assert rule("4.15.0").startswith("arch/x86/kernel/cpu/mtrr/main.c, mtrr_add_page()")
    assert rule("2.6.22").startswith("arch/i386/kernel/cpu/mtrr/main.c, mtrr_add_page()")


def test_what_a_text_shows_of_its_age_counts_for_mtrrs() -> None:
    """The line "MTRR map" came with 6.5."""
    line = "mtrr: no more MTRRs available\n"
    rule = explain(
        read(f"MTRR map: 4 entries (2 fixed + 2 variable; max 20), built from 8 variable MTRRs\n{line}"), []
    )
    assert rule.story.rule == "arch/x86/kernel/cpu/mtrr/mtrr.c, mtrr_add_page()"
    assert explain(read(line), []).story.rule == (
        "arch/x86/kernel/cpu/mtrr/mtrr.c, mtrr_add_page() (before 4.18: main.c; before 2.6.24: "
        "arch/i386/kernel/cpu/mtrr/main.c; before 2.6: arch/i386/kernel/mtrr.c)"
    )


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (
            "memremap attempted on ram 0x1000 size: 0x1000",
            "kernel/iomem.c, memremap() (before 4.18: memremap.c)",
        ),
        (
            "CPA: called for zero pte. vaddr = 4ffe0000 cpa->vaddr = 4ffe0000",
            "arch/x86/mm/pat/set_memory.c, __cpa_process_fault() (before 5.6: pageattr.c)",
        ),
        ("CPA protect Rodata RO: 0x1 - 0x2", "arch/x86/mm/pat/set_memory.c (before 5.6: pageattr.c)"),
    ],
)
def test_places_of_other_files(line: str, place: str) -> None:
    story = explain(read(line), []).story
    assert story.rule.startswith(place), story.rule
    newer = explain(
        read(f"MTRR map: 4 entries (2 fixed + 2 variable; max 20), built from 8 variable MTRRs\n{line}"), []
    )
    assert newer.story.rule.startswith(place.partition(" (")[0])
    assert "before" not in newer.story.rule


def test_the_pairs_of_types_have_one_place() -> None:
    line = "t:9 map pfn expected mapping type uncached-minus for [mem 0xfd000000-0xfd000fff], got write-back"
    rule = explain(read(line), []).story.rule
    assert "unless is_new_memtype_allowed() (arch/x86/include/asm/pgtable.h) forbids it" in rule


def test_a_bug_that_came_later_is_no_suspect() -> None:
    """vma-split-leak is of 3.7 and later, and this form isn't."""
    bugs = [each.bug for each in catalogue()]
    old, new = "d0000000-e0000000", "[mem 0xd0000000-0xdfffffff]"
    assert not explain(read(f"Xorg:2342 freeing invalid memtype {old}"), bugs).suspects
    assert explain(read(f"Xorg:2342 freeing invalid memtype {new}"), bugs).suspects


def test_a_form_may_be_newer_than_a_version() -> None:
    known = Age(None, (3, 5, 0), (5, 6, 0))
    assert [is_newer(known, 3, 5), is_newer(known, 4, 5), is_newer(known, 6, 16)] == [True, None, False]
