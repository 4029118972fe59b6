"""The module builds without a warning for every series there is, and works on the oldest and the newest."""

from __future__ import annotations

import pytest
from memtype_support.effort import effort

from pytest_memtype import MemType
from pytest_memtype.host.progress import silent
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels.index import newest_of_each_series
from pytest_memtype.kernels.kept_indexes import every
from pytest_memtype.kernels.prepare import prepare
from pytest_memtype.plugin.fixtures import GuestFactory

RELEASED = ("debian:bullseye", "debian:bookworm", "debian:trixie")


@pytest.mark.parametrize("spec", ["debian:bullseye", "debian:bookworm", "debian:trixie-backports"])
def test_series(guest_factory: GuestFactory, spec: str) -> None:
    """5.10 with gcc-10, 6.1 with gcc-12, and 7.x with gcc-14."""
    guest = guest_factory(kernel=spec)
    bar = guest.mmio(pages=2)

    assert guest.driver("drm").ioremap(bar, MemType.WC).accepted
    second = guest.process("X").mmap(bar, MemType.UC_MINUS, via="sysfs")

    assert second.verdict.rule == "alias"
    assert second.granted is MemType.WC
    assert [mapping.owner for mapping in guest.tracked(bar)] == ["drm"]


@pytest.mark.timeout(3600)
def test_the_module_builds_for_every_series() -> None:
    """For the newest kernel of each series that the mirror has headers of; with long effort the oldest too.

    A kernel that the mirror lists and doesn't deliver says nothing about the module, and which it has today
    is nobody's fault. What its releases' users have, it delivers.
    """
    there = [each for each in every(cache=cache_directory(), progress=silent) if each.headers]
    oldest = {each.series: each for each in reversed(there)}.values() if effort(quick=0, long=1) else ()
    wanted = dict.fromkeys((*newest_of_each_series(there), *oldest))
    done = prepare([*RELEASED, *(f"debian:{each.release}" for each in wanted)])
    broken = [str(status.error) for status in done if "doesn't build" in status.text]
    assert broken == []
    built = [status.spec for status in done if status.made is not None and status.made.module]
    assert built[: len(RELEASED)] == list(RELEASED)
