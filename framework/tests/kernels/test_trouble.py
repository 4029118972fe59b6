"""What can go wrong while a kernel is made ready: it is one clear line, and the cache stays sound.

Real mmdebstrap and apt throughout; a proxy on this host stands for a mirror that misbehaves.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from memtype_support import mounts
from memtype_support.apt_proxy import Spoil, apt_proxy
from memtype_support.small_indexes import fill_with_indexes

from pytest_memtype.errors import KernelError
from pytest_memtype.host.progress import silent
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.kernels.kept_indexes import find
from pytest_memtype.kernels.prepare import prepare
from pytest_memtype.kernels.spec import DebianSpec

SPEC = "debian:bookworm"
# apt tries an unreachable host several times.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that knows which kernels there are, and has none of them."""
    own = cache_directory()
    find(DebianSpec(SPEC, suite="bookworm"), cache=own, progress=silent)
    shutil.copytree(own / "index", tmp_path / "cache" / "index")
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def is_sound(cache: Path) -> bool:
    """Nothing half made is left, and nothing is locked; that the mirror was unreachable may be noted."""
    kept = ("lock", mirror.NOTE)
    left = [path for path in cache.rglob("*") if path.is_file() and path.name not in kept]
    return all(path.parent.name == "index" for path in left)


def told(spec: str = SPEC) -> KernelError:
    with pytest.raises(KernelError) as caught:
        bundle(spec)
    assert "\n" not in caught.value.message
    return caught.value


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


@pytest.mark.parametrize("known", [True, False], ids=["kernel", "index"])
def test_an_unreachable_proxy(cache: Path, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    if not known:
        shutil.rmtree(cache / "index")
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    error = told()
    assert "the Debian mirror can't be reached; check the network" in error.message
    assert is_sound(cache)


def answer_404(request: BaseHTTPRequestHandler) -> None:
    request.send_error(404)


def cut_short(request: BaseHTTPRequestHandler) -> None:
    """A whole answer, but not the whole package."""
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(bytes(1000))


def break_off(request: BaseHTTPRequestHandler) -> None:
    """The connection ends in the middle."""
    request.send_response(200)
    request.send_header("Content-Length", "1000000")
    request.send_header("Connection", "close")
    request.end_headers()
    request.wfile.write(bytes(1000))
    request.close_connection = True


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (answer_404, "has just dropped this package"),
        (cut_short, "a package arrived cut short or altered"),
        (break_off, "a package arrived cut short or altered"),
    ],
)
def test_a_mirror_that_misbehaves(
    cache: Path, monkeypatch: pytest.MonkeyPatch, spoil: Spoil, message: str
) -> None:
    with apt_proxy(spoil) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        try:
            error = told()
        finally:
            # Then the kernel may as well have been made.
            if not proxy.spoilt:
                pytest.skip("this host's apt doesn't go through http_proxy")
    assert message in error.message
    assert is_sound(cache)


def test_one_kernel_that_fails_leaves_the_others_alone(cache: Path) -> None:
    fill_with_indexes(cache)
    changes: list[tuple[str, str]] = []
    done = prepare(
        ["debian:2.6", "tree:/dev/null/none"],
        on_change=lambda status: changes.append((status.spec, status.stage)),
    )
    assert [status.stage for status in done] == ["failed", "failed"]
    assert all(status.error is not None and "\n" not in status.error.message for status in done)
    assert "not in Debian's archive; nearest are debian:5.10, debian:6.1, debian:6.12" in done[0].text
    assert "there is no folder /dev/null/none" in done[1].text
    assert sorted(changes) == [("debian:2.6", "failed"), ("tree:/dev/null/none", "failed")]
    assert is_sound(cache)


FETCHES = """
import sys
from pytest_memtype.kernels import fetch
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.bundle import bundle
# The check before the download is what is passed by here: the disk is to fill up during it.
fetch._NEEDED_BYTES = 0
try:
    bundle(sys.argv[1])
except Exception as error:
    print(f"{type(error).__name__}: {error.message}")
"""


def test_a_disk_that_fills_up(cache: Path) -> None:
    """In a mount namespace of its own. apt changes its user id, for which root must be the real one."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk that apt can work on needs root")
    mounts.require(("unshare", "-m"))
    disk = cache.parent / "disk"
    disk.mkdir()
    script = f"""
mount -t tmpfs -o size=100m,mode=755 none "{disk}"
cp -r "{cache / "index"}" "{disk}"
"{sys.executable}" -c '{FETCHES.replace("'", '"')}' {SPEC}
find "{disk}" -type f ! -path "*/index/*" ! -name lock | sed "s/^/left: /"
"""
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        env={**os.environ, "MEMTYPE_CACHE": str(disk), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stdout + done.stderr
    assert lines[0].startswith(f"HostError: {disk}: disk is full (")


KILLED = """
import sys
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.bundle import bundle
bundle(sys.argv[1], progress=lambda text: print(text, flush=True))
"""


def test_a_fetch_that_was_killed_is_cleared_up_by_the_next(cache: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, SPEC],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as fetching:
        assert fetching.stdout is not None
        assert fetching.stdout.readline().startswith("downloading")
        fetching.kill()
    assert not list(cache.glob("kits/*"))
    prepare(["tree:/dev/null/none"])
    assert is_sound(cache)
