"""The file in which the owner of a target says what tests may use of it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pytest_memtype.errors import UsageError
from pytest_memtype.guest.region import PAGE_SIZE
from pytest_memtype.host.files import read_text
from pytest_memtype.target.facts import Bar, Facts
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.size import format_size, parse_size

_RAM = ("System RAM", "Persistent Memory", "RAM buffer", "Crash kernel", "ACPI")

#: Seconds that the agent waits for a sign of life before it undoes everything and ends.
LEASE: Final = 60
_LEASES = range(5, 3601)

_PRINTK = range(1, 9)

#: Bytes of the smallest BAR that is proposed. Smaller ones are registers, and chipsets have some that nobody
#: drives, such as those of the firmware's flash.
_LEAST: Final = 1 << 20


@shown_in_hexadecimal("start", "size")
@dataclass(frozen=True)
class AllowedRange:
    """A piece of device memory that tests may use.

    :param start: Address of its first byte.
    :param size: Bytes, whole pages of 4 KiB.
    :param what: The owner's words for it.
    """

    start: int
    size: int
    what: str

    @property
    def end(self) -> int:
        """Address of the last byte of the range."""
        return self.start + self.size - 1

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end:#x} ({self.what})"


@dataclass(frozen=True)
class TargetConfig:
    """The permission that the owner of a target has written down.

    :param memory: Device memory that may be mapped; tests get the first piece.
    :param shell: May tests run commands on the target, as root?
    :param printk: Level of the kernel's console while tests run, 1 to 8; None leaves it as it is.
    :param lease: Seconds without a sign of life after which the agent ends itself.
    """

    memory: tuple[AllowedRange, ...]
    shell: bool = False
    printk: int | None = None
    lease: int = LEASE

    @property
    def allowed(self) -> str:
        """The ranges as the module's parameter takes them."""
        return ",".join(f"{each.start:#x}-{each.end:#x}" for each in self.memory) or "none"


def load_permission(path: Path) -> TargetConfig:
    """Read the file with an owner's permission.

    :param path: The file, in TOML.
    :raises UsageError: the file can't be read, or has an unknown key or a wrong value.
    """
    try:
        content = tomllib.loads(read_text(path))
    except UsageError as error:
        raise UsageError(f"the target's configuration: {error.message}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{path}: nested too deeply for a target's configuration") from None
    unknown = content.keys() - {"memory", "shell", "printk", "lease"}
    if unknown:
        raise UsageError(f"{path}: {min(unknown)!r} is not known; there are memory, shell, printk and lease")
    shell = content.get("shell", False)
    if not isinstance(shell, bool):
        raise UsageError(f"{path}: shell is {shell!r}; it is true or false")
    tables = content.get("memory", [])
    if not isinstance(tables, list):
        raise UsageError(f"{path}: memory is a table for each piece; write [[memory]]")
    return TargetConfig(
        memory=tuple(_named(table, f"{path}: memory {n}") for n, table in enumerate(tables, start=1)),
        shell=shell,
        printk=_number(content, "printk", _PRINTK, path) if "printk" in content else None,
        lease=_number(content, "lease", _LEASES, path) if "lease" in content else LEASE,
    )


def _number(content: dict[str, Any], name: str, allowed: range, path: Path) -> int:
    value = content[name]
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise UsageError(f"{path}: {name} is {value!r}; it is a number from {allowed[0]} to {allowed[-1]}")
    return value


def _named(table: Any, where: str) -> AllowedRange:
    if not isinstance(table, dict) or table.keys() != {"address", "size", "what"}:
        raise UsageError(f"{where}: it has address, size and what, and nothing else")
    try:
        start, size = parse_size(table["address"]), parse_size(table["size"])
    except (TypeError, ValueError):
        raise UsageError(f"{where}: address and size are numbers, or text such as '16M'") from None
    if start % PAGE_SIZE or size % PAGE_SIZE or size < PAGE_SIZE:
        raise UsageError(f"{where}: {start:#x} and {size:#x} bytes are not whole pages of 4 KiB")
    if not isinstance(table["what"], str) or not table["what"].strip():
        raise UsageError(f"{where}: what says in words what the memory is")
    return AllowedRange(start, size, table["what"].strip())


def check(permission: TargetConfig, facts: Facts, *, where: str) -> None:
    """Check that each allowed range is memory of one PCI device of the target, and no RAM.

    :param permission: The owner's permission.
    :param facts: Facts of the target.
    :param where: The file, for messages.
    :raises UsageError: a range isn't.
    """
    for named in permission.memory:
        ram = [each for each in facts.iomem if each.name.startswith(_RAM)]
        hit = next((each for each in ram if each.start <= named.end and each.end >= named.start), None)
        if hit is not None:
            raise UsageError(
                f"{where}: {named} overlaps {hit.start:#x}-{hit.end:#x}, which is {hit.name} on the target"
            )
        if not any(bar.start <= named.start and named.end <= bar.end for bar in facts.bars):
            raise UsageError(
                f"{where}: {named} doesn't lie in the memory of one PCI device of the target; its "
                f"largest is {_largest(facts)}"
            )


def missing(facts: Facts, *, where: str) -> UsageError:
    """The error where no file says what tests may use, with a proposal for that file."""
    return UsageError(
        f"{where}: nothing was done there, because no file says which device memory tests may use; write one "
        "such as below, after a look at what the device is for, and name it with --target-config",
        details=tuple(candidate(facts).splitlines()),
    )


def candidate(facts: Facts) -> str:
    """A proposal for the file, in TOML, with the device memory that is likeliest to be free."""
    bar = _best(facts)
    if bar is None:
        return f"# It seems that no memory of a PCI device here is free; the largest is {_largest(facts)}."
    size = format_size(bar.size)
    warning = f"# {bar.driver} uses it: tests will draw over what it shows.\n" if bar.driver else ""
    return (
        f"# What tests may use of this machine.\n{warning}[[memory]]\naddress = {bar.start:#x}\n"
        f'size = "{size}"\nwhat = "{bar}"\n'
    )


def _best(facts: Facts) -> Bar | None:
    """The best BAR for tests, if any is for them: first one without a driver, then a prefetchable one.

    Of the devices in use only a display can stand tests, which spoil what it shows.
    """
    return max(
        (bar for bar in facts.bars if bar.size >= _LEAST and (bar.display or not bar.driver)),
        key=lambda bar: (not bar.driver, bar.prefetchable, bar.display, bar.size, -bar.start),
        default=None,
    )


def _largest(facts: Facts) -> str:
    bar = max(facts.bars, key=lambda each: each.size, default=None)
    return f"{bar.start:#x}-{bar.end:#x}, {bar}" if bar else "none at all"
