"""``./hil``: when ``.venv`` counts as good, and what is installed for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
#: What pip would take minutes for.
_NO_PIP = f"""
without_pip() {{ '{sys.executable}' "$@" --without-pip; }}
find_python() {{ echo without_pip; }}
install_lock() {{ echo "lock of $1"; }}
pip_install() {{ (cd "$venv"/lib/python3.*/site-packages && mkdir -p pytest_memtype); }}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the script, what it looks at, and a .venv that it has made for ``./hil run``."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("hil", "pyproject.toml"):
        shutil.copy(_ROOT / name, folder)
    shutil.copytree(_ROOT / "requirements", folder / "requirements")
    venv.create(folder / ".venv", symlinks=True)
    (folder / ".venv" / ".made-by-hil").touch()
    (site,) = folder.glob(".venv/lib/python3.*/site-packages")
    (site / "pytest_memtype").mkdir()
    assert hil(folder, 'stamp_for run >"$stamp"') == (0, "")
    return folder


def hil(checkout: Path, script: str, *, path: Path | None = None) -> tuple[int, str]:
    """Status and output of shell lines that know the script's functions.

    :param path: The only folder in which they find programs.
    """
    done = subprocess.run(
        ["/bin/bash", "-c", f"source {checkout}/hil help >/dev/null\n{script}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": str(path) if path else f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": "/dev/null/none",
        },
    )
    return done.returncode, done.stdout


