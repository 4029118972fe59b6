"""Several drivers and one piece of device memory.

Where a table here says "rules", it is the project's collection of what Linux does, read in the
source of 5.10 to 7.3 and seen in guests: ``memtype_reserve()`` and ``is_new_memtype_allowed()`` in
``arch/x86/mm/pat/memtype.c`` and ``__ioremap_caller()`` in ``arch/x86/mm/ioremap.c``. What the
verifier should say comes from LKML, "solving page table access attribute aliasing", 30 August 2005.
"""

from __future__ import annotations

import errno
import itertools

import pytest

from pytest_memtype import Guest, MemType, Outcome, Region

pytestmark = pytest.mark.needs_module

UC, UC_MINUS, WC, WT, WP, WB = (
    MemType.UC,
    MemType.UC_MINUS,
    MemType.WC,
    MemType.WT,
    MemType.WP,
    MemType.WB,
)

SECOND = (UC_MINUS, UC, WC, WT, WB, WP)

# What the page table holds for the second of two ioremaps of the same pages; None: refused.
# Linux gives the second mapping the type of the first, whatever was asked for, unless UC-, WC or WT
# would become WB, or WT would become WC (rules, "Non-RAM: interval tree").
FIRMWARE: dict[MemType, tuple[MemType | None, ...]] = {
    #          UC-       UC        WC        WT        WB        WP
    UC_MINUS: (UC_MINUS, UC_MINUS, UC_MINUS, UC_MINUS, UC_MINUS, UC_MINUS),
    UC: (UC, UC, UC, UC, UC, UC),
    WC: (WC, WC, WC, None, WC, WC),
    WT: (WT, WT, WT, WT, WT, WT),
    # The MTRRs of the firmware make device memory UC: a request for WB is turned into UC-.
    WB: (UC_MINUS, UC_MINUS, UC_MINUS, UC_MINUS, UC_MINUS, UC_MINUS),
    # Linux tracks WP, but ioremap() knows no page table bits for it and falls back to UC.
    WP: (UC, UC, UC, UC, UC, UC),
}

# With write-back MTRRs over the device a request for WB is granted, and then nothing may weaken it
# but UC, which Linux forgets to refuse (rules, "ioremap_uc over WB").
WB_DEVICE = {**FIRMWARE, WB: (None, WB, None, None, WB, WB)}


def first_granted(table: dict[MemType, tuple[MemType | None, ...]], first: MemType) -> MemType | None:
    """What a mapping gets that nothing else is in the way of: its type again when asked for twice."""
    return table[first][SECOND.index(first)]


def kernel_types(guest: Guest, region: Region) -> list[MemType]:
    """The types of the kernel's own reservations of the region."""
    return [entry.memtype for entry in guest.memtype_list(region)]


def tracked_owners(guest: Guest, region: Region) -> list[str]:
    return [mapping.owner for mapping in guest.tracked(region)]


def assert_gone(guest: Guest, region: Region) -> None:
    """Nobody has anything of the region any more, neither by the verifier nor by the kernel."""
    assert guest.tracked(region) == ()
    assert guest.memtype_list(region) == ()


def pairs() -> list[object]:
    return [
        pytest.param(
            table,
            first,
            second,
            id=f"{layout}-{first.name}-{second.name}",
            marks=pytest.mark.layout(layout),
        )
        for layout, table in (("firmware", FIRMWARE), ("wb-device", WB_DEVICE))
        for first, second in itertools.product(FIRMWARE, SECOND)
    ]


