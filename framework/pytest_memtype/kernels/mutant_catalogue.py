"""The faults of ``kernels/mutants/catalogue.toml``, which ``memtype mutate`` plants in a kernel."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from pytest_memtype.errors import UsageError
from pytest_memtype.host.resources import kernel_sets

#: The name of no fault at all: the kernel as it was.
NONE: Final = "none"

#: The parameter of the kernel's command line that switches a fault on while it boots.
PARAMETER: Final = "memtype_mutant"

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_VERSION = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class Mutant:
    """A fault: which code of the kernel it replaces, and by what.

    :param name: Its name, small letters, digits and dashes. The guest is told the name.
    :param file: The kernel's source file, from the top of its tree.
    :param function: The function in that file.
    :param old: What it replaces: an expression, or statements that end with ``;`` or ``}``. Spaces and the
        ends of lines count alike.
    :param new: The code in its place; empty for no statement at all.
    :param why: What goes wrong, for people.
    :param within: Code of the function around ``old``, where ``old`` alone occurs several times; else empty.
    :param since: First version that has this code, such as ``6.16``; empty: all that this package knows.
    :param until: First version that has it no longer; empty: none.
    :param regression: The commit that mended it, if it is a fault that Linux really had; else empty.
    :param equivalent: The proof that no test can notice it; empty for the others.
    :param at_boot: Does it act before user space runs? Then guests boot with it.
    :param tests: Files of the suite that are run first, names in ``testcases/``.
    """

    name: str
    file: str
    function: str
    old: str
    new: str
    why: str
    within: str = ""
    since: str = ""
    until: str = ""
    regression: str = ""
    equivalent: str = ""
    at_boot: bool = False
    tests: tuple[str, ...] = ()

    def is_of(self, version: tuple[int, int]) -> bool:
        """Does a kernel have the code that this fault changes?

        :param version: Its version, ``(6, 12)``.
        """
        since, until = _numbers(self.since), _numbers(self.until)
        return (since is None or since <= version) and (until is None or version < until)


def catalogue_file() -> Path:
    """The file of the catalogue, in the installed package or in a checkout."""
    return kernel_sets() / "mutants" / "catalogue.toml"


def catalogue(file: Path | None = None) -> list[Mutant]:
    """Read the faults, in the catalogue's order.

    :param file: Another catalogue than the package's.
    :raises UsageError: the file isn't one.
    """
    path = file or catalogue_file()
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from None
    areas = content.get("tests", {})
    mutants = [_mutant(entry, areas, path) for entry in content.get("mutant", [])]
    for each in mutants:
        if sum(each.name == other.name for other in mutants) > 1:
            raise UsageError(f"{path}: several faults are called {each.name!r}; name each differently")
    return mutants


def find(name: str) -> Mutant | None:
    """Find a fault of the package's catalogue.

    :param name: Its name; ``none`` gives None.
    :raises UsageError: there is none of that name.
    """
    if name == NONE:
        return None
    for each in catalogue():
        if each.name == name:
            return each
    raise UsageError(f"no fault is called {name!r}; memtype mutate --list names them")


def _mutant(entry: dict[str, Any], areas: dict[str, list[str]], path: Path) -> Mutant:
    name = str(entry.get("name", "?"))
    where = f"{path}: fault {name!r}"
    unknown = set(entry) - {field.name for field in fields(Mutant)}
    if unknown:
        raise UsageError(f"{where}: unknown key {', '.join(sorted(unknown))}")
    try:
        made = Mutant(**entry | {"tests": tuple(entry.get("tests", areas.get(entry.get("file", ""), ())))})
    except TypeError as error:
        raise UsageError(f"{where}: {error}") from None
    if not _NAME.fullmatch(name) or name == NONE:
        raise UsageError(f"{where}: a name has small letters, digits and dashes, and isn't {NONE!r}")
    for version in (made.since, made.until):
        if version and not _VERSION.fullmatch(version):
            raise UsageError(f"{where}: {version!r} is no version; write one such as 6.16")
    return made


def _numbers(version: str) -> tuple[int, int] | None:
    if not version:
        return None
    major, minor = version.split(".")
    return int(major), int(minor)
