"""Saving and cloning, with guests of a few instructions that need no kernel."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_memtype.errors import GuestExited, HostError, NotOurs, TemplateError
from pytest_memtype.machine import template as template_module
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.qemu_command import QemuConfig
from pytest_memtype.machine.qemu_versions import QEMU, this_qemu
from pytest_memtype.machine.template import Template, clone, load, save, template_key
from pytest_memtype.run.artifacts import Evidence, leave

from .conftest import CONSOLE, ENDS, option_rom, write

GUEST = QemuConfig(Hardware(memory="96M"), kernel=Path("/kernel"), initrd=Path("/initrd"))

#: Prints a word, then sends back what it is sent.
ECHO = option_rom(write(CONSOLE, b"here") + ENDS["echo"])


def is_there(machine: Machine) -> dict[str, str]:
    machine.console.expect_exact("here")
    return {"said": "here"}


def answers(machine: Machine, text: str) -> None:
    machine.agent_port.send(text)
    machine.agent_port.expect_exact(text)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The folder of a template of a guest that echoes."""
    directory = tmp_path / "template"
    directory.mkdir()
    save(replace(GUEST, kernel=None, initrd=None), boot_rom=ECHO, directory=directory, prepare=is_there)
    return directory


def test_the_same_guest_has_the_same_key() -> None:
    again = QemuConfig(Hardware(memory="96M"), kernel=Path("/kernel"), initrd=Path("/initrd"))
    assert template_key(GUEST, boot_rom=b"rom") == template_key(again, boot_rom=b"rom")


@pytest.mark.parametrize(
    "other",
    [
        replace(GUEST, kernel=Path("/other")),
        replace(GUEST, initrd=Path("/other")),
        replace(GUEST, accelerator="kvm"),
        replace(GUEST, hardware=Hardware(memory="128M")),
        replace(GUEST, hardware=Hardware(memory="96M", cpus=2)),
        replace(GUEST, hardware=Hardware(memory="96M", cpu="qemu64,-mtrr")),
        replace(GUEST, hardware=Hardware(memory="96M", cmdline="nopat")),
    ],
)
def test_any_difference_makes_another_key(other: QemuConfig) -> None:
    assert template_key(other, boot_rom=b"rom") != template_key(GUEST, boot_rom=b"rom")


def test_another_layout_or_qemu_makes_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key = template_key(GUEST, boot_rom=b"rom")
    assert template_key(GUEST, boot_rom=b"mor") != key
    assert template_key(GUEST, boot_rom=None) != key
    assert template_key(GUEST, boot_rom=b"rom", deployed=[Path("/cache/agent")]) != key
    other = replace(this_qemu(), banner="QEMU emulator version 99")
    monkeypatch.setattr(template_module, "this_qemu", lambda: other)
    assert template_key(GUEST, boot_rom=b"rom") != key


def test_a_clone_goes_on_where_the_template_was(saved: Path, tmp_path: Path) -> None:
    template = load(GUEST, saved)
    assert template.notes == {"said": "here"}
    with clone(template, logs=tmp_path / "clone") as machine:
        answers(machine, "one")
        # It has not booted: the word is the template's, from before.
        assert (tmp_path / "clone" / "console.log").read_bytes() == b"here"
        assert machine.console.drain()
        assert machine.console.tail(1) == ["here"]


@pytest.mark.parametrize(
    "pieces",
    [[], [(0, 3)], [(6, 2)], [(0, 1), (3, 2), (6, 1)]],
    ids=["nothing", "start", "end", "some"],
)
def test_holes_stay_holes(tmp_path: Path, pieces: list[tuple[int, int]]) -> None:
    """Each piece is a start and a length, in MiB, of 8 in all."""
    mib = 1 << 20
    content = bytearray(8 * mib)
    with os.fdopen(os.memfd_create("source"), "r+b") as source, (tmp_path / "copy").open("xb") as copy:
        source.truncate(len(content))
        for start, length in pieces:
            content[start * mib : (start + length) * mib] = os.urandom(length * mib)
            source.seek(start * mib)
            source.write(content[start * mib : (start + length) * mib])
        source.flush()
        template_module._copy_with_holes(source, copy)
    assert (tmp_path / "copy").read_bytes() == content
    taken = (tmp_path / "copy").stat().st_blocks * 512
    assert taken < (sum(length for _, length in pieces) + 1) * mib


