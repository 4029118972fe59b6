"""A try of a plan: its guests on one kernel, and which messages that kernel has said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pytest_memtype.dumps.facts import Complaint
from pytest_memtype.errors import KernelError, MemtypeError
from pytest_memtype.guest.guest import Guest
from pytest_memtype.host.private_folder import temporary_folder
from pytest_memtype.host.progress import Progress
from pytest_memtype.kernels.bundle import Bundle
from pytest_memtype.machine.accelerator import Wanted
from pytest_memtype.reproduce.calls import calls_of
from pytest_memtype.reproduce.plan import Part, Plan
from pytest_memtype.reproduce.said import complaints_in, pairs, without_time
from pytest_memtype.run.boot import GuestPlan, booted
from pytest_memtype.run.qualification import chosen

Start: TypeAlias = Callable[[GuestPlan, Path], Guest]
"""Makes the guest of a plan, with its logs in a folder."""


@dataclass(frozen=True)
class Attempt:
    """The messages of a kernel in a try.

    :param release: The kernel's release.
    :param version: Its version.
    :param made: Messages of the report, each with the kernel's own.
    :param missing: The messages that it hasn't said.
    :param warned: Numbers of the parts, from 0, in whose guests the kernel gave a WARN.
    :param lines: Its lines about memory types, without the time.
    :param trouble: Why a guest could not be used; empty where all could.
    """

    release: str
    version: str
    made: tuple[tuple[Complaint, Complaint], ...]
    missing: tuple[Complaint, ...]
    warned: tuple[int, ...]
    lines: tuple[str, ...]
    trouble: str = ""

    @property
    def reproduced(self) -> bool:
        """Has the kernel said all?"""
        return not self.missing and not self.trouble


def by_boot(plan: GuestPlan, logs: Path) -> Guest:
    """A guest that has just booted."""
    return booted(plan, logs=logs)


def attempt(
    plan: Plan, made: Bundle, *, accelerator: Wanted, progress: Progress, start: Start = by_boot
) -> Attempt:
    """Carry out a plan on a kernel.

    :param plan: The plan.
    :param made: The kernel.
    :param accelerator: The accelerator that the user wants, or ``auto``.
    :param progress: Called with a line at the start of each slow stage.
    :param start: Makes each guest.
    :raises HostError: this host can't run a guest.
    """
    if made.module is None:
        raise KernelError(f"kernel {made.release}: without the module nothing can be mapped; use another")
    choice = chosen(made, accelerator, progress=progress).accelerator
    left: list[Complaint] = []
    done: list[tuple[Complaint, Complaint]] = []
    lines: list[str] = []
    trouble = ""
    warned: list[int] = []
    for number, part in enumerate(plan.parts):
        setting = part.setting
        with temporary_folder("reproduce") as name:
            files = GuestPlan(made.image, made.initramfs, setting.layout, setting.hardware, choice)
            progress(f"booting {made.release}")
            try:
                guest = start(files, Path(name) / "logs")
                with guest.machine:
                    said, listed = _said(part, guest)
                    if guest.reports():
                        warned.append(number)
            except MemtypeError as error:
                # A guest that died may have said all that was wanted, on the way.
                trouble = trouble or error.message
                left += part.complaints
                continue
        found = complaints_in(said)
        for wanted, own in pairs(part.complaints, found, offset=setting.offset):
            if own is not None and listed:
                done.append((wanted, own))
            else:
                left.append(wanted)
        raws = {each.raw for each in found}
        lines += [line for line in map(without_time, said.splitlines()) if any(raw in line for raw in raws)]
    return Attempt(
        made.release,
        made.version,
        tuple(done),
        tuple(left),
        tuple(warned),
        tuple(dict.fromkeys(lines)),
        trouble,
    )


def _said(part: Part, guest: Guest) -> tuple[str, bool]:
    """The kernel's log after the calls of a part, and whether its list has the entries that it shall have."""
    variables: dict[str, Any] = {"guest": guest}
    for call in calls_of(part):
        call.make(variables)
    listed = _has_entries(part, guest)
    return guest.shell("dmesg").output, listed


def _has_entries(part: Part, guest: Guest) -> bool:
    if not part.entries:
        return True
    offset = part.setting.offset
    listed = {(each.region.start, each.region.end, each.memtype) for each in guest.memtype_list()}
    wanted = {(each.span.start + offset, each.span.end + 1 + offset, each.memtype) for each in part.entries}
    return wanted <= listed
