"""Named layouts: TOML files, in ``layouts/`` of this package or in folders of the user's.

A file looks like this::

    description = "what it is for"
    default = "uncached"            # without it: leave what the firmware set

    [[ranges]]
    base = "0xFD000000"
    size = "16M"
    type = "write-combining"

Types are written as the kernel writes them, ``/proc/mtrr``'s ``uncachable`` included, or in short (``UC``);
sizes as ``16M``, ``2048MB`` or ``0x1000000``. In place of the size a range may have a ``mask``, as the
register holds it: ``mask = "0xFFE0000000"``, whose highest bit is the CPU's highest.

A range may have ``ignored_bits = "0xC00000"``, address bits that the mask leaves out (a mask with holes), and
``register = 7``, the number of the variable MTRR that holds it. ``enabled = false`` switches all MTRRs off,
``fixed_enabled = false`` the fixed ones. ``fixed`` may hold the eleven fixed-range registers in MSR order,
each as text such as ``"0x0606060606060606"``, because TOML integers end at 63 bits. ``tom2 = "9200M"`` is
AMD's TOP_MEM2, with ``tom2_write_back = true`` for RAM that it alone makes write-back, and a table ``[smrr]``
with base, size and type is Intel's SMRR: for real machines and pictures, as QEMU's CPUs have neither. What
CPUs other than the boot CPU hold is a table ``[other_cpus]`` with the same keys.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import Any

from pytest_memtype.errors import LayoutError, UsageError
from pytest_memtype.host.files import read_text
from pytest_memtype.host.nearest import unknown
from pytest_memtype.host.project import folders_here, is_of_tests, patterns_of_tests
from pytest_memtype.machine.layout import NAME, Layout
from pytest_memtype.x86.memtype import parse_memtype
from pytest_memtype.x86.mtrr import MtrrRange, range_of_mask
from pytest_memtype.x86.size import parse_size

#: Beside such a file of pytest's, as beside files of tests, a TOML file may be a layout.
_CONFTEST = "conftest.py"


@dataclass(frozen=True)
class LayoutFile:
    """A layout file, found by its name.

    :param name: The name of the layout: the file's, without ``.toml``.
    :param where: The file, or ``built in``.
    :param layout: The layout in the file, or the error that says why it is none.
    """

    name: str
    where: str
    layout: Layout | LayoutError


def folders_of_tests(folder: Path) -> list[Path]:
    """The folders with the layouts of the tests in a folder: its ``layouts/``, then the folder itself."""
    return [folder / "layouts", folder]


def layout_folders(named: Iterable[Path] = (), *, start: Path | None = None) -> list[Path]:
    """The folders of layouts that a command knows where it is started, nearest first.

    :param named: Folders or files of tests that the user named.
    :param start: The folder that the command is started in; None is for the current folder.
    """
    named = list(named)
    patterns = (*patterns_of_tests(start), _CONFTEST)
    found = []
    for folder in folders_here(start, named=named):
        if folder.name == "layouts":
            found.append(folder)
        elif folder in named or _has_tests(folder, patterns) or folder == (start or Path()).absolute():
            found += folders_of_tests(folder)
    return list(dict.fromkeys(found))


def _has_tests(folder: Path, patterns: Iterable[str]) -> bool:
    return any(is_of_tests(each.absolute(), patterns) for each in folder.glob("*.py"))


def layout_files(folders: Sequence[Path] = ()) -> tuple[LayoutFile, ...]:
    """The layout files that names lead to, sorted by name.

    Files that are no layouts are left out, unless their folder is called ``layouts``.
    """
    listed = []
    for name, file in sorted(_found(folders).items()):
        where = str(file) if isinstance(file, Path) and file.parent != _ours() else "built in"
        try:
            listed.append(LayoutFile(name, where, _read(name, file)))
        except LayoutError as error:
            if not isinstance(file, Path) or file.parent.name == "layouts":
                listed.append(LayoutFile(name, where, error))
    return tuple(listed)


def load_layout(name: str, folders: Sequence[Path] = ()) -> Layout:
    """The layout in ``NAME.toml``, by its name.

    :param name: The name of the layout, without ``.toml``.
    :param folders: Searched in this order, before the package's own layouts.
    :raises LayoutError: no layout has the name, or the file isn't a layout. Whether a CPU can hold it is
        checked by :func:`pytest_memtype.machine.layout.validate`.
    """
    found = _found(folders)
    if name not in found:
        raise LayoutError(
            f"no layout is called {name!r}{unknown(name, [each.name for each in layout_files(folders)])}"
        )
    return _read(name, found[name])


def read_layout(path: Path) -> Layout:
    """The layout in a file, called as the file is.

    :param path: The file, which may be anywhere.
    :raises LayoutError: it isn't a layout, or its name can't be one's.
    """
    return _read(path.name.removesuffix(".toml"), path)


def _ours() -> Traversable:
    return files("pytest_memtype").joinpath("layouts")


def _found(folders: Sequence[Path]) -> dict[str, Traversable]:
    found: dict[str, Traversable] = {}
    for folder in (*folders, _ours()):
        for entry in folder.iterdir() if folder.is_dir() else ():
            name = entry.name.removesuffix(".toml")
            if name != entry.name and NAME.fullmatch(name) and entry.is_file():
                found.setdefault(name, entry)
    return found


_REGISTER_KEYS = {"default": str, "enabled": bool, "fixed_enabled": bool, "ranges": list, "fixed": list}
_LAYOUT_KEYS = {
    "description": str,
    **_REGISTER_KEYS,
    "tom2": int | str,
    "tom2_write_back": bool,
    "smrr": dict,
    "other_cpus": dict,
}
_RANGE_KEYS = {
    "base": int | str,
    "size": int | str,
    "type": str,
    "ignored_bits": int | str,
    "register": int,
    "mask": int | str,
}


def _read(name: str, file: Traversable) -> Layout:
    try:
        table = tomllib.loads(_text(file))
        _check_keys(table, _LAYOUT_KEYS, required={"description"})
        if not table["description"].isprintable():
            raise ValueError("description isn't one line of printable text")
        others = None
        if "other_cpus" in table:
            try:
                _check_keys(table["other_cpus"], _REGISTER_KEYS, required={"default"})
                others = _layout(name, table["other_cpus"])
            except ValueError as error:
                raise ValueError(f"other_cpus: {error}") from None
        return _layout(name, table, description=table["description"], other_cpus=others)
    except RecursionError:
        raise LayoutError(f"{file}: nested too deeply for a layout") from None
    except UsageError as error:
        raise LayoutError(error.message) from None
    except (OSError, ValueError) as error:
        raise LayoutError(f"{file}: {error}") from None


def _text(file: Traversable) -> str:
    return read_text(file) if isinstance(file, Path) else file.read_text(encoding="utf-8")


def _layout(name: str, table: Mapping[str, Any], **rest: Any) -> Layout:
    return Layout(
        name,
        default=parse_memtype(table["default"]) if "default" in table else None,
        ranges=[_range(f"range {n}", each) for n, each in enumerate(table.get("ranges", ()), start=1)],
        fixed=[parse_size(value) for value in table["fixed"]] if "fixed" in table else None,
        enabled=table.get("enabled", True),
        fixed_enabled=table.get("fixed_enabled", True),
        tom2=table.get("tom2"),
        tom2_write_back=table.get("tom2_write_back", False),
        smrr=_range("smrr", table["smrr"]) if "smrr" in table else None,
        **rest,
    )


def _range(what: str, table: object) -> MtrrRange:
    try:
        if not isinstance(table, dict):
            raise ValueError("isn't a table")
        masked = "mask" in table
        _check_keys(table, _RANGE_KEYS, required={"base", "type", "mask" if masked else "size"})
        if masked:
            return _masked(table)
        return MtrrRange(
            table["base"],
            table["size"],
            parse_memtype(table["type"]),
            ignored_bits=table.get("ignored_bits", 0),
            register=table.get("register"),
        )
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _masked(table: Mapping[str, Any]) -> MtrrRange:
    """The range of a base and a mask."""
    for key in ("size", "ignored_bits"):
        if key in table:
            raise ValueError(f"has both mask and {key}, which a mask says too; leave one out")
    base, mask = parse_size(table["base"]), parse_size(table["mask"])
    return range_of_mask(base, mask, parse_memtype(table["type"]), register=table.get("register"))


def _check_keys(
    table: Mapping[str, object], keys: Mapping[str, type | UnionType], *, required: Set[str]
) -> None:
    for key, value in table.items():
        if key not in keys:
            raise ValueError(f"unknown key {key!r}{unknown(key, keys)}")
        if not isinstance(value, keys[key]) or (isinstance(value, bool) and keys[key] is not bool):
            raise ValueError(f"{key} = {value!r} has the wrong type; see pytest_memtype.machine.layout_file")
    for key in keys:
        if key in required and key not in table:
            raise ValueError(f"{key} is missing")
