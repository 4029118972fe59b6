"""``memtype run --target`` as a user sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from memtype_support.effort import effort
from memtype_support.hand_started import CONFIG, HandStarted

from pytest_memtype.host import resources

pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("target")]

TESTS = resources.testcases()
FEW = (
    "test_multi_driver.py::test_two_drivers",
    "test_mtrr.py",
    "test_user_mapping_lifetimes.py",
    "test_ram.py",
)


def run(machine: HandStarted, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pytest_memtype.cli import main; main()", "run"]
    command += ["--target", machine.url]
    command += ["--console", f"socket://127.0.0.1:{machine.console_port}", "-p", "no:cacheprovider", "-q"]
    # Not the options of the pytest that runs this test.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "machine.toml"
    path.write_text(CONFIG)
    return path


def test_the_suite_passes(machine: HandStarted, config: Path, tmp_path: Path) -> None:
    tests = effort(quick=[str(TESTS / name) for name in FEW], long=[])
    done = run(machine, tmp_path, "--target-config", str(config), "-rs", *tests)
    assert done.returncode == 0, done.stdout
    assert " passed, " in done.stdout
    assert "ram: the machine's owner has not allowed that" in done.stdout
    assert "a target's MTRRs can't be set by a boot ROM, as layout 'wb-device' wants" in done.stdout
    assert "a target is the hardware that it is, and this test wants other" in done.stdout
    # 6.1 keeps them after a part of a mapping was unmapped.
    assert "reservations that the target's kernel keeps until it reboots" in done.stdout
    assert machine.left() == ""


def test_without_a_file_it_says_what_to_write(machine: HandStarted, tmp_path: Path) -> None:
    done = run(machine, tmp_path)
    assert done.returncode == 2
    assert "nothing was done there, because no file says which device memory tests may use" in done.stderr
    assert "[[memory]]\naddress = 0xfd000000\n" in done.stderr
    assert machine.left() == ""


def test_a_dry_run_prints_operations(machine: HandStarted, config: Path, tmp_path: Path) -> None:
    # The second waits by pytest.raises() for what a made-up answer isn't.
    tests = [str(TESTS / name) for name in ("test_multi_driver.py::test_two_drivers", "test_process_ends.py")]
    done = run(machine, tmp_path, "--target-config", str(config), "--dry-run", "-rs", *tests)
    assert done.returncode == 0, done.stdout
    assert "dry run: bring the agent and the module to ssh://" in done.stdout
    assert "dry run: ioremap start=0xfd000000 " in done.stdout
    assert "and none was carried out" in done.stdout
    assert " passed" not in done.stdout
    assert machine.left() == ""


def test_several_processes_can_not_share_it(machine: HandStarted, config: Path, tmp_path: Path) -> None:
    done = run(machine, tmp_path, "--target-config", str(config), "-n", "2")
    assert done.returncode == 2
    assert "only one process can use it; give -n 0" in done.stderr
