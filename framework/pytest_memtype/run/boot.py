"""Making a guest: booting it, or cloning it from a template that was booted."""

from __future__ import annotations

import functools
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect

from pytest_memtype.distribution.distribution import Distribution
from pytest_memtype.errors import (
    GuestError,
    GuestExited,
    GuestHung,
    GuestPanicked,
    HostError,
    LayoutError,
    NotOurs,
    TemplateError,
    WrongClock,
)
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.module import guest_path
from pytest_memtype.guest.transfer import put_file
from pytest_memtype.host.progress import Progress
from pytest_memtype.machine import qemu_command, template_store
from pytest_memtype.machine.boot_rom import boot_rom
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout, check_bootable, register_writes
from pytest_memtype.machine.machine import NOTHING, Machine
from pytest_memtype.machine.template import Template, clone
from pytest_memtype.machine.timeouts import BOOT
from pytest_memtype.machine.uncovered import as_started, uncovered_ram

if TYPE_CHECKING:
    from pytest_memtype.distribution.bring_up import BootKeys

_SETTLED = rb"Switched to clocksource tsc\b(?!-early)"
"""Message of the last thing that the kernel does by itself after a boot (5.10 to 7.3)."""

_SETTLING = 3.0
"""Seconds to wait for that message, which never comes on a CPU without a TSC."""

_REST = 0.2
"""Seconds for the kernel's work after the last answer, such as freeing a process's memory. Each clone would
do it again, and its code is new to each QEMU: 15 of 75 ms until a clone's first answer."""


_SLOWEST = 0.5
_FASTEST = 1.2
"""Least and most seconds that a guest may count for each second of the host's."""

_APART = 0.2
"""Seconds between two readings of a guest's clock that tell how fast it counts."""


@dataclass(frozen=True)
class GuestPlan:
    """The files and settings that a guest is made from.

    :param image: The kernel, a bzImage.
    :param initramfs: The initramfs that it boots; a distribution's mounts its drives.
    :param layout: The layout that the MTRRs are programmed with.
    :param hardware: The guest's CPU, RAM and firmware.
    :param accelerator: ``tcg`` or ``kvm``.
    :param devices: Devices besides the test device, each an argument of QEMU's ``-device``.
    :param flash: Files of the firmware's flash, see :func:`pytest_memtype.kernels.firmware.flash`.
    :param distribution: The distribution that it runs, None for the agent alone.
    :param modules: Modules of the user's, which are brought into the guest but not loaded.
    :param launcher: The library that starts QEMU, see
        :class:`pytest_memtype.machine.qemu_command.QemuConfig`; None for none.
    """

    image: Path
    initramfs: Path
    layout: Layout
    hardware: Hardware
    accelerator: qemu_command.Accelerator = "tcg"
    devices: tuple[str, ...] = ()
    flash: tuple[Path, ...] = ()
    distribution: Distribution | None = None
    launcher: Path | None = None
    modules: tuple[Path, ...] = ()

    @property
    def command(self) -> qemu_command.QemuConfig:
        return qemu_command.QemuConfig(
            hardware=as_started(self.layout, self.hardware),
            kernel=self.image,
            initrd=self.initramfs,
            accelerator=self.accelerator,
            devices=self.devices,
            flash=self.flash,
            drives=self.distribution.drives if self.distribution else (),
            network=self.distribution is not None,
            launcher=self.launcher,
        )

    @property
    def deployed(self) -> tuple[Path, ...]:
        """Files brought into the running guest; bundles never change, so the paths stand for contents."""
        distribution = self.distribution
        parts = (distribution.agent, distribution.module) if distribution else ()
        return (*(part for part in parts if part is not None), *self.modules)

    @property
    def brought(self) -> dict[str, Path]:
        """The modules' files, by their paths in the guest."""
        return {guest_path(file.parent.name, file.name): file for file in self.modules}

    def boot_rom(self) -> bytes | None:
        """The option ROM that programs the layout; None when the firmware's layout stays.

        None too for a CPU without MTRRs: the guest's kernel shall find no registers, and the layout only
        says which types the memory would have.

        :raises LayoutError: the MTRRs can't express the layout, or the firmware runs no such ROM.
        """
        check_bootable(self.layout)
        writes = register_writes(self.layout, physical_bits=self.hardware.physical_bits)
        if not writes or "-mtrr" in self.hardware.cpu.split(","):
            return None
        if self.hardware.firmware != "seabios":
            raise LayoutError(
                f"layout {self.layout.name!r}: it is programmed by a boot ROM, which firmware "
                f"{self.hardware.firmware!r} doesn't run; use 'seabios', or layout 'firmware' and "
                "guest.change_registers()"
            )
        return boot_rom(writes)


