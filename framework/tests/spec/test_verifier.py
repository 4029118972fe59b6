"""The reference is checked by hand: each rule of the specification, one example at a time."""

from __future__ import annotations

import errno

import pytest

from pytest_memtype.spec.verifier import (
    Lookup,
    Machine,
    NotTrackedError,
    Request,
    TrackedPage,
    Verdict,
    Verifier,
)
from pytest_memtype.x86.memtype import MemType

WB, WC, WT, WP, UC, UC_MINUS = (MemType[name] for name in ("WB", "WC", "WT", "WP", "UC", "UC_MINUS"))
RAM_END = 0x100
SMRAM = 0x900
BAR = 0x1000


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(
        Machine(
            physical_bits=36,
            possible=lambda: set(MemType) - {WP},
            is_ram=lambda pfn: pfn < RAM_END,
            default=lambda pfn, _pages: WB if pfn < RAM_END else UC_MINUS,
            hazards=lambda _pfn, _pages, memtype: frozenset({"mtrr-wb-uncached"} if memtype is UC else ()),
            smram=lambda pfn: WB if pfn == SMRAM else None,
        )
    )


@pytest.mark.parametrize(
    ("pfn", "pages"),
    [(BAR, 0), (BAR, -1), (-1, 2), (1 << 24, 1), ((1 << 24) - 1, 2), (BAR, 1 << 52), ((1 << 52) - 1, 2)],
)
def test_malformed(verifier: Verifier, pfn: int, pages: int) -> None:
    assert verifier.verify(Request(pfn, pages, WC, "drm")) == Verdict("malformed", errno.EINVAL)
    assert verifier.lookup(pfn, pages) == Lookup(None, errno=errno.EINVAL)


def test_the_last_page_that_the_cpu_can_address_is_sane(verifier: Verifier) -> None:
    assert verifier.verify(Request((1 << 24) - 1, 1, WC, "drm")).accepted


def test_impossible(verifier: Verifier) -> None:
    assert verifier.verify(Request(BAR, 1, WP, "drm")) == Verdict("impossible", errno.EOPNOTSUPP)


@pytest.mark.parametrize("memtype", [WC, UC, UC_MINUS, WT])
def test_ram_must_be_write_back_to_the_last_page(verifier: Verifier, memtype: MemType) -> None:
    assert verifier.verify(Request(RAM_END, 2, memtype, "drm")).accepted
    assert verifier.verify(Request(RAM_END - 1, 1, memtype, "drm")) == Verdict("ram-not-wb", errno.EPERM)
    assert verifier.verify(Request(RAM_END - 1, 2, memtype, "drm")).rule == "ram-not-wb"
    assert verifier.verify(Request(RAM_END - 1, 2, WB, "drm")).accepted


def test_an_alias_names_all_in_the_way_and_leaves_no_trace(verifier: Verifier) -> None:
    verifier.track(Request(BAR, 4, WC, "drm"))
    verifier.track(Request(BAR + 3, 1, WC, "app", pid=7, address=0x7000))
    before = verifier.tracked()
    assert verifier.track(Request(BAR + 2, 4, UC_MINUS, "fbdev")) == Verdict(
        "alias",
        errno.EBUSY,
        (
            TrackedPage(BAR + 2, WC, "drm"),
            TrackedPage(BAR + 3, WC, "drm"),
            TrackedPage(BAR + 3, WC, "app", 7, 0x7000),
        ),
    )
    assert verifier.tracked() == before
    assert verifier.verify(Request(BAR + 4, 4, UC_MINUS, "fbdev")).accepted
    assert verifier.verify(Request(BAR - 4, 4, UC_MINUS, "fbdev")).accepted


def test_observed_aliases_of_ram_are_no_alias_but_those_of_devices_are(verifier: Verifier) -> None:
    verifier.adopt(Request(0, 1, WC, "kernel"))
    assert verifier.verify(Request(0, 1, WB, "drm")).accepted
    verifier.adopt(Request(BAR, 1, WC, "kernel"))
    verifier.adopt(Request(BAR, 1, WB, "kernel"))
    assert verifier.verify(Request(BAR, 1, WC, "drm")).rule == "alias"
    assert verifier.lookup(BAR, 1) == Lookup(None, errno=errno.EBUSY)


def test_one_ioremap_counts_kernel_mappings_only(verifier: Verifier) -> None:
    verifier.one_ioremap = True
    assert verifier.track(Request(BAR, 1, WC, "app", pid=7, address=0x7000)).accepted
    assert verifier.track(Request(BAR, 1, WC, "drm")).accepted
    assert verifier.track(Request(BAR, 1, WC, "app", pid=7, address=0x9000)).accepted
    assert verifier.track(Request(BAR - 1, 2, WC, "drm")) == Verdict(
        "exclusive", errno.EBUSY, (TrackedPage(BAR, WC, "drm"),)
    )
    assert verifier.track(Request(BAR, 1, UC, "drm")).rule == "alias"