def test_clones_leave_the_template_as_it_is(saved: Path, tmp_path: Path) -> None:
    def content() -> dict[str, str]:
        files = (path for path in saved.rglob("*") if path.is_file())
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = content()
    with (
        clone(load(GUEST, saved), logs=tmp_path / "1") as one,
        clone(load(GUEST, saved), logs=tmp_path / "2") as two,
    ):
        for machine in (one, two, one):
            answers(machine, "text")
    assert content() == before
    # The next clone can still be had.
    clone(load(GUEST, saved), logs=tmp_path / "3").close()


def truncate_ram(saved: Path) -> None:
    os.truncate(saved / "ram", 1 << 20)


def write_ram(saved: Path) -> None:
    with (saved / "ram").open("r+b") as file:
        file.write(b"changed")


def write_ram_and_set_its_time_back(saved: Path) -> None:
    """As a disk that returns other bytes than it was given, of which no time tells."""
    ram = saved / "ram"
    before = ram.stat()
    with ram.open("r+b") as file:
        start = os.lseek(file.fileno(), 0, os.SEEK_DATA)
        file.seek(start + 4096 + 17)
        (byte,) = file.read(1)
        file.seek(start + 4096 + 17)
        file.write(bytes([byte ^ 0x40]))
    os.utime(ram, ns=(before.st_atime_ns, before.st_mtime_ns))


def fill_a_hole_of_ram(saved: Path) -> None:
    with (saved / "ram").open("r+b") as file:
        file.seek(os.lseek(file.fileno(), 0, os.SEEK_HOLE) + 123)
        file.write(b"\x01")


def write_console(saved: Path) -> None:
    (saved / "logs" / "console.log").write_bytes(b"hear")


def truncate_state(saved: Path) -> None:
    os.truncate(saved / "state", 100)


def flip_a_bit_of_state(saved: Path) -> None:
    with (saved / "state").open("r+b") as file:
        file.seek(1000)
        (byte,) = file.read(1)
        file.seek(1000)
        file.write(bytes([byte ^ 1]))


def write_facts(text: str) -> Callable[[Path], object]:
    return lambda saved: (saved / "template.json").write_text(text)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "ram truncated": (truncate_ram, "ram has changed since it was saved"),
    "ram changed": (write_ram, "ram has changed since it was saved"),
    "ram changed, but for its times": (
        write_ram_and_set_its_time_back,
        "ram has changed since it was saved",
    ),
    "a hole of ram filled": (fill_a_hole_of_ram, "ram has changed since it was saved"),
    "console changed": (write_console, "console.log has changed since it was saved"),
    "ram gone": (lambda saved: (saved / "ram").unlink(), "no template can be read: .*ram"),
    "state truncated": (truncate_state, "state has changed since it was saved"),
    "state changed": (flip_a_bit_of_state, "state has changed since it was saved"),
    "state gone": (lambda saved: (saved / "state").unlink(), "no template can be read: .*state"),
    "facts empty": (write_facts(""), "no template can be read"),
    "facts garbage": (write_facts("\0\xff{"), "no template can be read"),
    "facts of another form": (write_facts("[1, 2]"), "no template can be read"),
    "facts nested deeply": (write_facts("[" * 100_000), "no template can be read"),
    "facts incomplete": (write_facts("{}"), "no template can be read: 'sums'"),
    "console gone": (lambda saved: (saved / "logs" / "console.log").unlink(), "console.log"),
    "facts gone": (lambda saved: (saved / "template.json").unlink(), "no template can be read"),
}


def test_damage_is_seen(saved: Path, tmp_path: Path) -> None:
    for name, (damage, message) in DAMAGES.items():
        damaged = tmp_path / name.replace(" ", "-")
        # Times included.
        shutil.copytree(saved, damaged)
        load(GUEST, damaged)
        damage(damaged)
        with pytest.raises(TemplateError, match=message):
            load(GUEST, damaged)
        shutil.rmtree(damaged)


