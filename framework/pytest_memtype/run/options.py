"""The options of a run, in a table that pytest, ``memtype run``, ``run --observe`` and the docs read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from pytest_memtype.errors import UsageError
from pytest_memtype.machine.accelerator import ACCELERATORS
from pytest_memtype.target import QEMU

DEFAULT_LAYOUT: Final = "firmware"
LOCAL: Final = "local"
"""The address of a scheduler that is started on this machine."""

FRESH: Final = ("clone", "boot")


class TakesOptions(Protocol):
    """An object with pytest's ``addoption()``."""

    def addoption(self, *names: str, **about: Any) -> None: ...


@dataclass(frozen=True)
class Option:
    """An option of the command line.

    :param name: Its name with the two dashes.
    :param help: What it does, in one sentence without a full stop.
    :param metavar: Placeholder of its value in the help; empty for a switch.
    :param default: Its value where it isn't given.
    :param repeated: May it be given several times? Then its value is the list of all.
    :param is_path: Is its value a path?
    :param observes: Does ``memtype run --observe`` take it, too?
    """

    name: str
    help: str
    metavar: str = ""
    default: str | None = None
    repeated: bool = False
    is_path: bool = False
    observes: bool = False

    @property
    def usage(self) -> str:
        """The option as the help shows it: ``--kernel SPEC``."""
        return f"{self.name} {self.metavar}".rstrip()

    @property
    def about(self) -> dict[str, Any]:
        """The keyword arguments for ``add_argument()`` of argparse and ``addoption()`` of pytest."""
        if not self.metavar:
            return {"action": "store_true", "help": self.help}
        more = {"action": "append"} if self.repeated else {"type": Path} if self.is_path else {}
        return {"metavar": self.metavar, "default": self.default, "help": self.help, **more}


OPTIONS: Final = (
    Option(
        "--kernel",
        "kernel to test, such as debian:bookworm, debian:6.1, debian:6.1.0-50-cloud-amd64, tree:PATH, "
        "image:BZIMAGE,build=PATH, host or set:lts; "
        "may be given several times (default: the set 'default')",
        metavar="SPEC",
        repeated=True,
        observes=True,
    ),
    Option(
        "--guest",
        "guest to test in: minimal, debian:bookworm or debian:trixie, which have Debian's own kernel "
        "unless --kernel names another; may be given several times (default: minimal)",
        metavar="NAME",
        repeated=True,
    ),
    Option(
        "--layout",
        "MTRR layout for tests that choose none (default: firmware)",
        metavar="NAME",
        default=DEFAULT_LAYOUT,
        observes=True,
    ),
    Option("--shared-guest", "one guest per test module instead of a fresh one for each test"),
    Option(
        "--fresh",
        "how a fresh guest comes to be: cloned from a template, or booted (default: clone)",
        metavar=f"{{{','.join(FRESH)}}}",
        default=FRESH[0],
    ),
    Option(
        "--accel",
        "what runs the guests; auto takes KVM if a timed boot is faster with it (default: auto)",
        metavar=f"{{{','.join(ACCELERATORS)}}}",
        default="auto",
        observes=True,
    ),
    Option("--no-audit", "don't look for conflicting mappings in all page tables after each test"),
    Option(
        "--offline",
        "ask no mirror: kernels are found by the last indexes and have to be in the cache",
        observes=True,
    ),
    Option(
        "--target",
        "qemu, or a machine that somebody owns: "
        "ssh://root@host:port?identity=FILE&host-key=FILE[&console=...][&config=FILE] (default: qemu)",
        metavar="ADDRESS",
        default=QEMU,
    ),
    Option("--console", "the target's console: a serial device, or socket://host:port", metavar="WHERE"),
    Option(
        "--target-config",
        "the file that names the device memory of the target that tests may use",
        metavar="FILE",
        is_path=True,
    ),
    Option("--dry-run", "with a target: print every operation instead of carrying it out"),
    Option(
        "--coverage",
        "collect the counters of a kernel that was built with GCOV; memtype coverage shows them",
    ),
    Option(
        "--mutant",
        "with a kernel that memtype mutate has built: switch on this fault in every guest",
        metavar="NAME",
    ),
    Option(
        "--ktap",
        "write the results as KTAP: kernels, in each its files, in each its tests",
        metavar="FILE",
        is_path=True,
    ),
    Option(
        "--kcidb",
        "write the results as a report for KCIDB, the database of the kernel's CI systems",
        metavar="FILE",
        is_path=True,
    ),
    Option(
        "--kcidb-origin",
        "the name that KCIDB knows your CI system by: small letters, digits and _ (default: memtype)",
        metavar="NAME",
        default="memtype",
    ),
    Option("--keep-logs", "keep the logs of tests that pass, too"),
    Option(
        "--scheduler",
        "run the tests on a Dask cluster: tcp://HOST:PORT, tls://HOST:PORT, a scheduler file, or local",
        metavar="ADDRESS",
    ),
    Option("--insecure-scheduler", "take an address of another machine without TLS, too: for a lab alone"),
    Option(
        "--resume",
        "with --scheduler: take over what a run that was cut off has recorded, and run the rest",
        metavar="RUN",
    ),
    # pytest-html has the option --html, which memtype run takes for this one.
    Option(
        "--memtype-html",
        "write a report for browsers into this folder, as memtype report does",
        metavar="DIR",
        is_path=True,
    ),
    Option(
        "--memtype-dir",
        "where records and logs go (default: .memtype in pytest's root folder)",
        metavar="DIR",
        is_path=True,
    ),
)


def add_options(group: TakesOptions) -> None:
    """Add all options of the table to a group of pytest's parser."""
    for option in OPTIONS:
        group.addoption(option.name, **option.about)


class OptionParser(argparse.ArgumentParser):
    """A parser that reads options of the table from a command line, which may have other arguments, too.

    :param options: The options that it reads.
    :param before: Text in front of an error's message.
    :param advice: Text behind an error's message.
    """

    def __init__(self, options: Sequence[Option] = OPTIONS, *, before: str = "", advice: str = "") -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self._before, self._advice = before, advice
        for option in options:
            self.add_argument(option.name, **option.about)

    def error(self, message: str) -> NoReturn:
        """Raise an error of one line instead of printing argparse's usage.

        :param message: What argparse says of the fault.
        :raises UsageError: always.
        """
        raise UsageError(f"{self._before}{message}{self._advice}")
