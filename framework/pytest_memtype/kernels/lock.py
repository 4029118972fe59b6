"""The kernels that a project has pinned: a file that says which exact kernel each spec means."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from pytest_memtype.errors import UsageError
from pytest_memtype.host.files import read_text, write_atomically
from pytest_memtype.host.progress import Progress, silent
from pytest_memtype.kernels.bundle import resolve
from pytest_memtype.kernels.sets import expand_by_name, is_set
from pytest_memtype.kernels.spec import DebianSpec, parse

LOCK: Final = "memtype-kernels.lock"
"""The file's name, in the folder that a run is started in."""

_HEAD: Final = """\
# Written by memtype kernels lock: the exact kernels that specs mean here. Commit it; the command renews it.
[kernels]
"""

Lock: TypeAlias = dict[str, tuple[str, ...]]
"""Exact kernels by the spec that means them: one, or those of a set."""


def read_lock(folder: Path) -> Lock:
    """The kernels that are pinned in a folder; none where it has no such file.

    :param folder: The folder.
    :raises UsageError: the file can't be read, or has something else in it.
    """
    path = folder / LOCK
    if not path.exists():
        return {}
    try:
        content = tomllib.loads(read_text(path))
        if content.keys() != {"kernels"}:
            raise ValueError("it has one table, [kernels]")
        return {spec: _exact(spec, kernels) for spec, kernels in content["kernels"].items()}
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{path}: {error}; write it anew with memtype kernels lock") from None


def make_lock(specs: Iterable[str], *, progress: Progress = silent) -> Lock:
    """The exact kernels that specs mean today. Kernels of one's own can't be pinned.

    :param specs: Specs of Debian's kernels, or sets.
    :param progress: Called with a line where an index is read.
    :raises UsageError: a spec is none, or means a kernel of one's own.
    :raises KernelError: a kernel can't be found.
    """
    found: Lock = {}
    for spec in specs:
        exact = tuple(resolve(each, progress=progress) for each in expand_by_name([spec], progress=progress))
        if not all(isinstance(parse(each), DebianSpec) for each in exact):
            raise UsageError(f"{spec}: is a kernel of your own, which no file can pin; name Debian's")
        found[spec] = exact
    return found


def write_lock(folder: Path, lock: Lock) -> Path:
    """Write the file that pins kernels, and return its path.

    :param folder: The folder.
    :param lock: The kernels.
    :raises UsageError: it can't be written.
    """
    lines = []
    for spec, exact in sorted(lock.items()):
        value = json.dumps(list(exact), indent=4) if is_set(spec) else json.dumps(exact[0])
        lines.append(f"{json.dumps(spec)} = {value}\n")
    write_atomically(folder / LOCK, (_HEAD + "".join(lines)).encode())
    return folder / LOCK


def pinned(
    specs: Iterable[str], lock: Mapping[str, tuple[str, ...]], *, progress: Progress
) -> dict[str, str]:
    """As :func:`pytest_memtype.kernels.sets.expand_by_name`, with the kernels that are pinned.

    :param specs: Specs of kernels, or sets.
    :param lock: The kernels that are pinned.
    :param progress: Called with a line where an index is read.
    """
    specs = tuple(specs)
    # At once, as far as nothing is pinned as a set: a mirror that can't be reached then gives one line.
    sets = [spec for spec in specs if spec in lock and is_set(spec)]
    named: dict[str, str] = {}
    for part in [specs] if not sets else [(spec,) for spec in specs]:
        of = part[0] if part[0] in sets else ""
        for spec, name in expand_by_name(lock[of] if of else part, progress=progress, of=of).items():
            named.setdefault(spec, name)
    found: dict[str, str] = {}
    for spec, name in named.items():
        found.setdefault(lock.get(spec, (spec,))[0], name)
    return found


def _exact(spec: str, kernels: object) -> tuple[str, ...]:
    exact = (kernels,) if isinstance(kernels, str) else kernels
    if not isinstance(exact, list | tuple) or not exact or not all(isinstance(each, str) for each in exact):
        raise ValueError(f"{spec!r} has no kernel")
    for each in exact:
        parsed = parse(each)
        if not isinstance(parsed, DebianSpec) or parsed.release is None:
            raise ValueError(f"{each!r} is no exact kernel of Debian's")
    return tuple(exact)
