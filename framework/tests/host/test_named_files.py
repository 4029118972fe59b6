"""What is no regular file, or too large, is one line at once, whichever command reads or writes it."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

#: Far more than a command needs to say no, far less than for ever.
SECONDS = 100

#: The arguments of each command that reads a file, which {} stands for.
READ: dict[str, list[str]] = {
    "state": ["audit", "--ram", "{good}", "--state", "{}"],
    "ram": ["audit", "--ram", "{}", "--state", "{good}"],
    "records": ["compare", "{}", "{}"],
    "import": ["cache", "import", "{}"],
    "after": ["shell", "--offline", "--after", "{}"],
    "image": ["run", "--kernel", "image:{},build={tree}"],
}

WRITE: dict[str, list[str]] = {
    "layout": ["layouts", "show", "wc-framebuffer", "--svg", "{}"],
    # Before anything is audited: zeros are no device state.
    "audit": ["audit", "--ram", "{good}", "--state", "{good}", "--svg", "{}"],
}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good"
    path.write_bytes(bytes(4096))
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder that looks as if a kernel had been built in it, as far as the image is asked for."""
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / ".config").write_text("")
    return folder


def memtype(arguments: list[str], **names: Path) -> subprocess.CompletedProcess[str]:
    command = [each.replace("{}", "{path}").format(**names) for each in arguments]
    return subprocess.run(
        [sys.executable, "-c", "from pytest_memtype.cli import main; main()", *command],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def is_refused(done: subprocess.CompletedProcess[str], path: Path) -> None:
    assert done.returncode in (2, 3), done
    assert "Traceback" not in done.stderr, done.stderr
    last = done.stderr.splitlines()[-1]
    assert str(path) in last, done.stderr


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "8 TB"])
def test_reading(name: str, kind: str, good: Path, tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "it"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path = Path("/dev/zero")
        case "socket":
            socket.socket(socket.AF_UNIX).bind(str(path))
        case _:
            path.touch()
            os.truncate(path, 8 << 40)
    if (name, kind) == ("import", "8 TB"):
        pytest.skip("an export has a header that says how large it is; zeros are none")
    is_refused(memtype(READ[name], path=path, good=good, tree=tree), path)


@pytest.mark.parametrize("name", WRITE)
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "device"])
def test_writing(name: str, kind: str, good: Path, tmp_path: Path) -> None:
    path = tmp_path / "it"
    match kind:
        case "link":
            path.symlink_to(good)
        case "dangling link":
            path.symlink_to(tmp_path / "nothing")
        case "pipe":
            os.mkfifo(path)
        case _:
            if os.geteuid() != 0:
                pytest.skip("only root can make a device")
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    before = path.lstat()
    is_refused(memtype(WRITE[name], path=path, good=good), path)
    after = path.lstat()
    for name in ("st_ino", "st_mode", "st_mtime_ns"):
        assert getattr(after, name) == getattr(before, name)
    assert good.read_bytes() == bytes(4096)
    assert not (tmp_path / "nothing").exists()
    assert not list(tmp_path.glob(".it*"))
