"""Hazards: what the verifier accepts and warns of, because the MTRRs make something else of it.

``mtrr-mixed`` is in test_large_pages.py.
"""

from __future__ import annotations

import pytest

from pytest_memtype import EffectiveType, Guest, Hardware, Layout, MemType, MtrrRange
from pytest_memtype.plugin.fixtures import GuestFactory

pytestmark = pytest.mark.needs_module

WB, WC, UC, UC_MINUS, WT, WP = MemType.WB, MemType.WC, MemType.UC, MemType.UC_MINUS, MemType.WT, MemType.WP
BAR = 0xFD000000

every_type = pytest.mark.parametrize("memtype", list(MemType), ids=lambda memtype: memtype.name)


@pytest.mark.layout("wb-device")
@every_type
def test_write_back_memory_mapped_uncached(guest: Guest, memtype: MemType) -> None:
    """The thread's painful case: whoever goes by the MTRRs alone, SMM say, has the same memory cached."""
    verdict = guest.verify(guest.mmio(pages=1), memtype)

    assert verdict.accepted
    assert verdict.hazards == (("mtrr-wb-uncached",) if memtype in (UC, UC_MINUS) else ())


@pytest.mark.layout(
    Layout("combining", default=UC, ranges=[MtrrRange(0, "256M", WB), MtrrRange(BAR, "16M", WC)])
)
@every_type
def test_uncached_memory_that_the_mtrrs_make_combine(guest: Guest, memtype: MemType) -> None:
    """UC- gives way to WC, UC doesn't (Intel SDM and AMD APM, tables of effective types)."""
    verdict = guest.verify(guest.mmio(pages=1), memtype)

    assert verdict.accepted
    assert verdict.hazards == (("mtrr-uncached-combines",) if memtype is UC_MINUS else ())


@pytest.mark.layout(
    Layout("protected", default=UC, ranges=[MtrrRange(0, "256M", WB), MtrrRange(BAR, "16M", WP)])
)
@pytest.mark.parametrize(
    ("vendor", "combines"), [("GenuineIntel", True), ("AuthenticAMD", False)], ids=["Intel", "AMD"]
)
def test_uncached_over_write_protected_combines_on_intel(
    guest_factory: GuestFactory, vendor: str, *, combines: bool
) -> None:
    """Intel SDM: UC- over WP is WC. AMD APM: CD."""
    guest = guest_factory(hardware=Hardware(cpu=f"qemu64,vendor={vendor}"))
    verdict = guest.verify(guest.mmio(pages=1), UC_MINUS)

    assert verdict.accepted
    assert verdict.hazards == (("mtrr-uncached-combines",) if combines else ())


PATCHWORK = Layout(
    "patchwork",
    default=UC,
    ranges=[
        MtrrRange(0, "256M", WB),
        MtrrRange(BAR, "16M", WC),
        # Overlaps of the first with each other type, from the first MiB on.
        MtrrRange(BAR + (1 << 20), "1M", WB),
        MtrrRange(BAR + (2 << 20), "1M", WT),
        MtrrRange(BAR + (3 << 20), "1M", UC),
        MtrrRange(BAR + (4 << 20), "1M", WC),
        MtrrRange(BAR + (5 << 20), "1M", WP),
    ],
)


@pytest.mark.layout(PATCHWORK)
@pytest.mark.parametrize(
    ("overlap", "undefined"),
    [("WC", False), ("WC+WB", True), ("WC+WT", True), ("WC+UC", False), ("WC+WC", False), ("WC+WP", True)],
)
def test_overlaps_without_a_defined_type(guest: Guest, overlap: str, *, undefined: bool) -> None:
    """Defined are overlaps with UC, of one type, and of WT with WB (Intel SDM vol. 3, "MTRR Precedences")."""
    number = ["WC", "WC+WB", "WC+WT", "WC+UC", "WC+WC", "WC+WP"].index(overlap)
    patch = guest.region(BAR + (number << 20), 4096)

    outcome = guest.driver("drm").ioremap(patch, WC)

    assert outcome.verdict.accepted
    assert outcome.verdict.hazards == (("mtrr-undefined",) if undefined else ())
    assert (outcome.effective is EffectiveType.UNDEFINED) == undefined


@pytest.mark.layout(PATCHWORK)
@pytest.mark.parametrize(
    ("first", "pages", "undefined"), [(255, 1, False), (255, 2, True), (767, 1, True), (768, 256, False)]
)
def test_one_undefined_page_is_enough(guest: Guest, first: int, pages: int, *, undefined: bool) -> None:
    region = guest.region(BAR + first * 4096, pages * 4096)

    verdict = guest.verify(region, WC)

    assert verdict.accepted
    assert verdict.hazards == (("mtrr-undefined",) if undefined else ())


@pytest.mark.layout(
    Layout(
        "through-and-back",
        default=UC,
        ranges=[MtrrRange(0, "256M", WB), MtrrRange(BAR, "2M", WB), MtrrRange(BAR, "1M", WT)],
    )
)
def test_write_through_wins_over_write_back(guest: Guest) -> None:
    """Defined, and so no hazard; and where it is write-through, uncached isn't the painful case."""
    verdicts = [guest.verify(guest.region(BAR + (n << 20), 1 << 20), UC) for n in (0, 1)]

    assert [verdict.hazards for verdict in verdicts] == [(), ("mtrr-wb-uncached",)]


@pytest.mark.layout(
    Layout(
        "all-of-them",
        default=WB,
        ranges=[MtrrRange(BAR, "1M", WC), MtrrRange(BAR + (1 << 19), "512K", WT)],
    )
)
def test_all_hazards_at_once(guest: Guest) -> None:
    """A large page over write-combining, undefined and write-back memory, mapped uncached."""
    outcome = guest.driver("drm").ioremap(guest.region(BAR, 2 << 20), UC_MINUS)

    assert outcome.verdict.accepted
    assert set(outcome.verdict.hazards) == {
        "mtrr-wb-uncached",
        "mtrr-mixed",
        "mtrr-undefined",
        "mtrr-uncached-combines",
    }


@pytest.mark.layout("wb-device")
def test_a_refused_request_has_no_hazards(guest: Guest) -> None:
    """They are reported beside an acceptance."""
    bar = guest.mmio(pages=1)
    assert guest.driver("drm").ioremap(bar, WC).accepted

    verdict = guest.verify(bar, UC)

    assert verdict.rule == "alias"
    assert verdict.hazards == ()


@pytest.mark.hardware(cpu="qemu64,-mtrr")
@every_type
def test_without_mtrrs_there_are_none(guest: Guest, memtype: MemType) -> None:
    """What is refused has none anyway: before 6.2 Linux leaves the PAT of the reset, without WC and WP."""
    verdict = guest.verify(guest.mmio(pages=512, align=512), memtype)

    assert verdict.accepted is (memtype in guest.registers()[0].pat)
    assert verdict.hazards == ()
