"""Faults planted in a source file: the planted C is compiled, and run with each fault switched on."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_memtype.errors import Misfit
from pytest_memtype.kernels.mutant_catalogue import Mutant
from pytest_memtype.kernels.mutant_source import place, plant

SOURCE = """
#include <stdio.h>
#include <stdlib.h>

static int psize;

static int add(int base, int size);

#ifdef NEVER
static int add(int base, int size)
{
\treturn 0;
}
#else
/* add() is called for each range */
static int add(int base, int size)
{
\tint last = base +
\t\t   size - 1;

\tif (size < 1)
\t\treturn -22;
\telse if (last > 99)
\t\tpsize = size, last = 99;
\tfor (; base < last; base++)
\t\tif (base == 50)
\t\t\tbreak;
\treturn base;
}
#endif

int main(int count, char **words)
{
\tmemtype_mutant = atoi(words[1]);
\tprintf("%d %d %d", add(1, 0), add(10, 5), add(40, 100));
\treturn 0;
}
"""

IN_ADD = Mutant("", "add.c", "add", "", "", "")


def made(name: str, old: str, new: str, within: str = "") -> Mutant:
    return replace(IN_ADD, name=name, old=old, new=new, within=within)


MUTANTS = [
    made("end", "base + size - 1", "base + size"),
    made("end-too", "base + size - 1", "base + size - 2"),
    made("inner", "size - 1", "size - 3"),
    made("no-error", "return -22;", ""),
    made("other-error", "return -22;", "return -12;"),
    made("no-limit", "last > 99", "0"),
    made("no-break", "break;", ""),
    made("whole", "for (; base < last; base++) if (base == 50) break;", "base = last;"),
    made("last-base", "base", "7", within="return base;"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    text, misfits = plant(SOURCE, enumerate(MUTANTS, start=1))
    assert misfits == {}
    (folder / "linux").mkdir()
    switch = "static unsigned int memtype_mutant;\n#define MEMTYPE_MUTANT(n) (memtype_mutant == (n))\n"
    (folder / "linux" / "memtype_mutant.h").write_text(switch)
    (folder / "add.c").write_text(text)
    command = ["cc", "-Wall", "-Werror=implicit", "-I", ".", "-o", "add", "add.c"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    return folder / "add"


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("none", "-22 14 50"),
        ("end", "-22 15 50"),
        ("end-too", "-22 13 50"),
        ("inner", "-22 12 50"),
        ("no-error", "1 14 50"),
        ("other-error", "-12 14 50"),
        ("no-limit", "-22 14 50"),
        ("no-break", "-22 14 99"),
        ("whole", "-22 14 99"),
        ("last-base", "-22 7 7"),
    ],
)
def test_one_fault_at_a_time(program: Path, name: str, printed: str) -> None:
    number = ["none", *(mutant.name for mutant in MUTANTS)].index(name)
    done = subprocess.run([program, str(number)], capture_output=True, text=True, check=True, timeout=10)
    assert done.stdout == printed


@pytest.mark.parametrize(
    ("mutant", "reason"),
    [
        (replace(IN_ADD, function="remove", old="x"), "no function remove"),
        (replace(IN_ADD, old="size + 1"), "'old' 0 times"),
        (replace(IN_ADD, old="base"), "'old' 7 times"),
        (replace(IN_ADD, old="return", within="return"), "'within' 3 times"),
        # A part of a word isn't meant.
        (replace(IN_ADD, old="ase"), "'old' 0 times"),
    ],
)
def test_code_that_is_not_there_once(mutant: Mutant, reason: str) -> None:
    with pytest.raises(Misfit, match=reason):
        place(SOURCE, mutant)


def test_a_fault_that_does_not_fit_keeps_no_other_from_being_planted() -> None:
    overlapping = made("overlapping", "last = base + size", "last = 0")
    lost = made("lost", "size + 1", "0")
    text, misfits = plant(SOURCE, enumerate([MUTANTS[0], overlapping, lost, MUTANTS[3]], start=1))
    assert misfits == {
        "overlapping": "its code overlaps that of end",
        "lost": "add() has the code in 'old' 0 times, not once",
    }
    assert "MEMTYPE_MUTANT(1)" in text
    assert "MEMTYPE_MUTANT(4)" in text


def test_a_file_without_faults_stays_as_it_is() -> None:
    assert plant(SOURCE, []) == (SOURCE, {})
