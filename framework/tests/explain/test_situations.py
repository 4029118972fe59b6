"""Situations at random in real guests, each told by its guest's log alone: nothing wrong may be said of them.

``MEMTYPE_TEST_EFFORT=long`` tries 200, on four series; the figures are printed (``pytest -s``).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from memtype_support.effort import effort
from memtype_support.situations import SERIES, Told, situations

from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import as_json, explain
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import bundle


def judged(found: dict[str, object], told: Told) -> tuple[str, str]:
    """``right``, ``wrong`` or ``less``, and what is wrong or missing."""
    expected = {
        "range": [f"{told.span[0]:#x}", f"{told.span[1]:#x}"] if told.span else "none",
        "asked": told.asked.name if told.asked is not None else "none",
        "held": [each.name for each in told.held] or "none",
        "known_bug": told.bug or "none",
    }
    less = []
    for key, value in expected.items():
        got = found[key]
        if got == value or (
            isinstance(got, list) and isinstance(value, list) and sorted(got) == sorted(value)
        ):
            continue
        if got != "none":
            return "wrong", f"{key}: {got} for {value}"
        less.append(key)
    return ("less", ", ".join(less)) if less else ("right", "")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kernel", effort(quick=SERIES[:1], long=SERIES))
def test_situations(kernel: str, tmp_path: Path) -> None:
    bugs = [each.bug for each in catalogue()]
    made = bundle(kernel, progress=silent)
    results: Counter[str] = Counter()
    remarks = []
    for seed in range(effort(quick=1, long=5)):
        logs = tmp_path / f"guest-{seed}"
        for each in situations(made, kernel, seed, count=10, logs=logs):
            found = as_json(explain(read(each.text), bugs))
            result, what = judged(found, each.told)
            results[result] += 1
            if result != "right":
                remarks.append(f"{each.name}: {result}: {what}\n{each.text}")
    print(f"{kernel}: {dict(results)}")
    total = sum(results.values())
    assert not results["wrong"], "\n\n".join(remarks)
    assert results["right"] >= 0.95 * total, "\n\n".join(remarks)
