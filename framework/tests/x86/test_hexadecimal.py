"""Addresses and registers are shown in hexadecimal, wherever they are."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import sys
from dataclasses import dataclass

import pytest

import pytest_memtype
from pytest_memtype import MemType, MtrrRange, Region
from pytest_memtype.guest.proc_mtrr import ProcMtrr
from pytest_memtype.guest.registers import RegisterChange
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal

#: What addresses, registers and entries are called. A number of this name in any dataclass is shown so.
NAMES = {
    *("start", "end", "first", "last", "base", "address", "virtual", "physical", "offset", "pfn", "frame"),
    *(
        "mask",
        "entry",
        "msr",
        "intended",
        "found",
        "cr0",
        "cr3",
        "cr4",
        "efer",
        "pat",
        "pat_value",
        "capability",
    ),
    *(
        "syscfg",
        "top_mem",
        "top_mem2",
        "physbase",
        "physmask",
        "shown_to",
        "direct_map",
        "vmalloc",
        "vmemmap",
    ),
}
INTEGERS = ("int", "int | None", "tuple[int, ...]", "tuple[tuple[int, int], ...]")
MARK = 0xABCDE000


def dataclasses_of_the_package() -> list[type]:
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(pytest_memtype.__path__, "pytest_memtype."):
        for cls in vars(importlib.import_module(module.name)).values():
            if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == module.name:
                found[f"{cls.__module__}.{cls.__qualname__}"] = cls
    return list(found.values())


def addresses(cls: type) -> list[str]:
    # What is a repr of its own making, in the class's own file, is an instance's own business.
    made_by = getattr(getattr(cls.__repr__, "__code__", None), "co_filename", None)
    if made_by == sys.modules[cls.__module__].__file__:
        return []
    return [field.name for field in dataclasses.fields(cls) if field.name in NAMES and field.type in INTEGERS]


@pytest.mark.parametrize(
    "cls",
    [each for each in dataclasses_of_the_package() if addresses(each)],
    ids=lambda cls: cls.__qualname__,
)
def test_every_dataclass(cls: type) -> None:
    # No constructor: it may refuse what is no layout, and only what is shown counts.
    one: object = object.__new__(cls)
    for field in dataclasses.fields(cls):
        value = (MARK, (MARK, MARK)) if "tuple" in str(field.type) else MARK
        object.__setattr__(one, field.name, value if field.name in addresses(cls) else None)
    shown = repr(one)
    assert str(MARK) not in shown
    for name in addresses(cls):
        assert f"{name}=0xabcde000" in shown or f"{name}=(0xabcde000, (0xabcde000, 0xabcde000))" in shown


def test_as_a_user_sees_it() -> None:
    assert repr(Region(0xFD000000, 4)) == "Region(start=0xfd000000, pages=4)"
    assert repr([ProcMtrr(0, 0xFD000000, 1 << 24, MemType.WC, 1)]) == (
        "[ProcMtrr(index=0, base=0xfd000000, size=0x1000000, memtype=<MemType.WC: 1>, count=1)]"
    )
    assert repr(RegisterChange(0, 0x203, 0, 0xFFFFFFF000800)) == (
        "RegisterChange(cpu=0, msr=0x203, intended=0x0, found=0xfffffff000800)"
    )
    assert "base=0xfd000000, size=0x1000000" in repr(MtrrRange(0xFD000000, "16M", MemType.WC))


def test_a_field_that_is_not_there() -> None:
    with pytest.raises(TypeError, match="One has no field bse"):

        @shown_in_hexadecimal("bse")
        @dataclass
        class One:
            base: int