def booted(plan: GuestPlan, *, logs: Path, timeout: float = BOOT) -> Guest:
    """A guest that has just booted. The caller closes its ``machine``.

    :param plan: The files and settings of the guest.
    :param logs: Folder for the logs of this guest alone.
    :param timeout: Seconds until the agent has to greet.
    :raises LayoutError: the MTRRs can't express the layout.
    :raises GuestError: the guest didn't reach its agent.
    """
    keys = _boot_keys(plan)
    machine = Machine.start(
        plan.command,
        logs=logs,
        boot_rom=plan.boot_rom(),
        fw_cfg_files=keys.fw_cfg_files if keys else NOTHING,
    )
    try:
        machine.resume()
        agent, greeting = _greeted(machine, plan, keys, timeout=timeout)
        return _with_modules(Guest(agent, greeting, layout=plan.layout), plan)
    except BaseException:
        machine.close()
        raise


def cloned(plan: GuestPlan, *, logs: Path, cache: Path, progress: Progress) -> Guest:
    """A guest restored from the template of the plan, which is made if there is none yet.

    The guest can see no difference from a booted one but its age: the time of day and the random numbers
    are made anew.

    :param plan: The files and settings of the guest.
    :param logs: Folder for the logs of this guest alone; those of a template that can't be made go to
        ``template`` in it.
    :param cache: Folder for templates.
    :param progress: Called with one line at the start of each slow stage.
    :raises LayoutError: the MTRRs can't express the layout.
    :raises NotOurs: others than this user could have changed the template.
    :raises TemplateError: there is no template and none can be made, or it can't be restored. A boot
        may succeed.
    :raises HostError: the template can't be made or restored by a fault of this host that may pass: a full
        disk, no time for QEMU.
    """
    # Logs of an earlier try to get this guest.
    shutil.rmtree(logs / "template", ignore_errors=True)
    try:
        template = _template(plan, logs=logs / "template", cache=cache, progress=progress)
        machine = clone(template, logs=logs)
    except NotOurs:
        # Files that others could have changed aren't booted either.
        raise
    except (GuestError, HostError) as error:
        # The host's fault says nothing about the guest, nor about what it runs on.
        kind = HostError if isinstance(error, HostError) else TemplateError
        left = f"; logs in {logs.parent.name}/{logs.name}/template" if (logs / "template").exists() else ""
        raise kind(f"{error.message}{left}") from error
    except OSError as error:
        # Such as a template that another run removes at this moment, or a file that may not grow.
        raise TemplateError(str(error)) from error
    try:
        return _with_modules(_awakened(machine, template, layout=plan.layout), plan)
    except (GuestError, TemplateError) as error:
        machine.close()
        # The next test shall not try it again.
        template_store.reject(
            plan.command,
            boot_rom=plan.boot_rom(),
            cache=cache,
            progress=progress,
            deployed=plan.deployed,
        )
        raise TemplateError(str(error).partition("\n")[0]) from error
    except BaseException:
        machine.close()
        raise


def _template(plan: GuestPlan, *, logs: Path, cache: Path, progress: Progress) -> Template:
    """The template of the plan, which is made if there is none; a second time where the clock came out wrong.

    :param plan: The files and settings of the guest.
    :param logs: Folder for the logs of a template that can't be made.
    :param cache: Folder for templates.
    :param progress: Called with one line at the start of each slow stage.
    """
    keys = _boot_keys(plan)
    made = functools.partial(
        template_store.get,
        plan.command,
        boot_rom=plan.boot_rom(),
        cache=cache,
        prepare=functools.partial(_prepared, plan, keys),
        progress=progress,
        fw_cfg_files=keys.fw_cfg_files if keys else NOTHING,
        deployed=plan.deployed,
        failed_logs=logs,
    )
    try:
        return made()
    except WrongClock as error:
        # A moment's lack of time for QEMU, which all that want this template would pay for with boots.
        progress(f"{error.message}; it is booted once more")
        shutil.rmtree(logs, ignore_errors=True)
        return made()