@pytest.mark.parametrize(("table", "first", "second"), pairs())
def test_two_drivers(
    guest: Guest,
    table: dict[MemType, tuple[MemType | None, ...]],
    first: MemType,
    second: MemType,
) -> None:
    """Every ordered pair of the six kinds of ioremap on the same pages."""
    bar = guest.mmio(pages=4)
    drm, fbdev = guest.driver("drm"), guest.driver("fbdev")
    expected = table[first][SECOND.index(second)]

    one = drm.ioremap(bar, first)
    assert one.verdict.accepted
    assert one.kernel.accepted
    assert one.granted is first_granted(table, first)

    two = fbdev.ioremap(bar, second)
    if second is first:
        assert two.verdict.accepted
        assert two.verdict.conflict is None
    else:
        # Rule 2: already mapped, so it must be asked for with the type it has; the mapping is named.
        assert two.verdict.rejected
        assert two.verdict.rule == "alias"
        assert two.verdict.errno == errno.EBUSY
        assert two.verdict.conflict is not None
        assert two.verdict.conflict.owner == "drm"
        assert two.verdict.conflict.memtype is first
        assert two.verdict.conflict.region == bar
    assert two.kernel.accepted == (expected is not None)
    assert two.granted is expected

    # The verifier counts what it accepted, the kernel's list what it granted.
    assert tracked_owners(guest, bar) == (["drm", "fbdev"] if second is first else ["drm"])
    assert len(kernel_types(guest, bar)) == (1 if expected is None else 2)
    assert len(set(kernel_types(guest, bar))) == 1

    for driver, outcome in ((drm, one), (fbdev, two)):
        if outcome.mapping is not None:
            driver.release(outcome.mapping)
    assert_gone(guest, bar)


@pytest.mark.layout("firmware")
@pytest.mark.parametrize("memtype", [WC, UC_MINUS, WT], ids=lambda memtype: memtype.name)
@pytest.mark.parametrize(
    "order", list(itertools.permutations(range(3))), ids=lambda order: "".join(map(str, order))
)
def test_three_drivers_share_and_release(guest: Guest, memtype: MemType, order: tuple[int, ...]) -> None:
    """Reference counts: a type lives exactly as long as its last mapping, whoever goes first."""
    bar = guest.mmio(pages=4)
    drivers = [guest.driver(name) for name in ("drm", "fbdev", "vfio")]
    outcomes = [driver.ioremap(bar, memtype) for driver in drivers]
    assert all(outcome.accepted for outcome in outcomes)

    left = {driver.name for driver in drivers}
    for index in order:
        mapping = outcomes[index].mapping
        assert mapping is not None
        drivers[index].release(mapping)
        left.remove(drivers[index].name)
        assert set(tracked_owners(guest, bar)) == left
        assert kernel_types(guest, bar) == [memtype] * len(left)
        assert guest.verify(bar, UC).accepted == (not left)

    # Free again: another type may have it now.
    again = drivers[0].ioremap(bar, UC)
    assert again.accepted
    assert kernel_types(guest, bar) == [UC]


OVERLAPS = {
    # first's pages, second's pages, of a window of eight
    "head": (slice(2, 6), slice(0, 3)),
    "tail": (slice(0, 3), slice(2, 5)),
    "inside": (slice(0, 6), slice(2, 3)),
    "around": (slice(2, 3), slice(0, 6)),
}


@pytest.mark.layout("firmware")
@pytest.mark.parametrize("name", list(OVERLAPS))
def test_partial_overlap(guest: Guest, name: str) -> None:
    """One page in common is enough; Linux even hands the first type to pages beyond the overlap."""
    window = guest.mmio(pages=8)
    first, second = (window[pages] for pages in OVERLAPS[name])

    one = guest.driver("drm").ioremap(first, WC)
    two = guest.driver("fbdev").ioremap(second, UC_MINUS)

    assert one.accepted
    assert two.verdict.rule == "alias"
    assert two.verdict.conflict is not None
    assert two.verdict.conflict.region == first
    assert two.kernel.accepted
    # Rules: "the new entry takes that type for its whole length, also for the part beyond the overlap".
    assert two.granted_pages == (WC,) * second.pages
    assert guest.tracked(second) == (two.verdict.conflict,)
    assert kernel_types(guest, window) == [WC, WC]


