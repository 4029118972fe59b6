"""A layout: which memory type the MTRRs of the guest's CPUs give to which physical addresses.

Named layouts are TOML files, in ``layouts/`` of this package or in folders of the user's::

    description = "what it is for"
    default = "uncached"            # without it: leave what the firmware set

    [[ranges]]
    base = "0xFD000000"
    size = "16M"
    type = "write-combining"

``fixed`` may hold the eleven fixed-range registers in MSR order, each as text such as
``"0x0606060606060606"``, because TOML integers end at 63 bits.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import UnionType

from pytest_memtype.errors import LayoutError
from pytest_memtype.x86.memtype import MemType, parse_memtype
from pytest_memtype.x86.mtrr import (
    DEFAULT_TYPE,
    ENABLE,
    FIXED_ENABLE,
    FIXED_MSRS,
    MTRR_TYPES,
    MtrrRange,
    decode_fixed,
    encode_range,
)
from pytest_memtype.x86.size import parse_size

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, init=False)
class Layout:
    """What the MTRRs are programmed with before the kernel starts.

    :param name: Letters, digits, ``-``, ``_`` and ``.``; it stands in test ids and reports.
    :param default: Type of what no range covers. None leaves every register as the firmware set it;
        then there can't be ranges or fixed-range registers.
    :param ranges: One variable MTRR each, in this order.
    :param fixed: The values of :data:`pytest_memtype.x86.mtrr.FIXED_MSRS`, in that order. None leaves the
        first MiB as the firmware set it; fixed ranges are in force either way.
    :param description: What it is for, one line. Layouts that differ in nothing else are equal.
    """

    name: str
    default: MemType | None
    ranges: tuple[MtrrRange, ...]
    fixed: tuple[int, ...] | None
    description: str = field(compare=False)

    def __init__(
        self,
        name: str,
        *,
        default: MemType | None = None,
        ranges: Sequence[MtrrRange] = (),
        fixed: Sequence[int] | None = None,
        description: str = "",
    ) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "default", default)
        object.__setattr__(self, "ranges", tuple(ranges))
        object.__setattr__(self, "fixed", None if fixed is None else tuple(fixed))
        object.__setattr__(self, "description", description)


def validate(layout: Layout, *, physical_bits: int, variable_registers: int = 8) -> None:
    """Check that the MTRRs of a CPU can express a layout.

    :param physical_bits: The CPU's physical address width.
    :param variable_registers: How many variable MTRRs it has (VCNT of MTRRcap).
    :raises LayoutError: They can't; one line that names the layout and the range.
    """
    _encode(layout, physical_bits=physical_bits, variable_registers=variable_registers)


def register_writes(
    layout: Layout, *, physical_bits: int, variable_registers: int = 8
) -> tuple[tuple[int, int], ...]:
    """The (MSR, value) writes that program a layout, in order; none if it leaves the firmware's registers.

    Between the first write and the last the MTRRs are off, so no access sees half a layout.

    :raises LayoutError: See :func:`validate`.
    """
    pairs = _encode(layout, physical_bits=physical_bits, variable_registers=variable_registers)
    if layout.default is None:
        return ()
    # The registers that the layout doesn't need may hold ranges of the firmware's.
    pairs += [(0, 0)] * (variable_registers - len(pairs))
    writes = [(DEFAULT_TYPE, 0)]
    for number, (base, mask) in enumerate(pairs):
        writes += [(0x200 + 2 * number, base), (0x201 + 2 * number, mask)]
    if layout.fixed is not None:
        writes += zip(FIXED_MSRS, layout.fixed, strict=True)
    writes.append((DEFAULT_TYPE, ENABLE | FIXED_ENABLE | layout.default))
    return tuple(writes)


def _encode(layout: Layout, *, physical_bits: int, variable_registers: int) -> list[tuple[int, int]]:
    where = f"layout {layout.name!r}"
    if not _NAME.fullmatch(layout.name):
        raise LayoutError(f"{where}: a name is made of letters, digits, '-', '_' and '.'")
    if layout.default is None:
        if layout.ranges or layout.fixed is not None:
            raise LayoutError(f"{where} has ranges but no default type; give default=, e.g. MemType.UC")
        return []
    if layout.default not in MTRR_TYPES:
        raise LayoutError(f"{where}: the default {layout.default} isn't an MTRR memory type")
    if layout.fixed is not None:
        try:
            decode_fixed(layout.fixed)
        except ValueError as error:
            raise LayoutError(f"{where}: fixed ranges: {error}") from None
    pairs = []
    for number, mtrr_range in enumerate(layout.ranges, start=1):
        named = f"{where}: range {number} ({mtrr_range})"
        if number > variable_registers:
            raise LayoutError(
                f"{named} is one too many: the CPU has {variable_registers} variable MTRRs, "
                f"the layout {len(layout.ranges)} ranges"
            )
        try:
            pairs.append(encode_range(mtrr_range, physical_bits))
        except ValueError as error:
            raise LayoutError(f"{named}: {error}") from None
    return pairs


def layout_names(folders: Sequence[Path] = ()) -> tuple[str, ...]:
    """The names that :func:`load_layout` knows, sorted."""
    names = {
        entry.name.removesuffix(".toml")
        for folder in _folders(folders)
        if folder.is_dir()
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    }
    return tuple(sorted(names))


def load_layout(name: str, folders: Sequence[Path] = ()) -> Layout:
    """The layout in ``NAME.toml``.

    :param folders: Searched in this order, before the package's own layouts.
    :raises LayoutError: There is none of that name, or the file isn't a layout. Whether a CPU can hold it
        is asked of :func:`validate`.
    """
    if _NAME.fullmatch(name):
        for folder in _folders(folders):
            file = folder.joinpath(f"{name}.toml")
            if file.is_file():
                return _read(name, file)
    known = ", ".join(layout_names(folders))
    raise LayoutError(f"no layout is called {name!r}; known are {known}")


def _folders(folders: Sequence[Path]) -> tuple[Traversable, ...]:
    return (*folders, files("pytest_memtype").joinpath("layouts"))


_LAYOUT_KEYS = {"description": str, "default": str, "ranges": list, "fixed": list}
_RANGE_KEYS = {"base": int | str, "size": int | str, "type": str}


def _read(name: str, file: Traversable) -> Layout:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        _check_keys(table, _LAYOUT_KEYS, required={"description"})
        return Layout(
            name,
            default=parse_memtype(table["default"]) if "default" in table else None,
            ranges=[_range(number, each) for number, each in enumerate(table.get("ranges", ()), start=1)],
            fixed=[parse_size(value) for value in table["fixed"]] if "fixed" in table else None,
            description=table["description"],
        )
    except (OSError, ValueError) as error:
        raise LayoutError(f"{file}: {error}") from None


def _range(number: int, table: object) -> MtrrRange:
    try:
        if not isinstance(table, dict):
            raise ValueError("isn't a table")
        _check_keys(table, _RANGE_KEYS, required=_RANGE_KEYS.keys())
        return MtrrRange(table["base"], table["size"], parse_memtype(table["type"]))
    except ValueError as error:
        raise ValueError(f"range {number}: {error}") from None


def _check_keys(
    table: Mapping[str, object], keys: Mapping[str, type | UnionType], *, required: Set[str]
) -> None:
    for key, value in table.items():
        if key not in keys:
            raise ValueError(f"unknown key {key!r}; known are {', '.join(keys)}")
        if not isinstance(value, keys[key]):
            raise ValueError(f"{key} = {value!r} has the wrong type; see pytest_memtype.machine.layout")
    for key in keys:
        if key in required and key not in table:
            raise ValueError(f"{key} is missing")