def _prepared(plan: GuestPlan, keys: BootKeys | None, machine: Machine) -> dict[str, object]:
    """Wait until a guest is fit to be saved as a template; gives what its clones have to know."""
    start = time.monotonic()
    agent, greeting = _greeted(machine, plan, keys, timeout=BOOT)
    first = _Reading.of(agent)
    # Clones are seeded again, but the kernel's work for the first seed of all is done once: it rewrites
    # code ("crng init done"; Linux 6.1, drivers/char/random.c, crng_set_ready), 5 of a clone's 70 ms.
    _refresh(agent)
    # A second after boot Linux changes to the TSC, which no clone should have to do again.
    machine.console.expect([_SETTLED, pexpect.TIMEOUT], timeout=_SETTLING)
    _check_clock(first, _Reading.of(agent), since=start)
    agent.call("log")
    machine.console.expect([pexpect.TIMEOUT], timeout=_REST)
    return {"greeting": greeting.content, "sequence": agent.sequence}


def _boot_keys(plan: GuestPlan) -> BootKeys | None:
    if plan.distribution is None:
        return None
    # paramiko takes longer to load than a clone of the minimal guest to start.
    from pytest_memtype.distribution.bring_up import BootKeys

    return BootKeys.new()


def _greeted(
    machine: Machine, plan: GuestPlan, keys: BootKeys | None, *, timeout: float
) -> tuple[Agent, Reply]:
    if plan.distribution is not None and keys is not None:
        from pytest_memtype.distribution.bring_up import bring_up

        bring_up(machine, plan.distribution, keys)
    agent = Agent(machine)
    try:
        greeting = agent.greet(timeout=timeout)
    except (GuestHung, GuestExited, GuestPanicked) as error:
        uncovered = uncovered_ram(plan.layout, plan.command.hardware)
        if uncovered:
            # A kernel in such RAM dies before it has a console to say so.
            raise type(error)(
                f"{error.message}; {uncovered}, perhaps with what the kernel needs", details=error.details
            ) from error
        raise
    for path, file in plan.brought.items():
        put_file(agent, file.read_bytes(), path)
    # Drops the messages of the boot.
    agent.call("log")
    return agent, greeting


def _with_modules(guest: Guest, plan: GuestPlan) -> Guest:
    guest.brought = frozenset(plan.brought)
    return guest


@dataclass(frozen=True)
class _Reading:
    """A reading of a guest's clock.

    :param before: When it was asked, in seconds of ``time.monotonic()``.
    :param uptime: Its answer, in seconds since its kernel set its clock up.
    :param after: When the answer was there.
    """

    before: float
    uptime: float
    after: float

    @classmethod
    def of(cls, agent: Agent) -> _Reading:
        before = time.monotonic()
        reply = agent.call("shell", command="cat /proc/uptime")
        uptime = reply.decode(lambda content: float(content["output"].split()[0]))
        return cls(before, uptime, time.monotonic())


def _check_clock(first: _Reading, last: _Reading, *, since: float) -> None:
    """Check that the guest's clock counts about a second for each second of the host's.

    Linux counts the TSC's ticks against the PIT in the first moments of its boot. When the host has no time
    for QEMU just then, its clock stays wrong, and so does that of every clone (6.1, TCG: 6 times too fast).

    Too slow is a matter between two readings: before Linux comes the firmware, which may take half a minute
    (the boot code of a kernel without BOOT_VESA_SUPPORT waits for a key, given a VESA mode by ``vga=``).

    :param first: The clock's first reading.
    :param last: A later reading.
    :param since: When the guest was started, seconds of ``time.monotonic()``.
    :raises WrongClock: it counts otherwise, however long the answers took.
    """
    fast = last.uptime / (last.after - since)
    # The least time that can have passed between the readings, which are of 10 ms.
    apart = last.before - first.after
    slow = (last.uptime - first.uptime) / apart if apart > _APART else 1.0
    if fast > _FASTEST or slow < _SLOWEST:
        rate = fast if fast > _FASTEST else slow
        raise WrongClock(
            f"the guest's clock counts {rate:.2g} seconds for each: this host was too busy while it booted"
        )


def _awakened(machine: Machine, template: Template, *, layout: Layout) -> Guest:
    try:
        agent = Agent(machine, sequence=int(template.notes["sequence"]))
        greeting = Reply(verb="greeting", content=template.notes["greeting"], log=())
    except (KeyError, TypeError, ValueError) as error:
        raise TemplateError(f"the template's notes make no sense: {error!r}") from None
    _refresh(agent)
    return Guest(agent, greeting, layout=layout)


def _refresh(agent: Agent) -> None:
    agent.call("refresh", seed=secrets.token_hex(32), clock=time.time_ns())
