"""docs/ci.md shows the files that memtype init writes; MEMTYPE_UPDATE_CI_PAGE=1 puts them there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_memtype.run.new_project import new_project

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "ci.md"
TEMPLATES = ROOT / "framework" / "pytest_memtype" / "templates"
_BLOCK = re.compile(r"<!-- (?P<name>\S+) -->\n```(?P<kind>\w+)\n(?P<text>.*?)```\n", re.DOTALL)


def shown() -> dict[str, str]:
    return {match["name"]: match["text"] for match in _BLOCK.finditer(PAGE.read_text())}


def test_the_page_shows_what_init_writes() -> None:
    if os.environ.get("MEMTYPE_UPDATE_CI_PAGE"):

        def renewed(match: re.Match[str]) -> str:
            text = (TEMPLATES / match["name"]).read_text()
            return f"<!-- {match['name']} -->\n```{match['kind']}\n{text}```\n"

        PAGE.write_text(_BLOCK.sub(renewed, PAGE.read_text()))
    blocks = shown()
    assert blocks.keys() == {"ci.sh", "github.yml", "gitlab.yml", "Jenkinsfile"}
    for name, text in blocks.items():
        assert text == (TEMPLATES / name).read_text(), name


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml", "Jenkinsfile"])
def test_each_service_runs_the_script_and_keeps_what_it_leaves(name: str) -> None:
    text = shown()[name]
    assert 'sh ci/memtype.sh "$' in text
    assert all(kept in text for kept in ("junit.xml", "evidence.tar.gz", "run.ktap"))
    if name != "Jenkinsfile":
        assert all(f".ci-cache/{cached}" in text for cached in ("wheels", "memtype/index", "memtype/bundles"))


def test_github_lets_bubblewrap_make_namespaces_before_the_script_runs() -> None:
    """Its Ubuntu doesn't by itself: "bwrap: setting up uid map: Permission denied"."""
    text = shown()["github.yml"]
    allowed = text.index("kernel.apparmor_restrict_unprivileged_userns=0")
    assert text.index("runs-on: ubuntu-24.04") < allowed < text.index("sh ci/memtype.sh")


def test_the_script_is_one_for_any_sh() -> None:
    subprocess.run(["sh", "-n"], input=shown()["ci.sh"], text=True, check=True)


def test_the_script_ends_with_the_status_of_the_run(tmp_path: Path) -> None:
    """Its lines are real, and what they start is not: pip, and a memtype that fails."""
    new_project(tmp_path, ci="github")
    (tmp_path / "ci" / "memtype.sh").write_text(shown()["ci.sh"])
    fake = tmp_path / "bin"
    fake.mkdir()
    for name in ("qemu-system-x86_64", "mmdebstrap", "bwrap", "newuidmap"):
        _program(fake / name, "exit 0")
    _program(fake / "ls", "exit 0")
    python = shutil.which("python3")
    _program(
        fake / "python3",
        f"""
        if [ "$1" = -m ]; then
            mkdir -p .venv/bin
            cp bin/pip bin/memtype .venv/bin
        else
            exec {python} "$@"
        fi""",
    )
    _program(
        fake / "pip",
        """
        echo "pip $*" >>said
        if [ "$1" = wheel ]; then mkdir -p "$4"; touch "$4/a.whl"; fi""",
    )
    _program(fake / "memtype", 'echo "memtype $*" >>said; [ "$1" != run ] || exit 7')
    environment = {"PATH": f"{fake}:/usr/bin:/bin"}
    earlier = [tmp_path / name for name in ("junit.xml", "run.ktap", "evidence.tar.gz")]
    for path in earlier:
        path.touch()
    for _ in range(2):
        command = ["sh", "ci/memtype.sh", "debian:trixie", "-k", "two words"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, check=False, timeout=60)
        assert done.returncode == 7
    assert not any(path.exists() for path in earlier), "what is kept is this run's"
    said = [line.partition(" ")[2].partition(" ")[0] for line in (tmp_path / "said").read_text().splitlines()]
    # Wheels are made once.
    assert said == ["wheel", "install", "run", "evidence", "install", "run", "evidence"]
    assert (
        "run --kernel debian:trixie --junitxml junit.xml --ktap run.ktap -k two words"
        in (tmp_path / "said").read_text()
    )


def _program(path: Path, lines: str) -> None:
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
