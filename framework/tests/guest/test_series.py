"""The module builds without a warning for the oldest and the newest kernels, and works there."""

from __future__ import annotations

import pytest

from pytest_memtype import MemType
from pytest_memtype.plugin import GuestFactory


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
