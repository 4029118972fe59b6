"""Each QEMU that Debian has, on this host: booted, saved, cloned, audited, changed from outside.

The whole suite on whole machines of other releases is ``tox -e hosts``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from memtype_support import mounts
from memtype_support.qemu_of_suite import SUITES, namespace, program_of, series_of

from pytest_memtype.errors import Unreachable
from pytest_memtype.host.program import run_to_end
from pytest_memtype.machine.qemu_versions import QEMU, TESTED, ask, this_qemu

ROOT = Path(__file__).parents[3]

#: At least 60 tests, of everything that has a QEMU of its own kind to deal with.
SELECTION = (
    # Boot-ROM layouts, templates, clones, the audit behind each.
    "testcases/test_multi_driver.py",
    "testcases/test_mtrr_layouts.py",
    # OVMF, RAM above 4 GiB.
    "testcases/test_hardware.py",
    "testcases/test_smm.py",
    # change_registers(), with 2 CPUs too; registers inside and outside.
    "testcases/test_changed_behind_the_kernel.py",
    "framework/tests/machine/test_change_registers.py",
    "framework/tests/machine/test_vcpu_registers.py",
    # A clone beside a boot; no launcher, since these QEMUs are started by a script.
    "framework/tests/run/test_boot.py",
    "framework/tests/machine/test_template.py",
    # A display and its picture, audit --qmp of a foreign QEMU, memtype shell.
    "framework/tests/guest/test_screenshot.py",
    "framework/tests/audit/test_command.py",
    "framework/tests/commands/test_shell.py",
)
CHOSEN = (
    "touching or painful-case or other_cpus or uefi or ram_above or tseg or window or behind_the_kernel "
    "or test_rewrite or test_registers_outside or boot-rom or test_template or test_screen or test_command "
    "or (shell_on_the_console and guest0)"
)
_AUDIT_COMMAND = "framework/tests/audit/test_command.py"


def left_out(uid: int) -> dict[str, str]:
    """The tests of the selection that a user can't run on these QEMUs, and why."""
    if uid == 0:
        return {}
    return {
        f"{_AUDIT_COMMAND}::test_a_qemu_of_somebody_elses": "a QEMU in a mount namespace of its own is "
        "audited by root only, and a plain user's QEMU of another suite runs in one",
        f"{_AUDIT_COMMAND}::test_the_program_of_another_user_is_not_run": "only root can give a "
        "file to another user",
    }


def _reason_not_to_run(suite: str, series: str) -> str:
    """Why the tests of another suite or host say all that these would; empty if none does."""
    version = tuple(map(int, series.split(".")))
    if version > TESTED[-1]:
        return f"QEMU {series} is newer than any that was tested: tox -e hosts says whether it works"
    if version == this_qemu().version[:2]:
        return f"this host's own QEMU is a {series} too, which all other tests run on"
    others = [other for other in SUITES if other != suite and not other.endswith("-backports")]
    if suite.endswith("-backports") and series in map(series_of, others):
        return f"QEMU {series} is another suite's too"
    return ""


def collected(*options: str) -> set[str]:
    """The tests that a selection has here."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--collect-only",
        "-q",
        "--no-header",
    ]
    done = subprocess.run(
        [*command, "-k", CHOSEN, *options, *SELECTION],
        cwd=ROOT,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return {line for line in done.stdout.splitlines() if "::" in line}


def test_a_plain_user_is_asked_for_nothing_that_takes_root() -> None:
    assert left_out(0) == {}
    whole = collected()
    rest = collected(*(f"--deselect={test}" for test in left_out(1000)))
    gone = whole - rest
    assert {test.partition("[")[0] for test in gone} == set(left_out(1000))
    assert len(rest) >= 60


def _environment() -> dict[str, str]:
    """Of a pytest whose options aren't those of one that runs this."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder beside pytest's own, that is gone with the test."""
    with tempfile.TemporaryDirectory(prefix="q-") as name:
        yield Path(name)


def _at_hand(suite: str) -> tuple[str, Path]:
    """The series of a suite's QEMU, and the folder with its program; or the test is skipped.

    :raises Unreachable: it isn't in the cache, and no mirror can be asked.
    """
    series = series_of(suite)
    reason = f"{suite} has no QEMU of its own" if series is None else _reason_not_to_run(suite, series)
    if series is None or reason:
        pytest.skip(reason)
    mounts.require(namespace())
    return series, program_of(suite)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("suite", SUITES)
def test_selection(suite: str, tmp_path: Path, short_folder: Path) -> None:
    try:
        series, program = _at_hand(suite)
    except Unreachable as error:
        pytest.skip(error.message)
    asked = ask(str(program / QEMU))
    assert asked.version[:2] == tuple(map(int, series.split(".")))
    environment = {**_environment(), "PATH": f"{program}{os.pathsep}{os.environ['PATH']}"}
    report, logs = tmp_path / "report.xml", tmp_path / "logs"
    # A test's name in our folder's in pytest's makes paths that are too long for a socket.
    folders = short_folder / "t"
    command = [sys.executable, "-m", "pytest", "-q", "-k", CHOSEN, *SELECTION, "--keep-logs"]
    for test, why in left_out(os.geteuid()).items():
        command.append(f"--deselect={test}")
        # Of a test that passes nobody sees what it prints.
        warnings.warn(f"QEMU {series}: left out {test}: {why}", stacklevel=1)
    command += [f"--junitxml={report}", f"--basetemp={folders}", f"--memtype-dir={logs}"]
    done = run_to_end(command, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout[-20_000:]
    (result,) = Xml.parse(report).iter("testsuite")
    assert int(result.attrib["tests"]) >= 60
    assert result.attrib["skipped"] == "0", done.stdout
    # A host with other work can have no template made, and says so; QEMU isn't to blame for that.
    failures = re.findall(r"because a clone failed: (.*)", done.stdout)
    assert [each for each in failures if "this host was too busy" not in each] == []
    printed = [*logs.rglob("qemu.log"), *folders.rglob("qemu.log")]
    assert len(printed) >= 60
    complaints = {line for path in printed for line in path.read_text(errors="replace").splitlines()}
    # Of what tests provoke QEMU says other things.
    unasked = sorted(line for line in complaints if "deprecated" in line or "warning" in line)
    # What a new micro version of QEMU finds deprecated is no fault of whoever tests a change on that day.
    if os.environ.get("MEMTYPE_HOSTS") == "1":
        assert unasked == []
    for line in unasked:
        warnings.warn(f"QEMU {series} says: {line}", stacklevel=1)
