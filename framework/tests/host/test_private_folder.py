import os
import select
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_memtype.errors import HostError
from pytest_memtype.host.private_folder import PREFIX, PrivateFolder, remove_leftovers

HOLD = """
import sys, tempfile
from pytest_memtype.host.private_folder import PrivateFolder, temporary_folder
tempfile.tempdir = sys.argv[1]
print(PrivateFolder().path, flush=True)
block = temporary_folder("state")
print(block.__enter__(), flush=True)
sys.stdin.read()
"""


def test_private_and_removed_with_all_in_it() -> None:
    folder = PrivateFolder()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    (folder.path / "sub").mkdir()
    os.mkfifo(folder.path / "sub" / "fifo")
    folder.remove()
    assert not folder.path.exists()
    folder.remove()


def test_a_file_system_that_gives_all_to_another_user(
    temporary_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that is mounted with uid=..., or whose server maps root to nobody: they were made for ever."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(HostError, match="belongs to another user at once; set TMPDIR"):
        PrivateFolder()
    assert list(temporary_files.iterdir()) == []


def test_leftover_goes_and_that_of_a_living_one_stays(temporary_files: Path) -> None:
    leftover = temporary_files / f"{PREFIX}leftover"
    leftover.mkdir(mode=0o700)
    command = [sys.executable, "-c", HOLD, str(temporary_files)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        path = Path(holder.stdout.readline().strip())
        remove_leftovers()
        assert path.is_dir()
        assert not leftover.exists()


def watchers(mark: str) -> list[int]:
    """The processes that wait for the end of the one with this mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cmdline").read_bytes().split(b"\0")[-2:-1] == [mark.encode()]:
                found.append(int(process.name))
    return found


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None], ids=["KILL", "TERM", "end"])
def test_all_that_is_temporary_goes_with_its_process(
    temporary_files: Path, end: signal.Signals | None
) -> None:
    odd = temporary_files / "a folder's; $name"
    odd.mkdir()
    command = [sys.executable, "-c", HOLD, str(odd)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        path = Path(holder.stdout.readline().strip())
        (path / "sub").mkdir()
        other = Path(holder.stdout.readline().strip())
        assert (path.parent, other.parent) == (odd, odd)
        # Of somebody else.
        stays = odd / "memtype-guest-mark-name"
        stays.mkdir()
        (watcher,) = watchers(path.name.split("-")[2])
        gone = os.pidfd_open(watcher)
        if end is not None:
            holder.send_signal(end)
    # Readable when it has ended, and that it does when it has cleared up.
    assert select.select([gone], [], [], 60)[0]
    os.close(gone)
    assert list(odd.iterdir()) == [stays]


def test_own_folder_is_no_leftover() -> None:
    folder = PrivateFolder()
    other = PrivateFolder()
    assert folder.path.is_dir()
    folder.remove()
    assert other.path.is_dir()
    other.remove()


def test_what_only_looks_like_a_leftover_stays(temporary_files: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (temporary_files / f"{PREFIX}link").symlink_to(precious)
    (temporary_files / f"{PREFIX}file").write_text("not a folder")
    (temporary_files / "memtype-other").mkdir()
    remove_leftovers()
    assert precious.is_dir()
    assert len(list(temporary_files.iterdir())) == 3
