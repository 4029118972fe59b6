"""One selection of the suite on KVM, in the outer guest, and under TCG on this host, and what differs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memtype_support.kvm.outer_guest import RUNS, Livelock, Outer, make_payload, memory_problem, outer_guest
from memtype_support.kvm.outer_image import PROJECT, outer_image
from pytest_memtype.commands.compare_kernels import Comparison, compare_runs
from pytest_memtype.errors import GuestError, HostError, UsageError
from pytest_memtype.host.progress import Progress
from pytest_memtype.kernels.bundle import Bundle, bundle

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
_FOLDER: Final = f"{RUNS}/runs"
_COUNTS: Final = re.compile(r"(\d+) (passed|failed|skipped|error|errors|xfailed|xpassed)\b")
_HOST_SECONDS: Final = 3600
#: Tests that run in one clone of the outer guest: less than it takes for a livelock, as a rule.
_PORTION: Final = 25
#: Of one portion in turn. A third of all portions hang: a limit for all of them would end one run in seven.
_MOST_LIVELOCKS: Final = 4
_PYTEST: Final = (
    *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:random_order"),
    *("--rootdir", str(PROJECT), "-c", str(PROJECT / "pyproject.toml")),
)


@dataclass(frozen=True)
class Ran:
    """Tests that ran under one accelerator.

    :param counts: Of pytest's outcomes, by their names.
    :param records: The run's record file, on this host.
    :param seconds: From pytest's start to its end.
    :param output: All it printed.
    :param livelocks: How often a portion had to be run again, see :class:`outer_guest.Livelock`.
    """

    counts: dict[str, int]
    records: Path
    seconds: float
    output: str
    livelocks: int = 0


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
    :raises HostError: the host hasn't the memory for it.
    """
    problem = memory_problem()
    if problem is not None:
        raise HostError(problem)
    image = outer_image(progress=progress)
    # One look at the index: the outer guest has a copy of it.
    made = bundle(_KERNEL, progress=progress)
    payload = folder / "payload"
    payload.mkdir(parents=True)
    disk = make_payload(image, made, payload, progress=progress)

    def start(name: str) -> AbstractContextManager[Outer]:
        return outer_guest(image, made, disk, logs=folder / f"logs-{name}", progress=progress, echo=echo)

    if qualify:
        progress("letting --accel auto decide in the outer guest")
        with start("auto") as outer:
            progress(f"auto took KVM: {outer.qualify(timeout=timeout)}")
    kvm = _on_kvm(start, portions(_collected(made, selection)), folder / "kvm", timeout, progress)
    progress("running the same tests under TCG on this host")
    tcg = _under_tcg(made, selection, folder / "tcg")
    if not kvm.records.stat().st_size:
        raise GuestError("no test passed on KVM", details=tuple(kvm.output.splitlines()[-30:]))
    return Held(kvm, tcg, compare_runs([kvm.records, tcg.records]))


def portions(tests: Sequence[str]) -> list[list[str]]:
    """Tests in the portions that run in a clone of the outer guest each."""
    return [list(tests[first : first + _PORTION]) for first in range(0, len(tests), _PORTION)]


def _collected(made: Bundle, selection: tuple[str, ...]) -> list[str]:
    """The ids of the selected tests."""
    done = on_this_host(
        [*_PYTEST, "--kernel", made.spec, "--collect-only", "-q", "--no-header", *selection],
        what="collecting the tests",
    )
    # A last line with their number has none.
    found = [line for line in done.stdout.splitlines() if "::" in line]
    if not found:
        said = (done.stdout + done.stderr)[-2000:]
        raise UsageError(f"no test is selected by {' '.join(selection)}", details=(said,))
    return found


def _on_kvm(
    start: Callable[[str], AbstractContextManager[Outer]],
    parts: Sequence[list[str]],
    folder: Path,
    timeout: float,
    progress: Progress,
) -> Ran:
    folder.mkdir()
    records = folder / "records.jsonl"
    totals: Counter[str] = Counter()
    outputs: list[str] = []
    livelocks, deadline, seconds = 0, time.monotonic() + timeout, 0.0
    for number, tests in enumerate(parts, start=1):
        in_turn = 0
        while True:
            progress(f"running {len(tests)} tests on KVM, portion {number} of {len(parts)}")
            try:
                with start(f"{number}-{livelocks}") as outer:
                    done = outer.test(tests, timeout=deadline - time.monotonic())
                    written = outer.read(f"{_FOLDER}/*/records.jsonl") if "PASSED" in done.output else b""
                break
            except Livelock as error:
                # Most likely the emulator's fault, and so it is run again; but never silently.
                livelocks, in_turn = livelocks + 1, in_turn + 1
                progress(f"{error.message} ({livelocks} times so far); the portion is run again")
                if in_turn > _MOST_LIVELOCKS:
                    raise
        totals += Counter(counts(done.output))
        outputs.append(done.output)
        seconds += done.seconds
        with records.open("ab") as file:
            file.write(written)
    return Ran(dict(totals), records, seconds, "\n".join(outputs), livelocks)


def on_this_host(
    command: Sequence[str], *, what: str, timeout: float = _HOST_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout.

    :param what: It, as the beginning of a sentence.
    :param timeout: Seconds that it has.
    :raises HostError: it takes longer.
    """
    try:
        return subprocess.run(
            command,
            cwd=PROJECT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"{what} took more than {timeout:.0f} s; is the host busy?") from None


def _environment() -> dict[str, str]:
    """Of a pytest whose options aren't those of one that runs this."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def _under_tcg(made: Bundle, selection: tuple[str, ...], folder: Path) -> Ran:
    start = time.monotonic()
    command = [*_PYTEST, "-n0", "-v", "--memtype-dir", str(folder), "--accel", "tcg", "--kernel", made.spec]
    command += selection
    done = on_this_host(command, what="the tests under TCG")
    runs = sorted((folder / "runs").glob("*/records.jsonl"))
    if not runs:
        raise GuestError(
            "no test ran under TCG", details=tuple((done.stdout + done.stderr).splitlines()[-30:])
        )
    return Ran(counts(done.stdout), runs[-1], time.monotonic() - start, done.stdout)


def counts(output: str) -> dict[str, int]:
    """The figures of pytest's last line."""
    last = next((line for line in reversed(output.splitlines()) if line.startswith("=")), "")
    return {name.removesuffix("s"): int(number) for number, name in _COUNTS.findall(last)}
