"""The store of templates: one folder each, made once even when several runs want it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pytest_memtype.errors import GuestError, HostError, NoTemplate, TemplateError
from pytest_memtype.host import store
from pytest_memtype.host.progress import Progress, Remark
from pytest_memtype.host.store import (
    clear_unfinished,
    exclusive,
    exclusive_if_free,
    make_folder,
    remove_unused,
    staged,
)
from pytest_memtype.machine.machine import NOTHING, Machine
from pytest_memtype.machine.qemu_command import QemuConfig
from pytest_memtype.machine.template import Template, load, save, template_key

#: Bytes on the disk of a template of the suite's, on average: 118 MiB with Linux 6.1, 132 with 7.3.
TEMPLATE: Final = 132 << 20

#: Bytes on the disk that the suite's templates of one kernel take. When there is less room than they need,
#: each has gone by the time that it is wanted again, and every run boots them all.
SUITE: Final = 90 * TEMPLATE

#: Bytes on the disk that templates may take together.
LIMIT: Final = 3 * SUITE

#: Bytes of the disk that templates leave to others.
RESERVE: Final = 2 << 30

_READY: Final = "ready"


@dataclass(frozen=True)
class StoredTemplate:
    """A template on the disk.

    :param directory: The folder of the template, which has it in ``ready``.
    :param size: Bytes that it takes on the disk.
    :param used: Time of its last use, in seconds since the epoch.
    """

    directory: Path
    size: int
    used: float


def get(
    guest: QemuConfig,
    *,
    boot_rom: bytes | None,
    cache: Path,
    prepare: Callable[[Machine], Any],
    progress: Progress,
    fw_cfg_files: Mapping[str, bytes] = NOTHING,
    deployed: Iterable[Path] = (),
    failed_logs: Path | None = None,
) -> Template:
    """The template of a guest. It is made if there is none, or a damaged one, which is reported.

    :param guest: The configuration to boot.
    :param boot_rom: Bytes of the option ROM; None without.
    :param cache: The folder of all templates.
    :param prepare: Called with the running guest; returns the notes, see
        :func:`pytest_memtype.machine.template.save`.
    :param progress: Called with a line before a boot, and with a :class:`Remark` about a damaged template.
    :param fw_cfg_files: Contents of files that a guest that must be booted may read, by name; see
        :meth:`Machine.start`.
    :param deployed: Files that ``prepare`` brings into the guest.
    :param failed_logs: A folder, made if need be, for the logs of a guest that can't be booted or saved; None
        drops them.
    :raises GuestError: the guest can't be booted or saved.
    :raises HostError: the disk is full, another run doesn't finish the same template, or others than this
        user could have changed it.
    """
    folder = cache / template_key(guest, boot_rom=boot_rom, deployed=deployed)
    ready = folder / _READY
    try:
        return _used(folder, load(guest, ready))
    except TemplateError:
        make_folder(folder)
    with exclusive(folder, progress):
        try:
            # Another run may have made it while this one waited.
            return _used(folder, load(guest, ready))
        except NoTemplate:
            pass
        except TemplateError as error:
            progress(Remark(f"a template is damaged, and made again: {error}"))
            discard(folder)
        progress(f"booting a template on {guest.hardware.cpu}")
        # Before, too: others may have filled the disk.
        prune(cache, limit=room(cache), keep=folder)
        with staged(ready, cache=folder) as directory:
            directory.mkdir()
            try:
                save(
                    guest, boot_rom=boot_rom, directory=directory, prepare=prepare, fw_cfg_files=fw_cfg_files
                )
            except (GuestError, HostError):
                if failed_logs is not None:
                    with contextlib.suppress(OSError):
                        shutil.copytree(directory / "logs", failed_logs, dirs_exist_ok=True)
                raise
    prune(cache, limit=room(cache), keep=folder)
    return load(guest, ready)


def room(cache: Path) -> int:
    """The number of bytes that templates may take together on this disk.

    :param cache: The folder of all templates; the folder that it is in exists.
    """
    taken = sum(template.size for template in stored(cache))
    return min(LIMIT, max(0, taken + shutil.disk_usage(cache.parent).free - RESERVE))


def _used(folder: Path, template: Template) -> Template:
    os.utime(folder)
    return template


def reject(
    guest: QemuConfig,
    *,
    boot_rom: bytes | None,
    cache: Path,
    progress: Progress,
    deployed: Iterable[Path] = (),
) -> None:
    """Remove the template of a guest whose clones don't live: the next run makes it anew."""
    folder = cache / template_key(guest, boot_rom=boot_rom, deployed=deployed)
    if folder.is_dir():
        with exclusive(folder, progress):
            discard(folder)


def discard(folder: Path) -> None:
    """Remove a template. Guests that were cloned from it live on. The caller holds the folder's lock.

    :param folder: The folder of the template.
    :raises HostError: the template can't be removed.
    """
    store.discard(folder / _READY, cache=folder)


def stored(cache: Path) -> list[StoredTemplate]:
    """The templates in the store, least recently used first."""
    found = []
    for folder in cache.iterdir() if cache.is_dir() else ():
        if (folder / _READY).is_dir():
            # Another run may remove it at this moment.
            with contextlib.suppress(FileNotFoundError):
                size = sum(path.stat().st_blocks * 512 for path in (folder / _READY).rglob("*"))
                found.append(StoredTemplate(folder, size, folder.stat().st_mtime))
    return sorted(found, key=lambda template: template.used)


def prune(cache: Path, *, limit: int, keep: Path | None = None) -> None:
    """Remove the least recently used templates until the rest takes at most ``limit`` bytes.

    The unfinished templates of killed runs go too: the same template may never be asked for again. A template
    whose lock is held stays: a run is about to use it.

    :param cache: The folder of all templates; it may not exist.
    :param limit: Bytes on the disk that templates may take afterwards.
    :param keep: The folder of a template that stays in any case; None for none.
    :raises HostError: a template can't be removed.
    """
    for folder in cache.iterdir() if cache.is_dir() else ():
        if (folder / "partial").is_dir():
            clear_unfinished(folder)
        if not (folder / _READY).is_dir():
            remove_unused(folder)
    templates = stored(cache)
    total = sum(template.size for template in templates)
    for template in templates:
        if total <= limit:
            return
        if template.directory == keep:
            continue
        with exclusive_if_free(template.directory) as free:
            if free:
                discard(template.directory)
                total -= template.size
        remove_unused(template.directory)
