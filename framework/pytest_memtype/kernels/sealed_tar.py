"""A tar file that lists its own contents: a manifest comes first, with the SHA-256 of every file.

The manifest finds damage, such as a file cut short on its way. It doesn't prove who made the file:
a hostile file may have a manifest that fits its contents. Unpacking a hostile file does no harm,
though: every name, type, size and target of a link is checked before anything is written, and only files,
folders and links that the caller allows are made. ``tarfile``'s own filter isn't relied on: Python has it
from 3.11.4 on, and Debian 12 has 3.11.2.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Annotated, Any, Final, Literal

import msgspec

from pytest_memtype.errors import HostError, UsageError, reason
from pytest_memtype.host.files import opened

MANIFEST: Final = "memtype-export.json"
"""The name of the first member of the tar file."""

_FORMAT = 1
# Kernels are compressed already; the rest gets half as large, at the speed of a disk.
_LEVEL = 1
_PIECE = 1 << 20
# A toolchain has 20,000 files, with 250 bytes each in the manifest. So those of fifty kernels fit.
_MANIFEST_BYTES = 256 << 20
_MOST_MEMBERS = 1_000_000
_MOST_BYTES = 64 << 30
_NO_DIGEST = "0" * 64
# The most bytes of a member's header, with a long name, and of what tarfile reads ahead.
_HEADER_BYTES = 1 << 20
_NAME = re.compile(r"[^\0-\x1f\x7f]{1,4000}")


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the tar file.

    :param kind: ``folder``, ``file`` or ``link``.
    :param size: Bytes of a file; 0 for the others.
    :param sha256: SHA-256 of a file's contents, in hexadecimal.
    :param executable: Whether a file is a program.
    :param target: The target of a link, as it is written in it.
    """

    kind: Literal["folder", "file", "link"]
    size: Annotated[int, msgspec.Meta(ge=0)] = 0
    sha256: str = ""
    executable: bool = False
    target: str = ""


class _Format(msgspec.Struct):
    """The part of a manifest that all versions have."""

    format: int


class _Contents(msgspec.Struct):
    """The part of a manifest that is read; anything else in it takes no memory."""

    members: dict[str, Member]


Allowed = Callable[[str, Member, Mapping[str, Member]], bool]
"""Returns whether a file may have a member: called with its name, the member, and all members by name."""


def write(
    file: IO[bytes],
    folders: Mapping[str, Path],
    facts: Mapping[str, Any],
    *,
    allowed: Allowed,
    left_out: Callable[[str, Member], bool],
) -> None:
    """Write files and folders with all that is in them, if :func:`unpack` would take them.

    Device nodes and the like are left out.

    :param file: The open file to write to.
    :param folders: Files and folders by their names in the tar file, such as ``bundles/X``.
    :param facts: Further content of the manifest; JSON.
    :param allowed: Called with each member's name, the member and all members: whether :func:`unpack` would
        take it.
    :param left_out: Called with each member's name and the member: whether it is not to be written.
    :raises UsageError: :func:`unpack` would refuse the file; nothing was written.
    :raises HostError: a file of the cache can't be read, or is written to meanwhile.
    :raises OSError: the tar file can't be written.
    """
    try:
        found = dict(_found(folders))
        members = {name: _described(path) for name, path in found.items()}
    except OSError as error:
        raise _unreadable(error) from None
    members = {name: member for name, member in members.items() if not left_out(name, member)}
    try:
        _check_all(members, allowed=allowed)
        _check_manifest(_manifest(members, facts))
    except _Refused as error:
        what = (
            "export fewer kernels at a time"
            if isinstance(error, _TooLarge)
            else "remove it and fetch it anew"
        )
        raise UsageError(f"nothing was written that import would refuse: {error}; {what}") from None
    members = {name: _with_digest(member, found[name]) for name, member in members.items()}
    manifest = _manifest(members, facts)
    with (
        gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_LEVEL, filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        tar.addfile(_header(MANIFEST, Member("file", len(manifest))), io.BytesIO(manifest))
        for name, member in members.items():
            if member.kind == "file":
                with _opened(found[name]) as file_of_cache:
                    contents = _Watched(file_of_cache, found[name])
                    tar.addfile(_header(name, member), contents)
                if contents.digest.hexdigest() != member.sha256:
                    raise _changed(found[name])
            else:
                tar.addfile(_header(name, member))


def unpack(
    path: Path,
    target: Path,
    *,
    allowed: Allowed,
    on_size: Callable[[int], None],
) -> None:
    """Unpack a file that :func:`write` has made into an empty folder.

    :param path: The tar file.
    :param target: An existing, empty folder.
    :param allowed: Called with each member's name, the member and all members: whether a file may have it. It
        is called for the folders above it as well.
    :param on_size: Called with the bytes that all files will take, before the first is made.
    :raises UsageError: the file is damaged, or no such file; the caller removes what is in ``target``.
    :raises OSError: a file can't be written.
    """
    try:
        with opened(path) as raw, gzip.GzipFile(fileobj=raw, mode="rb") as packed:
            bounded = _Bounded(packed)
            with tarfile.open(fileobj=bounded, mode="r|") as tar:
                _unpack(tar, bounded, target, allowed=allowed, on_size=on_size)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: {reason(error)}") from None
    except _Refused as error:
        raise UsageError(f"{path}: refused: {error}; nothing of it was kept") from None
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"{path}: damaged, cut short or not made by memtype cache export ({text}); copy it again"
        ) from None