def test_smram_is_used_with_the_type_of_smm() -> None:
    """The mapping's effective type counts, not the one asked for: UC- over UC MTRRs is right."""
    machine = Machine(
        physical_bits=40,
        possible=lambda: frozenset(MemType),
        is_ram=lambda _pfn: False,
        default=lambda _pfn, _pages: UC_MINUS,
        smram=lambda pfn: UC if pfn in (SMRAM, SMRAM + 1) else None,
        # As over UC MTRRs (Intel SDM vol. 3, "Effective Page-Level Memory Types"), and undefined ones.
        effective=lambda pfn, memtype: None if pfn == SMRAM + 1 else WC if memtype is WC else UC,
    )
    verifier = Verifier(machine)
    answers = {memtype: verifier.verify(Request(SMRAM, 1, memtype, "dosemu")).rule for memtype in MemType}
    assert answers == {memtype: "smram" if memtype is WC else None for memtype in MemType}
    assert verifier.verify(Request(SMRAM, 2, UC, "dosemu")).rule == "smram"
    assert verifier.verify(Request(SMRAM - 1, 1, WC, "drm")).accepted


def test_smram_has_the_type_of_smm(verifier: Verifier) -> None:
    assert verifier.verify(Request(SMRAM - 1, 2, WC, "drm")) == Verdict("smram", errno.EPERM)
    assert verifier.verify(Request(SMRAM, 1, WB, "drm")).accepted


def test_hazards_stand_beside_acceptance(verifier: Verifier) -> None:
    assert verifier.verify(Request(BAR, 1, UC, "drm")) == Verdict(hazards=frozenset({"mtrr-wb-uncached"}))


def test_a_page_keeps_its_type_until_its_last_mapping_goes(verifier: Verifier) -> None:
    first, second = Request(BAR, 2, WC, "drm"), Request(BAR + 1, 2, WC, "drm")
    verifier.track(first)
    verifier.track(second)
    assert [verifier.references(BAR + page) for page in range(4)] == [1, 2, 1, 0]
    verifier.release(first)
    assert verifier.verify(Request(BAR, 1, UC, "fbdev")).accepted
    assert verifier.verify(Request(BAR + 1, 1, UC, "fbdev")).rule == "alias"
    verifier.release(second)
    assert not verifier.pages


def test_a_release_may_be_partial_but_not_of_what_is_not_tracked(verifier: Verifier) -> None:
    verifier.track(Request(BAR, 3, WC, "drm"))
    before = verifier.tracked()
    for wrong in (
        Request(BAR + 2, 2, WC, "drm"),
        Request(BAR, 1, UC, "drm"),
        Request(BAR, 1, WC, "fbdev"),
        Request(BAR, 1, WC, "drm", pid=7, address=0x7000),
    ):
        with pytest.raises(NotTrackedError):
            verifier.release(wrong)
    assert verifier.tracked() == before
    verifier.release(Request(BAR + 1, 1, WC, "drm"))
    assert verifier.tracked() == {TrackedPage(BAR, WC, "drm"): 1, TrackedPage(BAR + 2, WC, "drm"): 1}
    with pytest.raises(NotTrackedError, match=r"WC mapping of page frame 0x1001 by driver drm isn't tracked"):
        verifier.release(Request(BAR + 1, 1, WC, "drm"))


def test_lookup(verifier: Verifier) -> None:
    assert verifier.lookup(BAR, 4) == Lookup(UC_MINUS)
    assert verifier.lookup(0, 4) == Lookup(WB)
    verifier.track(Request(BAR + 1, 1, WC, "drm"))
    assert verifier.lookup(BAR, 4) == Lookup(WC, in_use=True)
    assert verifier.lookup(BAR + 2, 2) == Lookup(UC_MINUS)
    verifier.track(Request(BAR + 2, 1, UC, "drm"))
    assert verifier.lookup(BAR, 4) == Lookup(None, errno=errno.EBUSY)


def test_user_mappings_follow_the_process(verifier: Verifier) -> None:
    verifier.track(Request(BAR, 3, WC, "app", pid=7, address=0x10000))
    verifier.fork(7, 8, "child")
    verifier.unmap(7, 0x11000, 1)
    assert verifier.tracked(BAR, 2) == {
        TrackedPage(BAR, WC, "app", 7, 0x10000): 1,
        TrackedPage(BAR, WC, "child", 8, 0x10000): 1,
        TrackedPage(BAR + 1, WC, "child", 8, 0x11000): 1,
    }
    verifier.move(8, 0x11000, 2, 0x12000)
    assert verifier.tracked(BAR + 1, 2) == {
        TrackedPage(BAR + 2, WC, "app", 7, 0x12000): 1,
        TrackedPage(BAR + 1, WC, "child", 8, 0x12000): 1,
        TrackedPage(BAR + 2, WC, "child", 8, 0x13000): 1,
    }
    verifier.exit(7)
    assert {page.owner for page in verifier.tracked()} == {"child"}
    verifier.exit(8)
    assert not verifier.pages


def test_a_move_buries_what_was_there(verifier: Verifier) -> None:
    verifier.track(Request(BAR, 1, WC, "app", pid=7, address=0x10000))
    verifier.track(Request(BAR + 8, 1, UC, "app", pid=7, address=0x20000))
    verifier.move(7, 0x10000, 1, 0x20000)
    assert verifier.tracked() == {TrackedPage(BAR, WC, "app", 7, 0x20000): 1}