@pytest.mark.layout("firmware")
@pytest.mark.parametrize("name", list(OVERLAPS))
def test_partial_overlap_of_one_type(guest: Guest, name: str) -> None:
    """Partly the same pages with the same type: both may, and each release takes just its own."""
    window = guest.mmio(pages=8)
    first, second = (window[pages] for pages in OVERLAPS[name])
    drm, fbdev = guest.driver("drm"), guest.driver("fbdev")

    one, two = drm.ioremap(first, WC), fbdev.ioremap(second, WC)
    assert one.accepted
    assert two.accepted
    assert sorted(tracked_owners(guest, window)) == ["drm", "fbdev"]

    assert one.mapping is not None
    drm.release(one.mapping)
    assert [mapping.region for mapping in guest.tracked(window)] == [second]
    assert kernel_types(guest, window) == [WC]
    assert guest.verify(second, UC).rule == "alias"


@pytest.mark.layout("firmware")
@pytest.mark.parametrize("before", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("memtype", [UC_MINUS, WT, UC], ids=lambda memtype: memtype.name)
def test_touching_ranges_are_independent(guest: Guest, memtype: MemType, before: bool) -> None:
    """Neighbours have nothing in common; the 2019 off-by-one (91298f1a302d) made WC beside UC- UC-."""
    window = guest.mmio(pages=4)
    first, second = (window[2:4], window[0:2]) if before else (window[0:2], window[2:4])

    one = guest.driver("drm").ioremap(first, memtype)
    two = guest.driver("fbdev").ioremap(second, WC)

    assert one.accepted
    assert two.accepted
    assert sorted(kernel_types(guest, window)) == sorted([memtype, WC])
    assert len(guest.tracked(window)) == 2


@pytest.mark.layout("firmware")
@pytest.mark.parametrize("memtype", [UC_MINUS, UC, WC, WT, WB], ids=lambda memtype: memtype.name)
def test_over_two_types(guest: Guest, memtype: MemType) -> None:
    """A request that covers two types can't follow either: Linux refuses it, with -EBUSY in its log."""
    window = guest.mmio(pages=4)
    one = guest.driver("drm").ioremap(window[0:2], WC)
    two = guest.driver("fbdev").ioremap(window[2:4], UC_MINUS)
    assert one.accepted
    assert two.accepted

    three = guest.driver("vfio").ioremap(window, memtype)

    assert three.verdict.rule == "alias"
    assert three.verdict.conflict is not None
    # The lowest mapping in the way is named; asked for as WC that is the second.
    assert three.verdict.conflict.owner == ("fbdev" if memtype is WC else "drm")
    assert three.kernel.rejected
    assert three.granted is None
    assert any("conflicting memory types" in line for line in three.kernel.log)
    assert any("ioremap memtype_reserve failed -16" in line for line in three.kernel.log)
    # All or nothing: the refused request leaves no trace.
    assert sorted(tracked_owners(guest, window)) == ["drm", "fbdev"]
    assert kernel_types(guest, window) == [WC, UC_MINUS]


@pytest.mark.layout("firmware")
def test_refused_on_the_last_page_leaves_no_trace(guest: Guest) -> None:
    """All or nothing, on a range whose first pages are free."""
    window = guest.mmio(pages=8)
    guest.driver("drm").ioremap(window[7], WC)

    refused: Outcome = guest.driver("fbdev").ioremap(window, UC)

    assert refused.verdict.rule == "alias"
    assert guest.tracked(window[0:7]) == ()
    assert guest.verify(window[0:7], WT).accepted


@pytest.mark.layout("firmware")
@pytest.mark.parametrize("memtype", [WB, WT, WC], ids=lambda memtype: memtype.name)
def test_memremap(guest: Guest, memtype: MemType) -> None:
    """memremap() of device memory is ioremap_cache(), ioremap_wt() or ioremap_wc() (rules, 2.4)."""
    bar = guest.mmio(pages=2)
    driver = guest.driver("nvdimm")

    outcome = driver.memremap(bar, memtype)

    assert outcome.verdict.accepted
    assert outcome.kernel.accepted
    assert outcome.granted is first_granted(FIRMWARE, memtype)
    assert tracked_owners(guest, bar) == ["nvdimm"]
    assert outcome.mapping is not None
    driver.release(outcome.mapping)
    assert_gone(guest, bar)


@pytest.mark.layout("firmware")
def test_one_ioremap_policy(guest: Guest) -> None:
    """Rule 4: with the policy chosen, the same type twice is refused; a user mapping doesn't count."""
    guest.policy.one_ioremap = True
    bar = guest.mmio(pages=2)
    assert guest.process("X").mmap(bar, WC).accepted

    assert guest.driver("drm").ioremap(bar, WC).accepted
    second = guest.driver("fbdev").ioremap(bar, WC)

    assert second.verdict.rule == "exclusive"
    assert second.verdict.errno == errno.EBUSY
    assert second.verdict.conflict is not None
    assert second.verdict.conflict.owner == "drm"
    assert second.granted is WC


@pytest.mark.layout("firmware")
def test_enforce_keeps_a_refused_request_from_the_kernel(guest: Guest) -> None:
    guest.policy.enforce = True
    bar = guest.mmio(pages=2)
    assert guest.driver("drm").ioremap(bar, WC).accepted

    refused = guest.driver("fbdev").ioremap(bar, UC_MINUS)

    assert refused.verdict.rule == "alias"
    assert not refused.kernel.asked
    assert refused.mapping is None
    assert kernel_types(guest, bar) == [WC]


@pytest.mark.layout("wb-device")
@pytest.mark.parametrize("memtype", [UC_MINUS, UC, WC, WT, WB], ids=lambda memtype: memtype.name)
def test_uncached_over_write_back_mtrr_is_a_hazard(guest: Guest, memtype: MemType) -> None:
    """The thread's painful case is reported beside the verdict: MTRRs say WB, the page table UC."""
    outcome = guest.driver("drm").ioremap(guest.mmio(pages=2), memtype)

    assert outcome.verdict.accepted
    expected = ("mtrr-wb-uncached",) if memtype in (UC, UC_MINUS) else ()
    assert outcome.verdict.hazards == expected


@pytest.mark.layout("firmware")
def test_malformed_requests(guest: Guest) -> None:
    """Rule 0a: no pages, a wrap of the address space, beyond the CPU's physical width."""
    width = guest.registers()[0].physical_bits
    last = guest.region((1 << width) - 4096, size=4096)
    beyond = [
        Region(guest.mmio(pages=1).start, 0),
        Region(last.start, 2),
        Region(1 << width, 1),
        Region((1 << 64) - 4096, 2),
    ]
    for region in beyond:
        verdict = guest.verify(region, UC)
        assert verdict.rule == "malformed", region
        assert verdict.errno == errno.EINVAL
    assert guest.verify(last, UC).accepted


@pytest.mark.layout("firmware")
@pytest.mark.hardware(cmdline="nopat")
@pytest.mark.parametrize("memtype", [WC, WP], ids=lambda memtype: memtype.name)
def test_types_that_pat_can_not_express_are_impossible(guest: Guest, memtype: MemType) -> None:
    """Rule 0b: with nopat the slots are WB WT UC- UC twice (rules, 2.6)."""
    assert MemType.WT in guest.registers()[0].pat
    outcome = guest.driver("drm").ioremap(guest.mmio(pages=1), memtype)

    assert outcome.verdict.rule == "impossible"
    assert outcome.verdict.errno == errno.EOPNOTSUPP
    # Linux gives what it can instead: "WC, WP turn into UC-" (rules, 2.6).
    assert outcome.kernel.accepted
    assert outcome.granted is UC_MINUS
    assert guest.tracked(observed=False) == ()