def few_programs(tmp_path: Path) -> Path:
    """A folder with what the script looks at ``.venv`` with, and no other program."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("cat", "cut", "dirname", "readlink", "sha256sum"):
        program = shutil.which(name)
        assert program is not None
        (programs / name).symlink_to(program)
    return programs


def upgrade(checkout: Path) -> None:
    """Leave .venv as an upgrade of the system does, whose python3 is another one from then on."""
    (library,) = checkout.glob(".venv/lib/python3.*")
    library.rename(library.with_name("python3.0"))


def change_the_lock(checkout: Path) -> None:
    with (checkout / "requirements" / "run.txt").open("a") as file:
        file.write("more==1\n")


def rewrite(checkout: Path, old: str, new: str) -> None:
    """Put other words into pyproject.toml."""
    file = checkout / "pyproject.toml"
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def change_the_metadata(checkout: Path) -> None:
    rewrite(checkout, '"pytest>=8"', '"pytest>=8.1"')


def lose_python(checkout: Path) -> None:
    for program in (checkout / ".venv" / "bin").glob("python*"):
        program.unlink()


def be_cut_off(checkout: Path) -> None:
    (checkout / ".venv" / ".hil-stamp").unlink()


CHANGES = [upgrade, change_the_lock, change_the_metadata, lose_python, be_cut_off]


def test_a_venv_is_good_for_what_it_was_made_for(checkout: Path) -> None:
    assert hil(checkout, "venv_is_for run")[0] == 0
    assert hil(checkout, "venv_is_for test")[0] == 1
    assert hil(checkout, f"{_NO_PIP} command=run; make_venv") == (0, "")
    moved = checkout.rename(checkout.with_name("elsewhere"))
    assert hil(moved, "venv_is_for run")[0] == 1


@pytest.mark.parametrize("command", ["test", "lint"])
def test_the_tools_of_the_tests_are_added(checkout: Path, command: str) -> None:
    assert hil(checkout, f"{_NO_PIP} command={command}; make_venv") == (0, "lock of test\n")
    assert hil(checkout, "venv_is_for test")[0] == 0


def test_a_link_means_the_checkout_that_it_leads_to(checkout: Path, tmp_path: Path) -> None:
    precious = tmp_path / ".venv" / "precious"
    precious.parent.mkdir()
    precious.touch()
    (tmp_path / "hil").symlink_to(checkout / "hil")
    be_cut_off(checkout)
    assert hil(tmp_path, f"{_NO_PIP} command=run; make_venv") == (0, "lock of run\n")
    assert precious.exists()
    assert hil(checkout, "venv_is_for run")[0] == 0


def test_a_venv_of_others_stays(checkout: Path) -> None:
    be_cut_off(checkout)
    (checkout / ".venv" / ".made-by-hil").unlink()
    status, output = hil(checkout, f"exec 2>&1; {_NO_PIP} command=run; make_venv")
    assert status == 3
    (line,) = output.splitlines()
    assert line.startswith(f"hil: {checkout}/.venv is not of hil's making")
    assert (checkout / ".venv" / "pyvenv.cfg").exists()


def test_a_venv_of_an_older_hil_is_made_anew(checkout: Path) -> None:
    """It had no mark, and its stamp when it was done."""
    (checkout / ".venv" / ".made-by-hil").unlink()
    change_the_lock(checkout)
    assert hil(checkout, f"{_NO_PIP} command=run; make_venv") == (0, "lock of run\n")
    assert (checkout / ".venv" / ".made-by-hil").exists()


def test_a_copy_of_the_script_alone_does_nothing(checkout: Path, tmp_path: Path) -> None:
    shutil.copy(checkout / "hil", tmp_path)
    status, output = hil(tmp_path, f"exec 2>&1; {_NO_PIP} command=run; set_up")
    assert (status, output) == (3, f"hil: {tmp_path} is no checkout of pytest-memtype; run the hil of one\n")


def test_an_activated_venv_is_not_made_of_itself(checkout: Path) -> None:
    inside = checkout / ".venv" / "bin"
    program = f'PATH="{inside}:$PATH" source {checkout}/hil help >/dev/null; find_python'
    done = subprocess.run(["/bin/bash", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip()
    assert not done.stdout.startswith(str(inside))


def test_checks_need_no_package_of_the_host_but_python(checkout: Path, tmp_path: Path) -> None:
    programs = few_programs(tmp_path)
    assert hil(checkout, "command=lint; missing_packages", path=programs) == (0, "")
    assert "qemu-system-x86" in hil(checkout, "command=run; missing_packages", path=programs)[1]


def test_a_tool_that_is_not_there_ends_with_3(checkout: Path) -> None:
    assert hil(checkout, "run_checks nonsense")[0] == 3
    tool = checkout / ".venv" / "bin" / "tool"
    tool.write_text('#!/bin/sh\necho "$@"\n')
    tool.chmod(0o755)
    assert hil(checkout, "run_checks tool one 'two three'") == (0, "one two three\n")


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_made_anew(checkout: Path, change: object) -> None:
    assert callable(change)
    change(checkout)
    assert hil(checkout, "venv_is_for run test")[0] == 1
    assert hil(checkout, f"{_NO_PIP} command=run; make_venv") == (0, "lock of run\n")
    assert hil(checkout, "venv_is_for run")[0] == 0
    assert not list(checkout.glob(".venv/lib/python3.0"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[build-system]", "# A comment.\n[build-system]"),
        ("line-length = 110", "line-length = 100"),
        ("timeout = 300", "timeout = 200"),
        ("exhaustive = true", "exhaustive = false"),
        ('name = "Fixed"', 'name = "Mended"'),
    ],
)
def test_settings_of_tools_do_not_make_it_anew(checkout: Path, old: str, new: str) -> None:
    rewrite(checkout, old, new)
    assert hil(checkout, "venv_is_for run")[0] == 0
    assert hil(checkout, f"{_NO_PIP} command=run; make_venv") == (0, "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[build-system]\n", '[build-system]\nbackend-path = ["."]\n'),
        ('strategies = ["hypothesis>=6.100"]', 'strategies = ["hypothesis>=6.101"]'),
        ('tox = ["tox>=4.18"]', 'tox = ["tox>=4.19"]'),
        ('memtype = "pytest_memtype.cli:main"', 'memory = "pytest_memtype.cli:main"'),
        ('memtype = "pytest_memtype.plugin"', 'memory = "pytest_memtype.plugin"'),
        ('requires-python = ">=3.11"', 'requires-python = ">=3.12"'),
        ('dev-mode-dirs = ["framework"]', 'dev-mode-dirs = ["."]'),
    ],
)
def test_what_the_installation_is_made_of_makes_it_anew(checkout: Path, old: str, new: str) -> None:
    rewrite(checkout, old, new)
    assert hil(checkout, "venv_is_for run")[0] == 1


def test_a_broken_pyproject_is_one_line_and_costs_no_venv(checkout: Path) -> None:
    rewrite(checkout, "[build-system]", "[build-system")
    status, output = hil(checkout, f"exec 2>&1; {_NO_PIP} command=lint; set_up")
    assert status == 3
    (line,) = output.splitlines()
    assert line.startswith("hil: pyproject.toml: ")
    assert (checkout / ".venv" / ".hil-stamp").exists()


@pytest.mark.parametrize("change", [None, *CHANGES])
def test_pythons_packages_are_wanted_where_it_has_to_be_made(
    checkout: Path, tmp_path: Path, change: object
) -> None:
    """On a host that has what checks it, and no Python with venv."""
    programs = few_programs(tmp_path)
    script = "find_python() { return 1; }; command=run; missing_packages"
    if callable(change):
        change(checkout)
    status, output = hil(checkout, script, path=programs)
    assert status == 0
    assert ("python3-venv" in output.splitlines()) == (change is not None)
