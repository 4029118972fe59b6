"""The luggage of tasks: zip files that travel to the workers, named by the hash of their contents."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest_memtype
from pytest_memtype.errors import KernelError, UsageError, reason
from pytest_memtype.host import resources
from pytest_memtype.host.private_folder import temporary_folder
from pytest_memtype.host.progress import Progress, silent
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.kernels.carry import export

LARGEST_TESTS: Final = 64 << 20
"""Bytes of a user's tests that travel."""

_MOST_FILES: Final = 20_000
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "venv"})
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Piece:
    """A zip file to send.

    :param name: The SHA-256 of its bytes.
    :param data: Its bytes.
    """

    name: str
    data: bytes


def package() -> Piece:
    """This package with its data, as it is installed or checked out here."""
    folder = Path(pytest_memtype.__file__).parent
    data = {
        f"pytest_memtype/_data/{place.name}": place
        for place in (resources.guest_sources(), resources.kernel_sets(), resources.testcases())
    }
    files = dict(_below("pytest_memtype", folder))
    for name, place in data.items():
        files |= dict(_below(name, place))
    return packed(files)


@dataclass(frozen=True)
class Tests:
    """The user's tests, packed.

    :param piece: The zip file.
    :param root: pytest's root folder in it.
    :param inifile: pytest's settings, relative to ``root``; empty without any.
    """

    piece: Piece
    root: str
    inifile: str


def tests(root: Path, inifile: Path | None, named: Iterable[Path]) -> Tests:
    """Pack the tests that a run names, with the settings, conftest.py and layouts of the folders above them.

    :param root: pytest's root folder.
    :param inifile: pytest's settings; None without any.
    :param named: The files and folders of tests.
    :raises UsageError: they are too large to travel, or can't be read.
    """
    folders = list(dict.fromkeys(path if path.is_dir() else path.parent for path in named))
    base = Path(os.path.commonpath([root, *folders, *([inifile.parent] if inifile else [])]))
    found: dict[str, Path] = {}
    for folder in folders:
        for above in (each for each in folder.parents if each.is_relative_to(root)):
            for path in (*above.glob("conftest.py"), *above.glob("*.toml"), *above.glob("layouts/*.toml")):
                found[str(path.relative_to(base))] = path
        size = 0
        for name, path in _below(str(folder.relative_to(base)), folder):
            found[name] = path
            size += path.stat().st_size
            if size > LARGEST_TESTS or len(found) > _MOST_FILES:
                raise UsageError(
                    f"{folder}: more than {LARGEST_TESTS >> 20} MiB or {_MOST_FILES} files, too much to send "
                    "to workers; name a folder that holds the tests alone"
                )
    if inifile is not None:
        found[str(inifile.relative_to(base))] = inifile
    try:
        piece = packed(found)
    except OSError as error:
        raise UsageError(f"{reason(error)}; the tests can't be sent to workers") from None
    relative = os.path.relpath(inifile, root) if inifile else ""
    return Tests(piece, str(root.relative_to(base)), relative)


def bundle_folder(folder: Path) -> Piece:
    """A kernel's bundle: what its guests boot from.

    :param folder: The bundle's folder.
    """
    return packed(dict(_below("", folder)))


def exported(spec: str) -> Piece:
    """A Debian kernel of this machine's cache, as ``memtype cache export`` writes it.

    :param spec: The exact spec.
    :raises KernelError: it isn't in the cache.
    """
    with temporary_folder("export") as place:
        file = place / "kernels.tar.gz"
        export(file, [spec], progress=silent)
        return packed({file.name: file})


def send_too(
    exact: str, sent: dict[str, Piece], why: str, *, say: Callable[[str], None], progress: Progress
) -> bool:
    """Have a Debian kernel travel that a worker can't get by itself; whether it travels from now on.

    It may do so already: several workers lack a kernel at once.

    :param exact: The kernel's exact spec.
    :param sent: What travels, by specs: it is added there.
    :param why: Why the worker can't get it.
    :param say: Called with a line for the user.
    :param progress: Called with each stage where this machine hasn't got it either.
    """
    if exact in sent:
        return True
    try:
        bundle(exact, progress=progress)
        sent[exact] = exported(exact)
    except KernelError as error:
        say(f"{exact} can't be sent to workers that lack it: {error.message}")
        return False
    say(f"{exact} is sent to the workers: {why}")
    return True


def packed(files: dict[str, Path]) -> Piece:
    """A zip file that is the same whenever the files' names, contents and permissions are.

    :param files: Files by their names in it.
    :raises OSError: a file can't be read.
    """
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, path in sorted(files.items()):
            about = zipfile.ZipInfo(name, _EPOCH)
            about.external_attr = (0o755 if os.access(path, os.X_OK) else 0o644) << 16
            about.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(about, path.read_bytes(), compresslevel=1)
    data = memory.getvalue()
    return Piece(hashlib.sha256(data).hexdigest(), data)


def _below(name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The files below a folder with their names in a zip file, without what is hidden or installed there."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(
            each
            for each in folders
            if not each.startswith(".")
            and each not in _SKIPPED
            and not (Path(place) / each / "pyvenv.cfg").exists()
        )
        for file in sorted(files):
            path = Path(place) / file
            if path.is_file() and not file.endswith(".pyc"):
                yield str(Path(name) / path.relative_to(folder)), path
