"""A short run of the fuzzer, and what it makes of a verifier that is wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from memtype_support.verifier_fuzzer import FaultFound, fuzz

from pytest_memtype.host.resources import guest_sources

_SECONDS = 10

# With seeds 1 to 6 (clang 14) the faults below were found within 11,516 inputs.
_INPUTS = 100_000


def test_no_input_of_a_short_run_shows_a_fault(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """It begins with the inputs that ``tox -e fuzz`` keeps in ``.memtype/fuzz``, and adds one that fails."""
    kept = pytestconfig.invocation_params.dir / ".memtype" / "fuzz"
    if (kept / "corpus").is_dir():
        shutil.copytree(kept / "corpus", tmp_path / "corpus")
    try:
        assert fuzz(tmp_path, seconds=_SECONDS).startswith("Done ")
    except FaultFound:
        kept.mkdir(parents=True, exist_ok=True)
        for failing in tmp_path.glob("*-*"):
            shutil.copy(failing, kept)
        raise


@pytest.mark.parametrize(
    ("right", "wrong", "report"),
    [
        pytest.param(
            "\t\t\ttail->first = last + 1;\n",
            "\t\t\ttail->first = last;\n",
            # Records that overlap are found by what the library answers, or by a loop over them.
            "not so|libFuzzer: timeout",
            id="off by one",
        ),
        pytest.param(
            "\tkfree(record);\n}\n",
            "}\n",
            r"not so: library_stop\(\) == 0",
            id="leak",
        ),
        pytest.param(
            "\trecords_remove(record, verifier_tree_of(verifier, record->space, record->memtype));\n",
            "",
            "heap-use-after-free",
            id="use after free",
        ),
    ],
)
def test_a_fault_is_found_and_can_be_replayed(tmp_path: Path, right: str, wrong: str, report: str) -> None:
    module = tmp_path / "module"
    shutil.copytree(guest_sources() / "module", module)
    source = (module / "verifier.c").read_text()
    assert source.count(right) == 1
    (module / "verifier.c").write_text(source.replace(right, wrong))
    with pytest.raises(FaultFound, match="to replay it: ") as found:
        fuzz(tmp_path, runs=_INPUTS, seed=1, module=module)
    assert re.search(report, str(found.value))
    replay = str(found.value).rpartition("to replay it: ")[2].split()
    done = subprocess.run(replay, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert re.search(report, done.stderr)
