"""Which versions here differ from the lock's: ``tox -e newest`` and ``tox -e oldest`` run this file."""

from __future__ import annotations

import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

#: The lock of ``./hil test``, which holds that of ``./hil run``.
LOCK: Final = Path(__file__).parents[2] / "requirements" / "test.txt"

_PIN: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\\\]+)")


def pins(lock: Path) -> dict[str, str]:
    """The version of each package that a lock names.

    :raises ValueError: the lock names two versions of one, and which counts is a matter of the Python.
    """
    found: dict[str, str] = {}
    for line in lock.read_text().splitlines():
        match = _PIN.match(line)
        if match is None:
            continue
        if match["name"] in found:
            raise ValueError(f"{lock.name} names two versions of {match['name']}")
        found[match["name"]] = match["version"]
    return found


def differences(locked: dict[str, str]) -> list[str]:
    """A line for each package that is installed here in another version; some need not be here at all."""
    lines = []
    for name, wanted in locked.items():
        with suppress(PackageNotFoundError):
            if (here := version(name)) != wanted:
                lines.append(f"{name}: {here}, locked {wanted}")
    return lines


if __name__ == "__main__":
    print(*(differences(pins(LOCK)) or ["all as in the lock"]), sep="\n")
