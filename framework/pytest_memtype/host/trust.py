"""Whether only this user could have changed the cache, which is preloaded into QEMU, run and booted."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pytest_memtype.errors import NotOurs

_ROOT: Final = 0

#: More links in one path than Linux follows (fs/namei.c, MAXSYMLINKS).
_MOST_LINKS: Final = 40


def require_ours(path: Path, *, contents: bool = True) -> None:
    """Check that only this user and root can replace or change a path, as ssh does with its files.

    The path belongs to one of the two, and others can write neither to it nor to a folder above it. Sticky
    folders above, such as /tmp, are fine: users can rename only their own files in them. A group of which its
    owner is the only member doesn't count as others. The same holds for links on the way.

    :param path: A file or folder that exists.
    :param contents: Look at all that is in the folder, too.
    :raises NotOurs: another user can; one line says who, and what to do.
    :raises OSError: the path is gone.
    """
    steps = list(_steps(path.absolute()))
    for place, status in steps[:-1]:
        _check(place, status, above=True)
    place, status = steps[-1]
    _check(place, status, above=False)
    if contents and stat.S_ISDIR(status.st_mode):
        for folder, folders, files in os.walk(place):
            for name in (*folders, *files):
                inside = Path(folder) / name
                _check(inside, inside.lstat(), above=False)


def _steps(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The folders and links that lead to a path, from the root on; the target of a link comes behind it."""
    pending = list(reversed(path.parts[1:]))
    at, links = Path("/"), 0
    yield at, at.lstat()
    while pending:
        part = pending.pop()
        if part == "..":
            at = at.parent
            continue
        here = at / part
        status = here.lstat()
        if stat.S_ISLNK(status.st_mode):
            # The mode of a link says nothing, only its owner counts. Its target follows.
            yield here, status
            links += 1
            if links > _MOST_LINKS:
                raise NotOurs(f"{path}: goes through more than {_MOST_LINKS} links; name it without")
            target = here.readlink()
            if target.is_absolute():
                at = Path("/")
            pending += reversed([each for each in target.parts if each != "/"])
            continue
        at = here
        yield at, status


def _check(place: Path, status: os.stat_result, *, above: bool) -> None:
    if status.st_uid not in (os.geteuid(), _ROOT) and not (above and _is_unknown(status.st_uid)):
        raise NotOurs(
            f"{place}: belongs to {_user(status.st_uid)}, and what it leads to is run and booted as "
            f"{_user(os.geteuid())}; set MEMTYPE_CACHE to a folder of your own"
        )
    if stat.S_ISLNK(status.st_mode):
        return
    mode = stat.S_IMODE(status.st_mode)
    if above and mode & stat.S_ISVTX:
        return
    writers = [
        *(["everybody"] if mode & stat.S_IWOTH else []),
        *(["its group"] if mode & stat.S_IWGRP and not _is_private(status.st_gid, status.st_uid) else []),
    ]
    if writers:
        raise NotOurs(
            f"{place}: {writers[0]} can write to it (mode {mode:04o}), and what is there is run as "
            f"{_user(os.geteuid())}; chmod go-w it, or set MEMTYPE_CACHE to a folder of your own"
        )


@functools.cache
def _is_private(group: int, owner: int) -> bool:
    """Whether a user is the only member of a group, as Debian gives one to each."""
    try:
        members = grp.getgrgid(group).gr_mem
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        return False
    if any(member != name for member in members):
        return False
    return all(each.pw_uid == owner for each in pwd.getpwall() if each.pw_gid == group)


@functools.cache
def _is_unknown(user: int) -> bool:
    """Whether the number stands for all users that are unknown in this process's user namespace.

    The host's root, which owns the folders at the top, is one of them there.
    """
    try:
        unknown = int(Path("/proc/sys/kernel/overflowuid").read_text())
        maps = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except OSError:
        return False
    return user == unknown and sum(int(length) for _, _, length in maps) < (1 << 32) - 1


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
