"""Situations at random in real guests: their reports' lines are said again by another guest.

``MEMTYPE_TEST_EFFORT=long`` tries 200 of which the kernel says something, on four series; the figures are
printed (``pytest -s``). Guests are cloned from templates, so that 200 reports don't want 200 boots.
"""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from memtype_support.effort import effort
from memtype_support.situations import SERIES, Situation, by_clone, situations

from pytest_memtype.dumps.read import read
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.reproduce.nearest_kernel import Candidate
from pytest_memtype.reproduce.outcome import Outcome, Verdict, reproduce
from pytest_memtype.spec.linux_versions import parse_version

_OF_ITS_GUEST = re.compile(r"^\[ *\d+\.\d+\] |(?<=x86/PAT: )\S+:\d+ ")
"""The time of a line, and the process that was running."""


def judged(outcome: Outcome, each: Situation) -> tuple[str, str]:
    """``right``, ``wrong`` or ``missed``, with the reason. Silence is right where nothing was said."""
    if not each.lines:
        silent_, what = outcome.verdict is Verdict.NOTHING, f"{outcome.verdict.headline} of nothing"
        return ("silent", "") if silent_ else ("wrong", what)
    if outcome.verdict is not Verdict.REPRODUCED:
        return "missed", f"{outcome.verdict.headline}: {outcome.why}"
    assert outcome.plan is not None
    if any(part.setting.offset for part in outcome.plan.parts):
        return "missed", "at another address"
    # By their letters: what reproduce itself compares is what the reader has understood.
    asked = {_OF_ITS_GUEST.sub("", line) for line in each.lines}
    said = {_OF_ITS_GUEST.sub("", line) for line in outcome.attempts[0].lines}
    return ("right", "") if asked <= said else ("wrong", f"REPRODUCED without {sorted(asked - said)}")


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kernel", effort(quick=SERIES[:1], long=SERIES))
def test_situations_are_made_again(kernel: str, tmp_path: Path) -> None:
    made = bundle(kernel, progress=silent)
    known = [Candidate(f"debian:{made.release}", parse_version(made.version))]
    results: Counter[str] = Counter()
    remarks, seconds = [], []
    for seed in range(effort(quick=1, long=5)):
        logs = tmp_path / f"guest-{seed}"
        left = effort(quick=8, long=10)
        with closing(situations(made, kernel, seed, count=100, logs=logs)) as every:
            for each in every:
                began = time.monotonic()
                dump = read(each.text)
                outcome = reproduce(
                    dump, known, specs=[kernel], accelerator="auto", progress=silent, start=by_clone
                )
                result, what = judged(outcome, each)
                results[result] += 1
                if each.lines:
                    seconds.append(time.monotonic() - began)
                    left -= 1
                if result in ("missed", "wrong"):
                    remarks.append(f"{each.name}: {result}: {what}\n{each.text}")
                    print(remarks[-1], flush=True)
                if not left:
                    break
    median = statistics.median(seconds)
    print(f"{kernel}: {dict(results)}; a report took {median:.1f} s (median), {max(seconds):.1f} s at most")
    assert not results["wrong"], "\n\n".join(remarks)
    assert results["right"] >= 0.8 * (results["right"] + results["missed"]), "\n\n".join(remarks)
