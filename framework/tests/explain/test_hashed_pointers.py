"""Pointers that Linux prints hashed (%p since 4.15) and that nobody may take for addresses."""

from __future__ import annotations

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import as_json, explain


def test_numbers_that_are_no_addresses_are_called_so() -> None:
    text = (
        "[ 4.302289] Failed to add WC MTRR for [000000000998bb55-00000000eb9e681e]; performance may suffer."
    )
    assert "no addresses" in explain(read(text), []).story.answer
    assert "998bb55" not in explain(read(text), []).story.answer
    real = text.replace("000000000998bb55-00000000eb9e681e", "00000000d0000000-00000000dfffffff")
    assert "for 0xd0000000-0xdfffffff (256M)" in explain(read(real), []).story.answer


def test_no_free_mtrr_for_a_hashed_range() -> None:
    text = (
        "[ 4.302288] mtrr: no more MTRRs available\n"
        "[ 4.302289] Failed to add WC MTRR for [000000000998bb55-00000000eb9e681e]; performance may suffer.\n"
    )
    assert as_json(explain(read(text), []))["range"] == "none"
