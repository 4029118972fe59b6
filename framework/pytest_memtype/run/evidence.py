"""The evidence of a run in one archive: its records, and the logs of its failed tests, of a bounded size."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pytest_memtype.errors import UsageError
from pytest_memtype.host.files import atomically
from pytest_memtype.host.nearest import did_you_mean

LEFT_OUT: Final = "LEFT-OUT.txt"
"""The file of the archive that names what isn't in it."""

_LARGEST_FILE: Final = 16 << 20
# Records first, and of each guest what is small: where there isn't room for all, that tells the most.
_FIRST: Final = ("records.jsonl", "bugs.jsonl", "verdicts.txt", "guest.json", "rerun.sh", "console.log")
_Mode = Literal["w", "w:gz", "w:xz"]
_MODES: Final[dict[str, _Mode]] = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz"}


@dataclass(frozen=True)
class Archived:
    """An archive that was made.

    :param files: Number of files in it.
    :param size: Their bytes, before they were compressed.
    :param left_out: What isn't in it, or not whole: a path and the reason each.
    """

    files: int
    size: int
    left_out: tuple[str, ...]


def find_run(name: str, base: Path) -> Path:
    """The folder of a run.

    :param name: Its path, its name below ``base``, or ``latest``.
    :param base: The folder of all runs, ``.memtype``.
    :raises UsageError: there is none.
    """
    runs = base / "runs"
    places = [Path(name), *([base / "latest"] if name == "latest" else [runs / name])]
    for path in places:
        # An empty name, as of a script's variable that isn't set, would be the current folder's.
        if name and path.is_dir():
            return path.resolve()
    there = [each.name for each in runs.iterdir()] if runs.is_dir() else []
    raise UsageError(
        f"{name or repr(name)}: no run; name a folder below {runs}, or latest{did_you_mean(name, there)}"
    )


def archive(run: Path, to: Path, *, most: int) -> Archived:
    """Write the evidence of a run into an archive of tar.

    Only regular files go into it. Of one with more than 16 MiB it has the beginning and the end.

    :param run: The run's folder.
    :param to: The archive. Its name says how it is compressed: ``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.xz``.
    :param most: The most bytes of files that go into it.
    :raises UsageError: the name is another, or it can't be written there.
    """
    mode = next((mode for ending, mode in _MODES.items() if to.name.endswith(ending)), None)
    if mode is None:
        raise UsageError(f"{to}: no archive is made of that name; let it end with {', '.join(_MODES)}")
    files = size = 0
    left_out: list[str] = []
    with atomically(to) as out, tarfile.open(fileobj=out, mode=mode, format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(_files(run), key=_rank):
            name = path.relative_to(run)
            read = _read(path)
            if isinstance(read, str):
                left_out.append(f"{name}: {read}")
                continue
            content, changed, whole = read
            if size + len(content) > most:
                left_out.append(f"{name}: {whole} bytes, for which there was no room")
                continue
            if len(content) < whole:
                left_out.append(f"{name}: {whole} bytes, of which the middle is left out")
            _add(tar, f"{run.name}/{name}", content, changed)
            files, size = files + 1, size + len(content)
        if left_out:
            lines = "\n".join(left_out) + "\n"
            _add(tar, f"{run.name}/{LEFT_OUT}", lines.encode(errors="backslashreplace"), 0)
    return Archived(files, size, tuple(left_out))


def _files(run: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(run):
        # What the processes of a run tell each other is hidden.
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _rank(path: Path) -> tuple[int, str]:
    kind = _FIRST.index(path.name) if path.name in _FIRST else len(_FIRST)
    return kind, str(path)


def _read(path: Path) -> tuple[bytes, int, int] | str:
    """A file's content, or its two ends; the time of its last change, and its size. Or why there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return error.strerror or "can't be read"
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return "no regular file"
        whole = status.st_size
        if whole <= _LARGEST_FILE:
            return file.read(_LARGEST_FILE), int(status.st_mtime), whole
        half = _LARGEST_FILE // 2
        begins = file.read(half)
        file.seek(-half, os.SEEK_END)
        gap = f"\n[{whole - 2 * half} bytes are left out here]\n".encode()
        return begins + gap + file.read(half), int(status.st_mtime), whole


def _add(tar: tarfile.TarFile, name: str, content: bytes, changed: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(content), changed, 0o755 if name.endswith(".sh") else 0o644
    tar.addfile(member, io.BytesIO(content))
