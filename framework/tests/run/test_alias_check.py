"""The audit after each test: what fails it, what doesn't, and what is printed."""

from __future__ import annotations

import pytest
from memtype_support.empty_cache import empty_cache

from pytest_memtype import Guest, MemType
from pytest_memtype.audit.findings import Finding, FindingKind
from pytest_memtype.run.alias_check import Checked, ExpectedAlias, alias_complaint, audit_summary, check
from pytest_memtype.x86.effective import Effective, EffectiveType, Severity

ALIAS = Finding(
    FindingKind.CONFLICT,
    Severity.FATAL,
    0x1000,
    1,
    (EffectiveType.WC, EffectiveType.WB),
    "RAM",
    "lines may be written back",
)
OLD, NEW = (5, 10), (7, 3)

TESTS = """
import pytest
from pytest_memtype import MemType

UC_MINUS, WB, WC = MemType.UC_MINUS, MemType.WB, MemType.WC


def alias(guest):
    # The copy of a private page is RAM, mapped with the type of the device and with the direct map's.
    process = guest.process("X")
    mapping = process.mmap(guest.mmio(pages=1), UC_MINUS, private=True).mapping
    process.write(mapping, page=0)


def test_unexpected(guest):
    alias(guest)


@pytest.mark.expect_alias
def test_expected(guest):
    alias(guest)


@pytest.mark.expect_alias(before=(5, 0))
def test_expected_on_others(guest):
    alias(guest)


@pytest.mark.expect_alias
def test_missed(guest):
    pass


def test_refused_by_the_verifier(guest):
    ram = guest.ram(pages=1)
    guest.process("X").mmap(ram, WB)
    guest.driver("agp").set_memory(ram, WC)
"""


@pytest.mark.layout("wb-device")
@pytest.mark.expect_alias
def test_an_alias_is_told_again_when_it_has_got_worse(guest: Guest) -> None:
    """What an earlier test left in a shared guest, and this one has added a type to."""
    bar = guest.mmio(pages=1)
    process = guest.process("X")
    mapping = process.mmap(bar, MemType.WB, via="insert_pfn").mapping
    assert mapping is not None
    process.read(mapping, 0)
    guest.driver("fb").ioremap(bar, MemType.WC)
    pages = (bar.start, 1)
    told = {pages: frozenset[Effective]({EffectiveType.CD, EffectiveType.WC})}
    assert check(guest, told=told).conflicts == ()
    told[pages] = frozenset({EffectiveType.CD, EffectiveType.WT})
    assert [set(each.effective) for each in check(guest, told=told).conflicts] == [
        {EffectiveType.CD, EffectiveType.WC}
    ]
    assert told[pages] == {EffectiveType.CD, EffectiveType.WC}


def test_in_a_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rf", "--kernel", "debian:bookworm")
    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines_random(
        [
            "the audit found a conflict (ERROR) *RAM, CD/WB: UC- at *(X:*WB at *(direct map)*",
            "expect_alias: no page has two conflicting types at the end of the test",
            "page tables audited after *",
        ]
    )
    failed = [line.split("::")[1].partition("[")[0] for line in result.outlines if line.startswith("FAILED")]
    assert failed == ["test_unexpected", "test_expected_on_others", "test_missed"]


KEXEC = (
    TESTS.partition("def test_unexpected")[0]
    + """
def test_unexpected(guest):
    alias(guest)
    guest.kexec()


@pytest.mark.expect_alias
def test_expected(guest):
    alias(guest)
    guest.kexec()


def test_unseen(guest):
    bar = guest.mmio(pages=1)
    guest.driver("drm").ioremap(bar, WC)
    assert guest.shell(f"busybox devmem {bar.start:#x}").status == 0
    guest.kexec()
"""
)


def test_an_alias_that_a_kernel_takes_with_it(pytester: pytest.Pytester) -> None:
    """The page tables are looked at before another kernel is loaded in its place."""
    pytester.makepyfile(KEXEC)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rf", "--kernel", "debian:bookworm")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "the audit found a conflict (ERROR) *RAM, CD/WB: UC- at *(X:*WB at *(direct map)*",
            "an alias of somebody else's: *busybox*: UC- -> WC * alias with drm: WC *",
            "page tables audited after *",
        ]
    )