def test_what_was_copied_is_no_damage(saved: Path, tmp_path: Path) -> None:
    """A copy has other times, and holes where others were zeros, or zeros where others were holes."""
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy, copy_function=shutil.copyfile)
    content = (copy / "ram").read_bytes()
    (copy / "ram").write_bytes(content)
    assert (copy / "ram").stat().st_blocks > (saved / "ram").stat().st_blocks
    load(GUEST, copy)


def test_a_template_that_others_can_write_to_is_refused(saved: Path) -> None:
    for path in (saved / "ram", saved / "logs", saved):
        mode = path.stat().st_mode
        path.chmod(mode | 0o002)
        with pytest.raises(NotOurs, match="everybody can write to it"):
            load(GUEST, saved)
        path.chmod(mode)
    load(GUEST, saved)


def test_what_failed_beside_a_removed_template_can_be_run_again(saved: Path, tmp_path: Path) -> None:
    own = tmp_path / "test" / "guest-1"
    with clone(load(GUEST, saved), logs=own) as machine:
        # As memtype cache prune does beside a run.
        shutil.rmtree(saved)
        leave(own.parent, records=[], guests=[Evidence({}, machine.config)])
    script = (own / "rerun.sh").read_text()
    assert f"-option-rom {own / 'boot-rom.bin'} " in script
    assert (own / "boot-rom.bin").read_bytes() == ECHO


def test_a_guest_says_when_its_template_changes_below_it(saved: Path, tmp_path: Path) -> None:
    with clone(load(GUEST, saved), logs=tmp_path / "clone") as machine:
        assert machine.shaken() is None
        # Another run takes it away, which changes nothing for this one.
        (saved / "ram").rename(saved / "elsewhere")
        (saved / "elsewhere").chmod(0o600)
        assert machine.shaken() is None
        with (saved / "elsewhere").open("r+b") as file:
            file.write(b"changed")
        (saved / "elsewhere").unlink()
        wrong = machine.shaken()
        assert wrong is not None
        assert "somebody has changed it while a guest ran" in wrong.message
        assert wrong.exit_status == 3


def test_a_state_that_qemu_does_not_take_is_an_error_at_once(saved: Path, tmp_path: Path) -> None:
    template = load(GUEST, saved)
    assert template.guest.state is not None
    template.guest.state.write_bytes(b"QEVM nonsense" * 1000)
    with pytest.raises(GuestExited, match="load of migration failed"):
        clone(template, logs=tmp_path / "clone")


def test_a_guest_that_ends_before_it_is_ready_is_no_template(tmp_path: Path) -> None:
    reset = option_rom(ENDS["reset"])
    with pytest.raises(GuestExited, match="the guest reset itself"):
        save(replace(GUEST, kernel=None, initrd=None), boot_rom=reset, directory=tmp_path, prepare=is_there)
    assert not (tmp_path / "template.json").exists()
    with pytest.raises(TemplateError, match="no template can be read"):
        load(GUEST, tmp_path)


def test_notes_come_back_as_they_were(saved: Path) -> None:
    facts = json.loads((saved / "template.json").read_text())
    assert facts["notes"] == {"said": "here"}
    assert isinstance(load(GUEST, saved), Template)


def test_qemu_that_is_confined_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process namespace of its own it can't open the template's memory by the name that we give it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    wrapper = folder / QEMU
    wrapper.write_text(
        f"#!/bin/sh\nexec bwrap --dev-bind / / --unshare-pid --proc /proc '{shutil.which(QEMU)}' \"$@\"\n"
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    directory = tmp_path / "template"
    directory.mkdir()
    with pytest.raises(GuestExited) as caught:
        save(replace(GUEST, kernel=None, initrd=None), boot_rom=ECHO, directory=directory, prepare=is_there)
    assert "can't open backing store /proc/" in caught.value.message
    assert "QEMU is confined: by a profile of AppArmor" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_host_without_memory_files_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "memfd_create", forbidden)
    with pytest.raises(HostError) as caught:
        save(GUEST, boot_rom=None, directory=tmp_path, prepare=is_there)
    assert caught.value.message.startswith(
        "no file can be made in memory (memfd_create: Function not implemented)"
    )
