import contextlib
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pytest_memtype.errors import HostError, NotOurs
from pytest_memtype.host.progress import Remark, silent
from pytest_memtype.host.store import (
    SUMS,
    discard,
    exclusive,
    exclusive_if_free,
    is_whole,
    remove_unused,
    require_space,
    seal,
    staged,
    temp_dir,
)


def test_a_folder_appears_when_it_is_finished(tmp_path: Path) -> None:
    final = tmp_path / "kits" / "one"
    with exclusive(tmp_path, silent), staged(final, cache=tmp_path) as folder:
        folder.mkdir()
        (folder / "file").write_text("whole")
        assert not final.exists()
    assert (final / "file").read_text() == "whole"
    assert list((tmp_path / "partial").iterdir()) == []


def test_what_another_has_finished_meanwhile_stays(tmp_path: Path) -> None:
    final = tmp_path / "kits" / "one"
    with exclusive(tmp_path, silent), staged(final, cache=tmp_path) as folder:
        folder.mkdir()
        (folder / "file").write_text("ours")
        final.mkdir(parents=True)
        (final / "file").write_text("theirs")
    assert (final / "file").read_text() == "theirs"
    assert list((tmp_path / "partial").iterdir()) == []


def interrupted_while_making(final: Path, cache: Path) -> None:
    with exclusive(cache, silent), staged(final, cache=cache) as folder:
        folder.mkdir()
        raise KeyboardInterrupt


def test_nothing_appears_when_making_it_fails(tmp_path: Path) -> None:
    final = tmp_path / "kits" / "one"
    with pytest.raises(KeyboardInterrupt):
        interrupted_while_making(final, tmp_path)
    assert not final.exists()
    assert list((tmp_path / "partial").iterdir()) == []


DIES_WHILE_BUILDING = """
import os, pathlib, signal, sys
from pytest_memtype.host.progress import silent
from pytest_memtype.host.store import exclusive, staged
cache = pathlib.Path(sys.argv[1])
with exclusive(cache, silent), staged(cache / "kits" / "one", cache=cache) as folder:
    folder.mkdir()
    (folder / "file").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DIES_WHILE_BUILDING, str(tmp_path)]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert killed.returncode == -9
    assert not (tmp_path / "kits").exists()
    assert len(list((tmp_path / "partial").iterdir())) == 1

    # The lock went with the process, and the next run clears up.
    with exclusive(tmp_path, silent):
        assert not (tmp_path / "partial").exists()


HOLDS_THE_LOCK = """
import pathlib, sys
from pytest_memtype.host.progress import silent
from pytest_memtype.host.store import exclusive
with exclusive(pathlib.Path(sys.argv[1]), silent):
    print("held", flush=True)
    sys.stdin.read()
    print("released", flush=True)
"""


def test_a_second_run_says_that_it_waits_and_goes_on_after(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_LOCK, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        told: list[str] = []

        def release_it(stage: str) -> None:
            told.append(stage)
            assert other.stdin is not None
            other.stdin.close()

        with exclusive(tmp_path, release_it):
            assert other.stdout.readline() == "released\n"
        assert told == ["waiting for another run that is preparing the same"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="disk is full") as caught, temp_dir(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "\n" not in str(caught.value)
    with pytest.raises(HostError, match="disk is full"):
        require_space(tmp_path, 1 << 60)


def test_other_faults_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), temp_dir(tmp_path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_what_is_discarded_is_gone_and_may_be_discarded_again(tmp_path: Path) -> None:
    kit = tmp_path / "kits" / "one"
    (kit / "usr").mkdir(parents=True)
    with exclusive(tmp_path, silent):
        for _ in range(2):
            discard(kit, cache=tmp_path)
            assert not kit.exists()
            assert not (tmp_path / "partial").exists()


def test_what_is_discarded_goes_beside_what_another_is_still_writing(tmp_path: Path) -> None:
    """As a killed run's mmdebstrap does."""
    kit = tmp_path / "kits" / "one"
    kit.mkdir(parents=True)
    with exclusive(tmp_path, silent):
        (tmp_path / "partial").mkdir()
        (tmp_path / "partial" / "root").touch()
        discard(kit, cache=tmp_path)
    assert not kit.exists()
    assert (tmp_path / "partial" / "root").exists()


def test_what_can_not_be_discarded_stays_whole(tmp_path: Path) -> None:
    (tmp_path / "kit").mkdir()
    (tmp_path / "partial").touch()
    with pytest.raises(HostError, match=r"kit: can't be removed \(.*partial.*: Not a directory\)") as caught:
        discard(tmp_path / "kit", cache=tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "kit").exists()


def test_nobody_waits_who_only_clears_up(tmp_path: Path) -> None:
    with exclusive_if_free(tmp_path) as free:
        assert free
        with exclusive_if_free(tmp_path) as again:
            assert not again
    with exclusive_if_free(tmp_path) as free:
        assert free


def finished(tmp_path: Path) -> Path:
    """A folder like a bundle, made as all of them are."""
    final = tmp_path / "bundles" / "one"
    with exclusive(tmp_path, silent), staged(final, cache=tmp_path) as folder:
        folder.mkdir()
        (folder / "image").write_bytes(bytes(100_000) + b"kernel")
        (folder / "launcher.so").write_bytes(b"code")
        seal(folder)
    return final


@pytest.mark.parametrize("damaged", ["image", "launcher.so", SUMS])
def test_one_flipped_bit_is_found_and_said(tmp_path: Path, damaged: str) -> None:
    folder = finished(tmp_path)
    said: list[str] = []
    assert is_whole(folder, said.append)
    assert said == []
    path = folder / damaged
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not is_whole(folder, said.append)
    assert len(said) == 1
    assert isinstance(said[0], Remark)
    assert said[0].startswith(f"{folder} is damaged, and made again: ")
    path.unlink()
    assert is_whole(folder, silent) == (damaged == SUMS)


def test_a_folder_of_an_earlier_version_is_sealed_where_it_is(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    (folder / SUMS).unlink()
    assert is_whole(folder, silent)
    (folder / "image").write_bytes(b"")
    assert not is_whole(folder, silent)
    assert not is_whole(tmp_path / "nowhere", silent)


def test_whatever_the_umask_what_is_made_is_nobody_elses(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = finished(tmp_path)
        (folder / "image").chmod(0o644)
    finally:
        os.umask(before)
    assert is_whole(folder, silent)
    folder.chmod(0o777)
    with pytest.raises(NotOurs, match="everybody can write to it"):
        is_whole(folder, silent)


def test_a_folder_that_is_tidied_away_is_made_again(tmp_path: Path) -> None:
    """The last who used a template removes its folder, while another run is about to lock it."""
    folder = tmp_path / "template"
    tidied = threading.Event()

    def tidy() -> None:
        while not tidied.is_set():
            if folder.is_dir():
                with contextlib.suppress(FileNotFoundError):
                    remove_unused(folder)

    thread = threading.Thread(target=tidy)
    thread.start()
    try:
        for _ in range(300):
            with exclusive(folder, silent):
                assert (folder / "lock").exists()
    finally:
        tidied.set()
        thread.join()
