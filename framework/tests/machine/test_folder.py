import os
import stat
import subprocess
import sys
from pathlib import Path

from pytest_memtype.machine.folder import PREFIX, PrivateFolder, remove_leftovers

HOLD = """
import sys, tempfile
from pytest_memtype.machine.folder import PrivateFolder
tempfile.tempdir = sys.argv[1]
print(PrivateFolder().path, flush=True)
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


def test_leftover_of_a_killed_process_goes_and_that_of_a_living_one_stays(temporary_files: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(temporary_files)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        path = Path(holder.stdout.readline().strip())
        remove_leftovers()
        assert path.is_dir()
        holder.kill()
        holder.wait()
        remove_leftovers()
        assert not path.exists()


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