class _Refused(Exception):
    """The file holds something that it may not hold. The message says what."""


class _TooLarge(_Refused):
    """The file holds more than can be checked."""


class _Watched:
    """A file of the cache that is read into the tar file; as many bytes as its header says."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self.digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        try:
            piece = self._file.read(size)
        except OSError as error:
            raise _unreadable(error) from None
        if len(piece) < size:
            raise _changed(self._path)
        self.digest.update(piece)
        return piece


class _Bounded(io.RawIOBase):
    """A reader of as many bytes as were allowed, so that no header can make tarfile fill the memory."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self._left = _HEADER_BYTES

    def allow(self, size: int) -> None:
        """Allow the next member's header and ``size`` bytes."""
        self._left = size + _HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise _Refused("a member's header is larger than any that was written")
        return data

    def readable(self) -> bool:
        return True


def _unpack(
    tar: tarfile.TarFile,
    bounded: _Bounded,
    target: Path,
    *,
    allowed: Allowed,
    on_size: Callable[[int], None],
) -> None:
    members = _read_manifest(tar, bounded)
    on_size(_check_all(members, allowed=allowed))
    left = dict(members)
    while True:
        bounded.allow(0)
        header = tar.next()
        if header is None:
            break
        expected = left.pop(header.name, None)
        if expected is None:
            raise _Refused(f"{header.name!r} is not in its manifest, or is there twice")
        if _kind(header) != expected.kind or (header.isreg() and header.size != expected.size):
            raise _Refused(f"{header.name!r} is not what the manifest says")
        bounded.allow(expected.size)
        _make(tar, header, expected, target / header.name)
        # tarfile would keep them all in memory.
        tar.members = []  # type: ignore[attr-defined]
    # Behind the end there is padding, and what gzip has to check.
    bounded.allow(0)
    while bounded.read(_PIECE):
        pass
    if left:
        raise EOFError(f"{len(left)} files are missing")


def _read_manifest(tar: tarfile.TarFile, bounded: _Bounded) -> dict[str, Member]:
    header = tar.next()
    if header is None or header.name != MANIFEST or not header.isreg():
        raise ValueError(f"it doesn't begin with {MANIFEST}")
    _check_size(header.size)
    bounded.allow(header.size)
    file = tar.extractfile(header)
    assert file is not None
    manifest = file.read()
    _check_manifest(manifest)
    number = msgspec.json.decode(manifest, type=_Format).format
    if number != _FORMAT:
        raise ValueError(f"its format is {number}, and this version reads {_FORMAT}")
    return msgspec.json.decode(manifest, type=_Contents).members


def _check_all(members: Mapping[str, Member], *, allowed: Allowed) -> int:
    """Check all that a manifest says, and return the bytes that all files take.

    :param members: The members that the manifest lists, by name.
    :param allowed: Called with each member's name, the member and all members.
    :raises _Refused: a member may not be there, or there is too much.
    """
    _check_count(len(members))
    for name, member in members.items():
        _check(name, member, members)
        if not allowed(name, member, members):
            raise _Refused(f"{name!r}: no {member.kind} of that name belongs to a kernel")
    total = sum(member.size for member in members.values())
    if total > _MOST_BYTES:
        raise _TooLarge(f"its files take {total >> 30} GiB, and {_MOST_BYTES >> 30} are the most")
    return total


def _check_manifest(manifest: bytes) -> None:
    _check_size(len(manifest))
    # Each member is an object. They are counted before they take several times the memory of their text.
    _check_count(manifest.count(b"{"))


