"""The catalogue of faults: what can be judged without a kernel's sources, and with them whether it fits."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_memtype.errors import UsageError
from pytest_memtype.host import resources
from pytest_memtype.kernels.mutant_catalogue import NONE, Mutant, catalogue, find
from pytest_memtype.kernels.mutant_source import plant

MUTANTS = catalogue()

#: Folders of kernel sources, of any version, with colons between them.
SOURCES = [Path(folder) for folder in os.environ.get("MEMTYPE_KERNEL_SOURCES", "").split(":") if folder]

# Where the issue wants faults.
FILES = {
    "arch/x86/mm/pat/memtype.c",
    "arch/x86/mm/pat/memtype_interval.c",
    "arch/x86/mm/pat/set_memory.c",
    "arch/x86/mm/ioremap.c",
    "arch/x86/mm/pgtable.c",
    "arch/x86/kernel/cpu/mtrr/mtrr.c",
    "arch/x86/kernel/cpu/mtrr/generic.c",
    "arch/x86/kernel/cpu/mtrr/if.c",
    "mm/memory.c",
    "drivers/pci/mmap.c",
    "drivers/char/mem.c",
}

ENTRY = """
[[mutant]]
name = "one"
file = "a.c"
function = "a"
old = "1"
new = "2"
why = "wrong"
"""


def test_it_is_large_enough() -> None:
    assert {mutant.file for mutant in MUTANTS} >= FILES
    for version in ((6, 12), (7, 3)):
        here = [mutant for mutant in MUTANTS if mutant.is_of(version)]
        assert sum(not mutant.equivalent for mutant in here) >= 80
        assert sum(bool(mutant.regression) for mutant in here) >= 20


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_an_entry(mutant: Mutant) -> None:
    assert mutant.old.split() != mutant.new.split()
    assert mutant.why
    assert not mutant.why.endswith(".")
    for code in (mutant.old, mutant.new):
        assert code.count("(") == code.count(")")
        assert code.count("{") == code.count("}")
    if mutant.old.endswith((";", "}")):
        assert mutant.new == "" or mutant.new.endswith((";", "}"))
    else:
        assert mutant.old.split()[0] not in ("if", "for", "while", "return"), "it is no expression"
        assert mutant.new.strip()
        assert ";" not in mutant.new
    assert mutant.tests, "an area"
    for name in mutant.tests:
        assert (resources.testcases() / name).is_file()


def test_versions() -> None:
    whenever = Mutant("one", "a.c", "a", "1", "2", "wrong")
    early, late = replace(whenever, until="6.16"), replace(whenever, since="6.16")
    versions = [(6, 9), (6, 15), (6, 16), (7, 3)]
    assert [early.is_of(version) for version in versions] == [True, True, False, False]
    assert [late.is_of(version) for version in versions] == [False, False, True, True]
    assert all(whenever.is_of(version) for version in versions)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("[[mutant]]", "[mutant"), "line 2"),
        (("why =", "because ="), "unknown key because"),
        (('why = "wrong"', ""), "missing 1 required"),
        (('name = "one"', 'name = "One"'), "small letters"),
        (('name = "one"', 'name = "none"'), "isn't 'none'"),
        (('new = "2"', 'new = "2"\nsince = "6.x"'), "no version"),
    ],
)
def test_an_entry_that_is_wrong(tmp_path: Path, change: tuple[str, str], reason: str) -> None:
    file = tmp_path / "catalogue.toml"
    file.write_text(ENTRY.replace(*change))
    with pytest.raises(UsageError, match=reason) as caught:
        catalogue(file)
    assert str(file) in caught.value.message


def test_two_of_one_name(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.toml"
    file.write_text(ENTRY * 2)
    with pytest.raises(UsageError, match="several faults are called 'one'"):
        catalogue(file)


def test_find() -> None:
    assert find(NONE) is None
    assert find("interval-lookup") in MUTANTS
    with pytest.raises(UsageError, match="--list"):
        find("nonsense")


@pytest.mark.skipif(not SOURCES, reason="MEMTYPE_KERNEL_SOURCES names no kernel's sources")
@pytest.mark.parametrize("source", SOURCES or [Path("none")], ids=str)
def test_it_fits_a_kernel(source: Path) -> None:
    found = re.search(
        r"^VERSION = (\d+)\nPATCHLEVEL = (\d+)$", (source / "Makefile").read_text(), re.MULTILINE
    )
    assert found is not None
    here = [mutant for mutant in MUTANTS if mutant.is_of((int(found[1]), int(found[2])))]
    misfits: dict[str, str] = {}
    for file in {mutant.file for mutant in here}:
        of_file = [(number, mutant) for number, mutant in enumerate(here) if mutant.file == file]
        misfits |= plant((source / file).read_text(), of_file)[1]
    assert misfits == {}
