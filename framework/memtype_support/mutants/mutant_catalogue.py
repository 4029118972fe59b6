"""The faults in ``mutants.toml``, and sources with one of them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

HOST_TESTS = ("framework/tests/verifier/test_properties.py",)
_CATALOGUE = Path(__file__).with_name("mutants.toml")


class StaleMutantError(Exception):
    """The text that a mutant replaces isn't in the sources, or isn't there just once."""


@dataclass(frozen=True)
class Mutant:
    """One fault.

    :param fault: What is wrong with it, for people.
    :param file: Under ``guests/module``.
    :param old: Occurs in the file once; ``new`` takes its place.
    :param tests: Paths from the top of the project, tried in turn.
    """

    name: str
    fault: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = HOST_TESTS

    @property
    def on_host(self) -> bool:
        return self.tests == HOST_TESTS


def catalogue() -> list[Mutant]:
    """All of them, those of the host first."""
    entries = tomllib.loads(_CATALOGUE.read_text())["mutant"]
    return [Mutant(**entry | {"tests": tuple(entry.get("tests", HOST_TESTS))}) for entry in entries]


def apply(mutant: Mutant, module: Path) -> None:
    """Put a fault into the sources in ``module``.

    :raises StaleMutantError: its text doesn't occur exactly once.
    """
    path = module / mutant.file
    source = path.read_text()
    count = source.count(mutant.old)
    if count != 1:
        raise StaleMutantError(
            f"mutant {mutant.name}: its old text occurs {count} times in {mutant.file}, not once; "
            f"write it anew in {_CATALOGUE.name}"
        )
    path.write_text(source.replace(mutant.old, mutant.new))
