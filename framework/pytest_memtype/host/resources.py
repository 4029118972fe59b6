"""The folders of the files that are not Python, and of built things."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from pytest_memtype.errors import HostError, UsageError
from pytest_memtype.host.files import named_path
from pytest_memtype.host.trust import require_ours

_PACKAGE = Path(__file__).resolve().parents[1]


def _folder(name: str) -> Path:
    """A data folder: inside an installed wheel, or at the top of a checkout.

    :param name: The folder's name, such as ``guests``.
    :raises HostError: the installation holds neither.
    """
    candidates = (_PACKAGE / "_data" / name, _PACKAGE.parents[1] / name)
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise HostError(f"{candidates[0]}: folder is missing; install pytest-memtype again")


def guest_sources() -> Path:
    """The folder of the guest's C sources and the list of its initramfs (``guests/``)."""
    return _folder("guests")


def kernel_sets() -> Path:
    """The folder of the named kernel sets (``kernels/*.toml``)."""
    return _folder("kernels")


def testcases() -> Path:
    """The folder of the suite that ``memtype run`` runs (``testcases/``)."""
    return _folder("testcases")


def cache_directory() -> Path:
    """The folder of the user's cache, made with mode 0700 when missing, as are the folders above it.

    ``MEMTYPE_CACHE`` in the environment names another folder.

    :raises HostError: the folder can't be made or written to, or others than this user can write to it.
    """
    named = os.environ.get("MEMTYPE_CACHE")
    try:
        path = named_path(named, what="MEMTYPE_CACHE") if named else platformdirs.user_cache_path("memtype")
    except UsageError as error:
        raise HostError(f"{error.message}, or unset MEMTYPE_CACHE") from None
    if not path.is_absolute():
        raise HostError(f"{path}: you have no home folder; set MEMTYPE_CACHE to one for the cache")
    try:
        # The mode of path.mkdir() is the last folder's alone. Who can write to one above can put another
        # cache in its place; 0700 is what the XDG Base Directory Specification has for them.
        for folder in (*reversed(path.parents), path):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise HostError(
            f"{path}: the cache folder can't be made ({error.strerror}); set MEMTYPE_CACHE to another"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise HostError(f"{path}: the cache folder isn't yours to write; set MEMTYPE_CACHE to one that is")
    # Its contents are checked where they are used.
    require_ours(path, contents=False)
    return path
