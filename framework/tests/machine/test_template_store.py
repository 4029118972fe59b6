"""The store of templates, filled with guests of a few instructions that need no kernel."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from memtype_support import mounts

from pytest_memtype.errors import GuestError
from pytest_memtype.host.progress import silent
from pytest_memtype.host.store import exclusive
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.qemu_command import QemuConfig
from pytest_memtype.machine.template import Template, clone
from pytest_memtype.machine.template_store import RESERVE, discard, get, prune, stored

from .conftest import CONSOLE, ENDS, option_rom, write

ECHO = option_rom(write(CONSOLE, b"here") + ENDS["echo"])

#: A process of its own that asks for a template. Arguments: the cache, the boot ROM in hexadecimal.
#: Says each thing it is told or does; before its guest is ready it waits for a line.
ASKS = """
import sys, tempfile
from pathlib import Path
from pytest_memtype.errors import MemtypeError
from pytest_memtype.machine.qemu_command import QemuConfig
from pytest_memtype.machine import template
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.template_store import get
cache, rom, temporary = Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), sys.argv[3]
tempfile.tempdir = temporary

def say(text):
    print(text, flush=True)

def copy(*files, copied=template._copy_with_holes):
    say("copying")
    copied(*files)

template._copy_with_holes = copy

def prepare(machine):
    machine.console.expect_exact("here")
    say("preparing")
    sys.stdin.readline()
    return machine.process.pid

try:
    got = get(
        QemuConfig(Hardware(memory="96M")), boot_rom=rom, cache=cache, prepare=prepare, progress=say
    )
    say(f"got {got.notes}")
except MemtypeError as error:
    say(f"{type(error).__name__}: {error}")
"""


class Maker:
    """Gets templates of echoing guests, and counts how often one had to be made."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.made = 0

    def __call__(self, *, cpu: str = "qemu64") -> Template:
        guest = QemuConfig(Hardware(memory="96M", cpu=cpu))
        return get(guest, boot_rom=ECHO, cache=self.cache, prepare=self._prepare, progress=silent)

    def _prepare(self, machine: Machine) -> str:
        machine.console.expect_exact("here")
        self.made += 1
        return "notes"


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "templates")


