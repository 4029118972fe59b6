"""What is published: the wheel and the source distribution, and what their metadata says."""

from __future__ import annotations

import email
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=280)
    return folder


def test_the_wheel_has_all_that_a_run_needs(built: Path) -> None:
    (path,) = built.glob("pytest_memtype-*-py3-none-any.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        about = email.message_from_bytes(wheel.read(metadata))
    package = "pytest_memtype"
    assert {
        f"{package}/py.typed",
        f"{package}/templates/ci.sh",
        f"{package}/templates/github.yml",
        f"{package}/layouts/firmware.toml",
        f"{package}/_data/guests/module/main.c",
        f"{package}/_data/kernels/default.toml",
        f"{package}/_data/testcases/test_multi_driver.py",
        f"{metadata.removesuffix('METADATA')}licenses/LICENSE",
        f"{metadata.removesuffix('METADATA')}entry_points.txt",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "memtype_support/", "framework/"))]
    assert (about["License-Expression"], about["License-File"]) == ("MIT", "LICENSE")
    assert about["Requires-Python"] == ">=3.11"
    assert about.get_all("Project-URL")
    assert "Typing :: Typed" in about.get_all("Classifier", [])


def test_the_source_distribution_can_be_tested(built: Path) -> None:
    (path,) = built.glob("pytest_memtype-*.tar.gz")
    with tarfile.open(path) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"LICENSE", "README.md", "hil", "tox.ini", "requirements/test.txt", "PKG-INFO"} <= names
    assert {"guests/module/main.c", "testcases/test_ram.py", "framework/tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith((".venv", ".memtype", ".ci-cache"))]