BARE = """
import pytest
from pytest_memtype import Layout, MemType


@pytest.mark.layout(Layout("bare", default=MemType.WB))
@pytest.mark.hardware(cmdline="nopat")
def test_something_else(guest):
    guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.UC_MINUS)
"""


@pytest.mark.parametrize("fresh", ["boot", "clone"])
def test_what_a_boot_leaves_is_no_tests(pytester: pytest.Pytester, fresh: str) -> None:
    """6.1 maps the HPET twice while it boots, and without the PAT it doesn't compare the types."""
    pytester.makepyfile(BARE)
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--kernel", "debian:bookworm", f"--fresh={fresh}"
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("there since boot: conflict (ERROR) *HPET*")


REMOVED = """
    from pytest_memtype.machine.template_store import discard

    discard(guest.machine.config.ram_file.parents[1])
"""


def test_what_a_boot_left_is_not_known_without_its_template(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``memtype cache prune`` beside a run."""
    cache = pytester.path / ".cache"
    empty_cache(cache)
    monkeypatch.setenv("MEMTYPE_CACHE", str(cache))
    pytester.makepyfile(BARE + REMOVED)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--kernel", "debian:bookworm")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(f"*{cache}/templates/*: the template was removed while its clone lived*")


def test_no_audit(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--no-audit", "-k", "unexpected")
    result.assert_outcomes(passed=1, deselected=4)
    result.stdout.no_fnmatch_line("page tables audited*")


def checked(version: tuple[int, int], *, conflicts: int = 1, unexcused: int = 1) -> Checked:
    return Checked(version, (ALIAS,) * conflicts, (ALIAS,) * unexcused, 5.0)


def test_complaints() -> None:
    assert alias_complaint([], None) is None
    assert alias_complaint([checked(OLD, unexcused=0)], None) is None
    assert "the audit found a conflict (FATAL)" in str(alias_complaint([checked(OLD)], None))
    expected = ExpectedAlias(before=(6, 16))
    assert alias_complaint([checked(OLD)], expected) is None
    assert alias_complaint([checked(NEW)], expected) is not None
    assert alias_complaint([checked(NEW, conflicts=0, unexcused=0)], expected) is None
    assert "no page" in str(alias_complaint([checked(OLD, conflicts=0, unexcused=0)], expected))
    # A host on which nothing can be audited fails nobody.
    assert alias_complaint([Checked(OLD, (), (), 0, "may not be read")], expected) is None


@pytest.mark.parametrize("version", ["6.16", 6, ("6", "16")])
def test_what_is_no_version(version: object) -> None:
    with pytest.raises(ValueError, match="no kernel version"):
        ExpectedAlias(before=version)  # type: ignore[arg-type]


def test_summary() -> None:
    assert audit_summary([]) == []
    boot = ("conflict (ERROR) [mem 0xfed00000-0xfed00fff] HPET, CD/WB: UC- at 0x1: reason",)
    assert audit_summary([(3.0, "", ()), (5.0, "", boot), (0, "may not be read", ()), (9.0, "", boot)]) == [
        "page tables audited after 3 tests: median 5 ms, most 9 ms",
        "not audited: may not be read",
        f"there since boot: {boot[0]}",
    ]


OBSERVED = """
import pytest
from pytest_memtype import MemType


def others(guest):
    bar = guest.mmio(pages=1)
    guest.driver("drm").ioremap(bar, MemType.WC)
    # /dev/mem asks for UC-.
    assert guest.shell(f"busybox devmem {bar.start:#x}").status == 0
    return bar


def test_unseen(guest):
    others(guest)


def test_asked_for(guest):
    bar = others(guest)
    assert guest.observed(bar)[-1].rule == "alias"


def test_no_alias(guest):
    bar = guest.mmio(pages=1)
    guest.driver("drm").ioremap(bar, MemType.UC_MINUS)
    guest.shell(f"busybox devmem {bar.start:#x}")


def test_beside(guest):
    bar = others(guest)
"""


@pytest.mark.parametrize("shared", [(), ("--shared-guest",)], ids=["fresh", "shared"])
def test_an_alias_of_somebody_elses_fails_the_test_that_does_not_ask(
    pytester: pytest.Pytester, shared: tuple[str, ...]
) -> None:
    pytester.makepyfile(OBSERVED)
    result = pytester.runpytest_subprocess("-rf", "--kernel", "debian:bookworm", *shared)
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["an alias of somebody else's: *busybox*: UC- -> WC * alias with drm: WC *"])
