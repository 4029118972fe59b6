"""Lines on MTRRs that list no register and complain of nothing."""

from __future__ import annotations

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import explain


def test_an_overwritten_state_is_no_complaint() -> None:
    found = explain(read("[    0.026733] MTRRs set to read-only\n"), [])
    assert not found.dump.unread
    assert found.about.main is None


def test_coreboots_check_is_understood() -> None:
    text = "CPU #0 initialized\n\nMTRR check\nFixed MTRRs   : Enabled\nVariable MTRRs: Enabled\n\n"
    found = explain(read(text * 2), [])
    assert not found.dump.unread
    assert "wasn't understood" not in found.story.answer
    (listing,) = found.dump.mtrrs
    assert (listing.source, listing.enabled, listing.fixed_enabled) == ("coreboot", True, True)
    assert found.machine is None
