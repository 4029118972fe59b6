"""Templates and clones: a guest that has booted once, saved, and restored privately many times.

A template is a folder with ``ram``, the guest's memory, and ``state``, that of its devices. A clone
maps ``ram`` privately: it sees the booted guest, and its writes stay its own. The device
state is QEMU's migration stream with ``x-ignore-shared``, which leaves out memory that is shared with
a file (QEMU 4.0; private destinations: 4.1).

While it boots, a template's memory is no file on the disk: what the guest writes would be written
there at once, over and over, and wait for the disk whenever that is busy. The pages that it never touched
become holes of ``ram``, which takes 115 MiB then of a default guest's 256 (Linux 6.1).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from pytest_memtype.errors import HostError, NoTemplate, TemplateError
from pytest_memtype.host.checksum import Seen, checksum_of, whole
from pytest_memtype.host.store import flush
from pytest_memtype.host.trust import require_ours
from pytest_memtype.machine.machine import NOTHING, Machine
from pytest_memtype.machine.migration import leave_ram_out, load_state, save_state
from pytest_memtype.machine.qemu_command import QemuConfig, rerun_command
from pytest_memtype.machine.qemu_versions import this_qemu

#: Raise it when templates of earlier versions of this code can't be used.
_FORMAT: Final = 5

_FACTS: Final = "template.json"


@dataclass(frozen=True)
class Template:
    """A saved guest, to be cloned.

    :param guest: The configuration to start to restore it.
    :param console: The output of its console until it was saved.
    :param notes: The notes that :func:`save` was given by ``prepare``; JSON.
    :param ram: The state of the file ``ram`` when it was found whole.
    :param boot_rom: The boot ROM that it was booted with, None without. Its file may be gone by the time that
        the guest is booted again.
    """

    guest: QemuConfig
    console: bytes
    notes: Any
    ram: Seen
    boot_rom: bytes | None


def template_key(guest: QemuConfig, *, boot_rom: bytes | None, deployed: Iterable[Path] = ()) -> str:
    """The hash of all that makes a template different from others.

    :param guest: The configuration to boot.
    :param boot_rom: Bytes of the option ROM; None without.
    :param deployed: Files that are brought into the guest before it is saved, which never change.
    """
    digest = hashlib.sha256()
    parts: dict[str, object] = {
        "format": _FORMAT,
        "qemu": this_qemu().banner,
        "hardware": asdict(guest.hardware),
        # Bundles never change, so a path in the cache stands for its content.
        "command": rerun_command(guest),
        "deployed": [str(path) for path in deployed],
        "boot_rom": None if boot_rom is None else boot_rom.hex(),
    }
    digest.update(json.dumps(parts, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def save(
    guest: QemuConfig,
    *,
    boot_rom: bytes | None,
    directory: Path,
    prepare: Callable[[Machine], Any],
    fw_cfg_files: Mapping[str, bytes] = NOTHING,
) -> None:
    """Boot a guest, and save it as a template.

    :param guest: The configuration to boot; its ``ram_file`` is replaced.
    :param boot_rom: Bytes of the option ROM; None without.
    :param directory: An empty folder. It becomes a template by a rename to the place where :func:`load` reads
        it, after all of this has ended well.
    :param prepare: Called with the running guest; returns when it is ready to be saved, with the notes.
    :param fw_cfg_files: Contents of files that the guest may read while it boots, by name: see
        :meth:`Machine.start`.
    :raises GuestError: The guest didn't become ready, or QEMU couldn't save it.
    :raises OSError: The disk is full.
    :raises HostError: this host doesn't allow a file in memory.
    """
    ram, state = directory / "ram", directory / "state"
    if boot_rom is not None:
        (directory / "boot-rom.bin").write_bytes(boot_rom)
    with os.fdopen(memory_file(), "r+b") as memory:
        memory.truncate(guest.hardware.memory_bytes)
        started = replace(guest, ram_file=Path(f"/proc/{os.getpid()}/fd/{memory.fileno()}"), ram_share=True)
        logs = directory / "logs"
        with Machine.start(started, logs=logs, boot_rom=boot_rom, fw_cfg_files=fw_cfg_files) as machine:
            machine.resume()
            notes = prepare(machine)
            machine.qmp.execute("stop")
            leave_ram_out(machine.qmp)
            save_state(machine.qmp, state)
            machine.qmp.execute("quit")
        # Only now: the guest wrote to its memory until its end.
        with ram.open("xb") as file:
            _copy_with_holes(memory, file)
    facts = {
        "sums": {name: checksum_of(directory / name) for name in _files(directory)},
        "notes": notes,
    }
    (directory / _FACTS).write_text(sealed(facts))
    # A power cut must not leave a template that looks whole.
    flush(directory)


def _files(directory: Path) -> list[str]:
    """The names of the files that a clone is made from, and that are needed to boot its guest again."""
    names = ("ram", "state", "logs/console.log", "boot-rom.bin")
    return [name for name in names if (directory / name).exists()]


def sealed(facts: Mapping[str, Any]) -> str:
    """The text of ``template.json``, which has a checksum of its own."""
    plain = {key: value for key, value in facts.items() if key != "sum"}
    return json.dumps({**plain, "sum": _sum_of(plain)})


def _sum_of(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def memory_file() -> int:
    """A descriptor of an empty file in memory.

    :raises HostError: this host doesn't allow one.
    """
    try:
        return os.memfd_create("ram")
    except OSError as error:
        raise HostError(
            f"no file can be made in memory (memfd_create: {error.strerror}); is this process confined by a "
            "seccomp filter, such as a container's?"
        ) from None


def _copy_with_holes(source: BinaryIO, to: BinaryIO) -> None:
    """Copy a file to an empty one. Holes of the file stay holes."""
    to.truncate(os.fstat(source.fileno()).st_size)
    position = 0
    while (start := _next_data(source, position)) is not None:
        position = os.lseek(source.fileno(), start, os.SEEK_HOLE)
        to.seek(start)
        while start < position:
            start += os.sendfile(to.fileno(), source.fileno(), start, position - start)


def _next_data(file: BinaryIO, position: int) -> int | None:
    try:
        return os.lseek(file.fileno(), position, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


def load(guest: QemuConfig, directory: Path) -> Template:
    """The template in a folder, if its files are as they were saved.

    :param guest: The configuration that it was saved from.
    :param directory: The folder of the template.
    :raises NoTemplate: there is no such folder.
    :raises TemplateError: the template is damaged.
    :raises NotOurs: Others than this user could have changed it.
    """
    if not directory.is_dir():
        raise NoTemplate(f"{directory}: no template can be read: there is none")
    try:
        require_ours(directory)
        facts = json.loads((directory / _FACTS).read_text())
        sums, notes = facts["sums"], facts["notes"]
        if facts.pop("sum") != _sum_of(facts):
            raise TemplateError(f"{directory / _FACTS} has changed since it was saved")
        found = {name: whole(directory / name, expected) for name, expected in sums.items()}
        ram, state = found["ram"], found["state"]
        changed = [str(directory / name) for name, seen in found.items() if seen is None]
        if changed or ram is None or state is None:
            raise TemplateError(f"{', '.join(changed)} has changed since it was saved")
        console = (directory / "logs" / "console.log").read_bytes()
        rom = (directory / "boot-rom.bin").read_bytes() if "boot-rom.bin" in sums else None
    except FileNotFoundError as error:
        # Such as a template that another run removes at this moment.
        gone = NoTemplate if not directory.is_dir() else TemplateError
        raise gone(f"{directory}: no template can be read: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TemplateError(f"{directory}: no template can be read: {error}") from None
    return Template(
        guest=replace(
            guest,
            ram_file=directory / "ram",
            ram_share=False,
            state=directory / "state",
        ),
        console=console,
        notes=notes,
        ram=ram,
        boot_rom=rom,
    )


def clone(template: Template, *, logs: Path) -> Machine:
    """Start a fresh guest that runs on from where the template was saved.

    :param template: The template; any number of clones may run at the same time.
    :param logs: Folder for the logs of the clone, made if need be.
    :raises GuestError: QEMU didn't start, or couldn't load the state.
    :raises OSError: The template is gone.
    """
    machine = Machine.start(template.guest, logs=logs, boot_rom=template.boot_rom, history=template.console)
    try:
        assert template.guest.ram_file is not None
        machine.stands_on(template.guest.ram_file, template.ram)
        leave_ram_out(machine.qmp)
        load_state(machine)
        machine.resume()
    except BaseException:
        machine.close()
        raise
    return machine