def ask(cache: Path, temporary: Path, *before: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-c", ASKS, str(cache), ECHO.hex(), str(temporary)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def answers(machine: Machine, text: str) -> None:
    machine.agent_port.send(text)
    machine.agent_port.expect_exact(text)


def files(cache: Path) -> set[str]:
    """What lies in the cache, apart from locks and folders."""
    return {
        str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file() and path.name != "lock"
    }


def test_a_template_is_made_once(maker: Maker, tmp_path: Path) -> None:
    first, second = maker(), maker()
    assert maker.made == 1
    assert first == second
    with clone(second, logs=tmp_path / "clone") as machine:
        answers(machine, "text")
    maker(cpu="qemu64,-mtrr")
    assert maker.made == 2
    assert len(stored(maker.cache)) == 2


def truncate(name: str) -> Callable[[Path], None]:
    return lambda ready: os.truncate(ready / name, 4096)


def overwrite(name: str) -> Callable[[Path], None]:
    def damage(ready: Path) -> None:
        with (ready / name).open("r+b") as file:
            file.seek(64)
            file.write(b"changed")

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        truncate("ram"),
        overwrite("ram"),
        truncate("state"),
        overwrite("state"),
        overwrite("template.json"),
        lambda ready: (ready / "template.json").write_text("garbage"),
        lambda ready: (ready / "ram").unlink(),
        shutil.rmtree,
    ],
    ids=["ram-short", "ram", "state-short", "state", "facts", "facts-garbage", "ram-gone", "all-gone"],
)
def test_a_damaged_template_is_made_again(
    maker: Maker, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    ram = maker().guest.ram_file
    assert ram is not None
    damage(ram.parent)
    template = maker()
    assert maker.made == 2
    with clone(template, logs=tmp_path / "clone") as machine:
        answers(machine, "text")
    maker()
    assert maker.made == 2


def test_two_processes_at_once_make_it_once(tmp_path: Path, temporary_files: Path) -> None:
    cache = tmp_path / "templates"
    with ask(cache, temporary_files) as one:
        assert line(one) == "booting a template on qemu64"
        assert line(one) == "preparing"
        with ask(cache, temporary_files) as other:
            assert line(other) == "waiting for another run that is preparing the same"
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
            assert line(one) == "copying"
            got = line(one)
            assert got.startswith("got ")
            # The same notes: the other has not made its own.
            assert line(other) == got
            assert line(other) == ""


def test_a_killed_run_leaves_no_template_and_the_next_one_clears_up(
    maker: Maker, temporary_files: Path
) -> None:
    maker(cpu="qemu64,-mtrr")
    with ask(maker.cache, temporary_files) as process:
        assert line(process) == "booting a template on qemu64"
        assert line(process) == "preparing"
        process.send_signal(signal.SIGKILL)
    assert len(stored(maker.cache)) == 1
    assert any("partial" in name for name in files(maker.cache))
    # Whatever the next run makes, of any other guest.
    maker(cpu="qemu64,-pat")
    assert not any("partial" in name for name in files(maker.cache))


def test_what_another_run_is_making_is_left_alone(maker: Maker) -> None:
    ram = maker().guest.ram_file
    assert ram is not None
    folder = ram.parents[1]
    with exclusive(folder, silent):
        (folder / "partial").mkdir(exist_ok=True)
        (folder / "partial" / "half").touch()
        prune(maker.cache, limit=1 << 40)
        assert (folder / "partial" / "half").exists()
    prune(maker.cache, limit=1 << 40)
    assert not (folder / "partial").exists()


@pytest.mark.parametrize(
    ("size", "what"),
    [("200k", "state"), ("700k", "RAM")],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, temporary_files: Path, size: str, what: str
) -> None:
    """``what`` does not fit on a disk of ``size``: 300 KiB of state, or 500 of RAM that is used."""
    mounts.require()
    disk = tmp_path / "disk"
    disk.mkdir()
    # The shell looks at what is left.
    script = (
        f'mount -t tmpfs -o size={size} none "$0" && "$@"; find "$0" -type f ! -name lock ! -name "*.pyc"'
    )
    before = [*mounts.OWN_MOUNTS, "sh", "-c", script, str(disk)]
    with ask(disk / "templates", temporary_files, *before) as process:
        output, _ = process.communicate("\n")
    lines = output.splitlines()
    assert lines[0] == "booting a template on qemu64"
    assert lines[-1].startswith(f"HostError: {disk}")
    assert "disk is full" in lines[-1]
    # Nothing was found after it.
    assert lines[1:-1] == (["preparing"] if what == "state" else ["preparing", "copying"])


def test_least_recently_used_go_first_and_their_clones_live_on(maker: Maker, tmp_path: Path) -> None:
    for cpu in ("qemu64", "qemu64,-mtrr", "qemu64,-pat"):
        maker(cpu=cpu)
    folders = [each.directory for each in stored(maker.cache)]
    for seconds, folder in enumerate(folders):
        os.utime(folder, (seconds, seconds))
    # Using it again makes it the newest.
    template = maker(cpu="qemu64")
    assert maker.made == 3
    ages = {each.directory: each for each in stored(maker.cache)}
    assert list(ages) == [folders[1], folders[2], folders[0]]
    size = ages[folders[0]].size
    assert size < 2 << 20
    with clone(template, logs=tmp_path / "clone") as machine:
        prune(maker.cache, limit=2 * size + size // 2)
        assert [each.directory for each in stored(maker.cache)] == [folders[2], folders[0]]
        prune(maker.cache, limit=0, keep=folders[2])
        assert [each.directory for each in stored(maker.cache)] == [folders[2]]
        # All of its RAM comes from a file that has no name any more, and is still to be found from outside.
        answers(machine, "text")
        assert machine.memory.read(0, 4096)
    # Of those that are gone not even a lock is left.
    assert list(maker.cache.iterdir()) == [folders[2]]
    maker(cpu="qemu64")
    assert maker.made == 4


def fails(machine: Machine) -> NoReturn:
    machine.console.expect_exact("here")
    raise GuestError("it isn't ready")


def test_logs_of_a_template_that_can_not_be_made_are_the_last_ones(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    for _ in range(2):
        with pytest.raises(GuestError, match="it isn't ready"):
            get(
                QemuConfig(Hardware(memory="96M")),
                boot_rom=ECHO,
                cache=tmp_path / "templates",
                prepare=fails,
                progress=silent,
                failed_logs=kept,
            )
        assert (kept / "console.log").read_text() == "here"
        (kept / "console.log").write_text("")


def test_some_of_the_disk_is_left_to_others(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpu in ("qemu64", "qemu64,-mtrr"):
        maker(cpu=cpu)
    _, second = stored(maker.cache)
    usage = shutil.disk_usage(maker.cache)

    def two_and_a_half_fit(_: Path) -> object:
        taken = sum(each.size for each in stored(maker.cache))
        return usage._replace(free=RESERVE + 5 * second.size // 2 - taken)

    monkeypatch.setattr(shutil, "disk_usage", two_and_a_half_fit)
    maker(cpu="qemu64,-pat")
    left = [each.directory for each in stored(maker.cache)]
    assert len(left) == 2
    assert left[0] == second.directory


def test_room_is_made_where_others_have_filled_the_disk(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker(cpu="qemu64")
    usage = shutil.disk_usage(maker.cache)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))

    def nothing_is_there(machine: Machine) -> str:
        machine.console.expect_exact("here")
        assert stored(maker.cache) == []
        return "notes"

    guest = QemuConfig(Hardware(memory="96M", cpu="qemu64,-mtrr"))
    get(guest, boot_rom=ECHO, cache=maker.cache, prepare=nothing_is_there, progress=silent)
    assert len(stored(maker.cache)) == 1


def test_what_is_discarded_is_gone_and_may_be_discarded_again(maker: Maker) -> None:
    ram = maker().guest.ram_file
    assert ram is not None
    for _ in range(2):
        discard(ram.parents[1])
        assert stored(maker.cache) == []
    assert stored(maker.cache / "nowhere") == []


def test_what_a_killed_run_was_removing_goes_with_the_next(maker: Maker) -> None:
    folder = maker.cache / "00ff"
    (folder / "ready").mkdir(parents=True)
    (folder / "ready" / "ram").touch()
    dies = (
        "import os, pathlib, signal, sys; from pytest_memtype.machine.template_store import discard\n"
        "hook = lambda event, _: os.kill(os.getpid(), signal.SIGKILL) if event == 'os.remove' else None\n"
        "sys.addaudithook(hook); discard(pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", dies, str(folder)]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert stored(maker.cache) == []
    assert len(files(maker.cache)) == 1
    prune(maker.cache, limit=1 << 40)
    assert files(maker.cache) == set()


def test_a_template_that_another_run_is_about_to_use_is_not_pruned(tmp_path: Path) -> None:
    folder = tmp_path / "00ff"
    (folder / "ready").mkdir(parents=True)
    with exclusive(folder, silent):
        prune(tmp_path, limit=-1)
        assert [each.directory for each in stored(tmp_path)] == [folder]
    prune(tmp_path, limit=-1)
    assert stored(tmp_path) == []
