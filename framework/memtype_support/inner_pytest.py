"""The pytest that a test of the plugin runs, in a folder of its own, and what it runs there."""

from __future__ import annotations

import pytest

# As docs and api.md show it.
EXAMPLE = """
from pytest_memtype import MemType

def test_second_driver_must_match(guest):
    bar = guest.mmio(pages=4)
    first = guest.driver("drm").ioremap(bar, MemType.WC)
    second = guest.driver("fbdev").ioremap(bar, MemType.UC_MINUS)
    assert first.accepted and first.granted is MemType.WC
    assert second.verdict.rejected and second.verdict.rule == "alias"
    assert second.verdict.conflict.owner == "drm"
    assert second.kernel.accepted and second.granted is MemType.WC
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)