def _check_size(size: int) -> None:
    if size > _MANIFEST_BYTES:
        raise _TooLarge(f"its manifest takes {size >> 20} MiB, and {_MANIFEST_BYTES >> 20} are the most")


def _check_count(count: int) -> None:
    if count > _MOST_MEMBERS:
        raise _TooLarge(f"it has {count} files, and {_MOST_MEMBERS} are the most")


def _check(name: str, member: Member, members: Mapping[str, Member]) -> None:
    """Check that a member lies below the folder, and in folders that are members themselves."""
    parts = name.split("/")
    if not _NAME.fullmatch(name) or any(part in ("", ".", "..") for part in parts):
        raise _Refused(f"{name[:80]!r} is not the name of a file below the cache")
    if len(parts) > 1:
        above = members.get("/".join(parts[:-1]))
        # A file behind a link would be written elsewhere.
        if above is None or above.kind != "folder":
            raise _Refused(f"{name!r} is in no folder of the file's own")
    if member.kind != "file" and member.size:
        raise _Refused(f"{name!r} is a {member.kind}, and has a size")
    if member.kind == "link" and not _NAME.fullmatch(member.target):
        raise _Refused(f"{name!r} is a link to nowhere")


def _kind(header: tarfile.TarInfo) -> str:
    if header.isdir():
        return "folder"
    if header.issym():
        return "link"
    # An export has no hard links, device nodes and sparse files.
    return "file" if header.type == tarfile.REGTYPE else "other"


def _make(tar: tarfile.TarFile, header: tarfile.TarInfo, member: Member, path: Path) -> None:
    """Make one member; the folder that it is in was made before, since the file has it before."""
    if member.kind == "folder":
        path.mkdir(mode=0o755)
        return
    if member.kind == "link":
        if header.linkname != member.target:
            raise _Refused(f"{header.name!r} is not what the manifest says")
        path.symlink_to(member.target)
        return
    contents = tar.extractfile(header)
    assert contents is not None
    digest = hashlib.sha256()
    mode = 0o755 if member.executable else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        while piece := contents.read(_PIECE):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != member.sha256:
        raise ValueError(f"{header.name} has another SHA-256 than its manifest says")


def _found(folders: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    """The names of all members to write, with their paths, each behind the folder that it is in."""
    above: set[str] = set()
    for name, path in folders.items():
        for parent in reversed(Path(name).parents[:-1]):
            if str(parent) not in above:
                above.add(str(parent))
                yield str(parent), path.parent
        yield name, path
        # Path.rglob() follows links to folders in some versions of Python.
        for folder, _, files in os.walk(path, onerror=_raise) if path.is_dir() else ():
            inside = Path(folder)
            if inside != path:
                yield f"{name}/{inside.relative_to(path)}", inside
            links = [entry.name for entry in os.scandir(folder) if entry.is_symlink()]
            for file in sorted({*files, *links}):
                status = (inside / file).lstat()
                if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                    yield f"{name}/{(inside / file).relative_to(path)}", inside / file


def _opened(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(error) from None


def _unreadable(error: OSError) -> HostError:
    """The error about an unreadable file of the cache: OSError would mean the file that is written."""
    return HostError(f"{reason(error)}: it can't be read; make it yours to read, or remove it")


def _changed(path: Path) -> HostError:
    return HostError(f"{path}: was written to while it was read; try again")


def _raise(error: OSError) -> None:
    raise error


def _described(path: Path) -> Member:
    """The member that a path would be, as yet without its digest, which takes long."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return Member("link", target=str(path.readlink()))
    if stat.S_ISDIR(status.st_mode):
        return Member("folder")
    return Member("file", status.st_size, _NO_DIGEST, executable=bool(status.st_mode & 0o111))


def _with_digest(member: Member, path: Path) -> Member:
    if member.kind != "file":
        return member
    try:
        with _opened(path) as file:
            return replace(member, sha256=hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise _unreadable(error) from None


def _manifest(members: Mapping[str, Member], facts: Mapping[str, Any]) -> bytes:
    content = {
        "format": _FORMAT,
        "facts": facts,
        "members": {name: asdict(member) for name, member in members.items()},
    }
    return json.dumps(content).encode()


def _header(name: str, member: Member) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    match member.kind:
        case "folder":
            header.type, header.mode = tarfile.DIRTYPE, 0o755
        case "link":
            header.type, header.linkname = tarfile.SYMTYPE, member.target
        case _:
            header.size, header.mode = member.size, 0o755 if member.executable else 0o644
    return header
