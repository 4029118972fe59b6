"""A project that memtype init began, and CI's script of docs/ci.md, on a fresh Debian 13: tox -e hosts.

The script runs twice. The second time a new checkout has from the first one what the page says to cache; the
wheel that memtype was installed from is gone, and there is no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from memtype_support import debian_root

ROOT = Path(__file__).parents[3]
CACHED = (".ci-cache/wheels", ".ci-cache/memtype/index", ".ci-cache/memtype/bundles")
LIMIT_SECONDS = 5400

pytestmark = [
    pytest.mark.skipif("MEMTYPE_HOSTS" not in os.environ, reason="an hour: tox -e hosts"),
    pytest.mark.skipif(os.geteuid() != 0, reason="another system's root is made by root"),
    pytest.mark.timeout(2 * LIMIT_SECONDS),
]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    named = os.environ.get("MEMTYPE_HOSTS_ROOT")
    if named:
        # One that somebody has made, and keeps.
        yield Path(named)
        return
    root = tmp_path_factory.mktemp("host") / "trixie"
    debian_root.make("trixie", root, packages=("ca-certificates", "passwd", "python3-venv"))
    yield root
    debian_root.remove(root)


def inside(root: Path, script: str, *, network: bool = True) -> subprocess.CompletedProcess[str]:
    unshare, *rest = debian_root.entering(root, ["sh", "-ec", script])
    return subprocess.run(
        [unshare, *([] if network else ["--net"]), *rest],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True, timeout=600)
    (made,) = folder.glob("pytest_memtype-*.whl")
    return made


def test_the_script_is_green_twice_the_second_time_without_a_network(host: Path, tmp_path: Path) -> None:
    made = wheel(tmp_path)
    (host / "opt" / "wheels").mkdir(exist_ok=True)
    shutil.copy(made, host / "opt" / "wheels")
    begun = inside(
        host,
        "command -v pip3 >/dev/null || python3 -c 'import ensurepip' || "
        "{ apt-get update -qq; apt-get install -qq --no-install-recommends python3-venv; }; "
        f"python3 -m venv /opt/init; /opt/init/bin/pip install --quiet /opt/wheels/{made.name}; "
        "rm -rf /root/project; mkdir /root/project; cd /root/project; /opt/init/bin/memtype init --ci github",
    )
    assert begun.returncode == 0, begun.stdout
    project = host / "root" / "project"
    asked = unquote((project / "tests" / "requirements.txt").read_text())
    assert asked == f"pytest-memtype @ file:///opt/wheels/{made.name}\n"
    first = inside(host, "cd /root/project; CI=true sh ci/memtype.sh debian:bookworm")
    assert first.returncode == 0, first.stdout
    again = host / "root" / "again"
    shutil.copytree(project, again, ignore=shutil.ignore_patterns(".*", "*.gz", "junit.xml", "run.ktap"))
    for kept in CACHED:
        shutil.copytree(project / kept, again / kept, symlinks=True)
    shutil.rmtree(host / "opt" / "wheels")
    second = inside(host, "cd /root/again; CI=true sh ci/memtype.sh debian:bookworm", network=False)
    print(first.stdout[-2000:], second.stdout[-2000:], sep="\n----\n")
    assert second.returncode == 0, second.stdout
    for folder in (project, again):
        assert {"junit.xml", "run.ktap", "evidence.tar.gz"} <= {path.name for path in folder.iterdir()}
    assert "1 passed" in second.stdout
