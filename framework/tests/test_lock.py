"""What ./hil installs is settled: the locks agree with pyproject.toml, with each other, and name no place."""

from __future__ import annotations

import configparser
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from memtype_support.beside_lock import LOCK, differences, pins
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ROOT = LOCK.parents[1]
RUN = _ROOT / "requirements" / "run.txt"
PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text())


def unmet(requirements: list[str], locked: dict[str, str]) -> list[str]:
    """Those that the lock doesn't meet; the cure is ``tox -e lock``."""
    missed = []
    for each in map(Requirement, requirements):
        pinned = locked.get(canonicalize_name(each.name))
        if pinned is None or not each.specifier.contains(pinned):
            missed.append(str(each))
    return missed


@pytest.mark.parametrize("lock", [RUN, LOCK], ids=lambda lock: lock.stem)
def test_it_holds_all_that_the_project_and_its_build_ask_for(lock: Path) -> None:
    asked = PROJECT["project"]["dependencies"] + PROJECT["build-system"]["requires"] + ["editables"]
    assert unmet(asked, pins(lock)) == []


def test_tools_are_locked_as_well() -> None:
    named = [*PROJECT["project"]["optional-dependencies"].values(), *PROJECT["dependency-groups"].values()]
    assert unmet([each for group in named for each in group], pins(LOCK)) == []


def test_a_requirement_that_the_lock_does_not_meet_is_seen() -> None:
    locked = {"pytest": "8.0.0"}
    assert unmet(["pytest>=8", "pytest>=9", "qemu.qmp"], locked) == ["pytest>=9", "qemu.qmp"]


def test_the_backend_has_one_bound() -> None:
    """It stands in the group that is locked and in build-system, where users' pip reads it."""
    assert set(PROJECT["build-system"]["requires"]) <= set(PROJECT["dependency-groups"]["build"])


def test_the_tests_run_on_what_runs_have() -> None:
    """./hil test adds to the .venv of ./hil run, and exchanges nothing there."""
    assert pins(RUN).items() <= pins(LOCK).items()


@pytest.mark.parametrize("lock", [RUN, LOCK], ids=lambda lock: lock.stem)
def test_versions_and_hashes_and_no_place(lock: Path) -> None:
    text = lock.read_text()
    assert re.findall(r"://|--(?:extra-)?index|--find-links|@", text) == []
    for entry in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]:
        assert re.match(r"[\w.-]+==\S+", entry)
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


def test_nothing_is_compiled() -> None:
    """A source distribution fetches tools that no lock names; ./hil and tox are what installs a lock."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(_ROOT / "tox.ini")
    assert "--only-binary :all:" in tox["testenv"]["install_command"]
    # tox's own sections have it too, unless they say otherwise.
    own = [name for name in tox.sections() if name != "testenv" and "install_command" in tox[name]]
    assert own == []
    installs = [line for line in (_ROOT / "hil").read_text().splitlines() if "--require-hashes" in line]
    assert installs
    assert all("--only-binary :all:" in line for line in installs)


def test_a_package_in_two_versions_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("numpy==2.4.6 ; python_version < '3.12' \\\n    --hash=...\nnumpy==2.5.5\n")
    with pytest.raises(ValueError, match="two versions of numpy"):
        pins(lock)


def test_another_version_is_told() -> None:
    locked = {"pytest": "0.1", "no-such-package": "1", "click": version("click")}
    assert differences(locked) == [f"pytest: {pytest.__version__}, locked 0.1"]
