"""One selection of the suite on KVM, in the outer guest, and under TCG on this host, and what differs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from outer_guest import make_payload, outer_guest
from outer_image import PROJECT, outer_image

from pytest_memtype.comparison import Comparison, compare_runs
from pytest_memtype.errors import GuestError
from pytest_memtype.kernels.bundle import Bundle, bundle
from pytest_memtype.progress import Progress

#: What each night runs.
NIGHTLY: Final = (
    # Each type before each other, by drivers and processes.
    "testcases/test_multi_driver.py",
    # Each layout by a boot of its own.
    "testcases/test_layouts.py",
    "testcases/test_ram.py",
    # Registers rewritten by a move to another QEMU.
    "testcases/test_changed_behind_the_kernel.py",
    "-k",
    # Without two CPUs, of which one waits for the other without letting it run: their templates take longer
    # than all tests of some files.
    "not (2cpu or that_disagree or other_cpu)",
)
#: What each landing runs: clones of one template, one layout with a template of its own.
LANDING: Final = (
    "testcases/test_multi_driver.py",
    "testcases/test_mtrr_layouts.py",
    "-k",
    "touching or wc-framebuffer and (requests or registers_stay)",
)
_KERNEL: Final = "debian:bookworm"
_FOLDER: Final = "/tmp/runs/runs"
_COUNTS: Final = re.compile(r"(\d+) (passed|failed|skipped|error|errors|xfailed|xpassed)\b")
_HOST_SECONDS: Final = 3600


@dataclass(frozen=True)
class Ran:
    """Tests that ran under one accelerator.

    :param counts: Of pytest's outcomes, by their names.
    :param records: The run's record file, on this host.
    :param seconds: From pytest's start to its end.
    :param output: All it printed.
    """

    counts: dict[str, int]
    records: Path
    seconds: float
    output: str


@dataclass(frozen=True)
class Held:
    """KVM held against TCG by a selection of the suite."""

    kvm: Ran
    tcg: Ran
    comparison: Comparison


def hold(
    selection: tuple[str, ...],
    folder: Path,
    *,
    timeout: float,
    progress: Progress,
    qualify: bool = False,
    echo: bool = False,
) -> Held:
    """Run a selection under both, and compare the records.

    :param selection: pytest's arguments.
    :param folder: An empty one, for records and logs.
    :param timeout: Seconds that the tests have in the outer guest.
    :param qualify: Let ``--accel auto`` decide in there before, and insist that it takes KVM.
    :param echo: Show what happens in there.
    :raises GuestError: the outer guest ended, or what is in there can't be used.
    """
    image = outer_image(progress=progress)
    # One look at the index: the outer guest has a copy of it.
    made = bundle(_KERNEL, progress=progress)
    payload = folder / "payload"
    payload.mkdir(parents=True)
    disk = make_payload(image, made, payload, progress=progress)
    with outer_guest(image, made, disk, logs=folder / "logs", progress=progress, echo=echo) as outer:
        if qualify:
            progress("letting --accel auto decide in the outer guest")
            reason = outer.qualify(timeout=timeout)
            progress(f"auto took KVM: {reason}")
        progress("running the tests on KVM")
        done = outer.test(["--kernel", made.spec, *selection], timeout=timeout)
        records = folder / "kvm" / "records.jsonl"
        records.parent.mkdir()
        records.write_bytes(outer.read(f"{_FOLDER}/*/records.jsonl") if done.output.count("PASSED") else b"")
        kvm = Ran(counts(done.output), records, done.seconds, done.output)
    progress("running the same tests under TCG on this host")
    tcg = _under_tcg(made, selection, folder / "tcg")
    if not records.stat().st_size:
        raise GuestError("no test passed on KVM", details=tuple(kvm.output.splitlines()[-30:]))
    return Held(kvm, tcg, compare_runs([kvm.records, tcg.records]))


def _under_tcg(made: Bundle, selection: tuple[str, ...], folder: Path) -> Ran:
    start = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:random_order", "-n0", "-v"]
    command += ["--rootdir", str(PROJECT), "-c", str(PROJECT / "pyproject.toml")]
    command += ["--memtype-dir", str(folder), "--accel", "tcg", "--kernel", made.spec, *selection]
    # The outer pytest's options are not this one's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_HOST_SECONDS,
        check=False,
    )
    runs = sorted((folder / "runs").glob("*/records.jsonl"))
    if not runs:
        raise GuestError("no test ran under TCG", details=tuple(done.stdout.splitlines()[-30:]))
    return Ran(counts(done.stdout), runs[-1], time.monotonic() - start, done.stdout)


def counts(output: str) -> dict[str, int]:
    """The figures of pytest's last line."""
    last = next((line for line in reversed(output.splitlines()) if line.startswith("=")), "")
    return {name.removesuffix("s"): int(number) for number, name in _COUNTS.findall(last)}
