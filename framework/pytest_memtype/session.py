"""The guests of a test run: which kernel, layout and hardware, booted when a test asks for one."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_memtype.guest.boot import boot
from pytest_memtype.guest.guest import Guest
from pytest_memtype.kernels.bundle import Bundle, bundle
from pytest_memtype.kernels.progress import Progress
from pytest_memtype.machine.command import rerun_command
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.report.record import SCHEMA, Record


@dataclass(frozen=True)
class GuestKind:
    """What makes two guests interchangeable."""

    kernel: str
    layout: Layout
    hardware: Hardware


@dataclass
class Session:
    """One process of a run.

    :param run: The run's folder.
    :param progress: Told about kernels that are fetched or built.
    """

    run: Path
    progress: Progress

    def __post_init__(self) -> None:
        self.bundle: Callable[[str], Bundle] = functools.cache(
            lambda spec: bundle(spec, progress=self.progress)
        )

    def boot(self, kind: GuestKind, *, logs: Path) -> Guest:
        """A fresh guest.

        :raises MemtypeError: the kernel, the layout or the guest can't be had.
        """
        made = self.bundle(kind.kernel)
        return boot(
            image=made.image,
            initramfs=made.initramfs,
            layout=kind.layout,
            hardware=kind.hardware,
            logs=logs,
        )


@dataclass
class TestGuests:
    """The guests of one test, or of a module whose tests share them.

    :param logs: Folder for the logs, one below it for each guest.
    """

    session: Session
    logs: Path
    guests: list[tuple[GuestKind, Guest]] = field(default_factory=list)

    def start(self, kind: GuestKind) -> Guest:
        """One more guest."""
        guest = self.session.boot(kind, logs=self.logs / f"guest-{len(self.guests) + 1}")
        self.guests.append((kind, guest))
        return guest

    def shared(self, kind: GuestKind) -> Guest:
        """The live guest of that kind, or a new one."""
        for other, guest in self.guests:
            if other == kind and guest.machine.alive:
                return guest
        return self.start(kind)

    def positions(self) -> list[int]:
        """How many journal entries each guest has: what :meth:`records` takes."""
        return [len(guest.journal.entries) for _, guest in self.guests]

    def records(self, test: str, *, since: list[int]) -> list[Record]:
        """The records of what a test did."""
        records: list[Record] = []
        for number, (kind, guest) in enumerate(self.guests):
            start = since[number] if number < len(since) else 0
            context = {"schema": SCHEMA, **self._context(kind, guest), "test": test, "guest": number + 1}
            records += ({**context, **entry} for entry in guest.journal.entries[start:])
        return records

    def _context(self, kind: GuestKind, guest: Guest) -> dict[str, Any]:
        made = self.session.bundle(kind.kernel)
        return {
            "kernel": guest.release,
            "kernel_version": made.version,
            "layout": kind.layout.name,
            "hardware": {
                "cpu": kind.hardware.cpu,
                "memory": kind.hardware.memory,
                "cpus": kind.hardware.cpus,
                "cmdline": kind.hardware.cmdline,
                "firmware": kind.hardware.firmware,
            },
            "accelerator": "tcg",
            "boot": "boot",
        }

    def rerun_commands(self) -> list[tuple[int, str]]:
        """For each guest, its number and a QEMU command that boots the same one."""
        return [
            (number, rerun_command(guest.machine.guest))
            for number, (_, guest) in enumerate(self.guests, start=1)
        ]

    def close(self, *, keep_logs: bool) -> None:
        """End the guests."""
        for _, guest in self.guests:
            guest.machine.close()
        self.guests.clear()
        if not keep_logs:
            shutil.rmtree(self.logs, ignore_errors=True)
