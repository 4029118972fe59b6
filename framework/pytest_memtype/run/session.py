"""The guests of a test run: which kernel, layout and hardware, made when a test asks for one."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_memtype.console.reports import ConsoleReport
from pytest_memtype.distribution.distribution import Distribution
from pytest_memtype.distribution.system import MINIMAL, distribution
from pytest_memtype.errors import (
    GuestError,
    HostError,
    MemtypeError,
    ModuleBroken,
    ModuleMissing,
    NotOurs,
    OptionMissing,
    TemplateError,
    Unavailable,
)
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.module import BuiltModule
from pytest_memtype.host import checksum
from pytest_memtype.host.progress import Progress, Remark
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels.bundle import Bundle, bundle
from pytest_memtype.kernels.firmware import flash
from pytest_memtype.kernels.module_lines import line_of
from pytest_memtype.kernels.mutant_catalogue import PARAMETER, find
from pytest_memtype.kernels.requirements import lacking, of_hardware
from pytest_memtype.kernels.user_module import user_module
from pytest_memtype.machine.accelerator import Choice, Wanted
from pytest_memtype.machine.device_trial import why_not_saved
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.qemu_versions import this_qemu
from pytest_memtype.machine.state import GuestState
from pytest_memtype.machine.uncovered import as_started, uncovered_ram
from pytest_memtype.report.page_types import recorded
from pytest_memtype.report.record import SCHEMA, Record, case_of
from pytest_memtype.run.alias_check import Checked, check, note_boot, note_start
from pytest_memtype.run.artifacts import Evidence, leave
from pytest_memtype.run.boot import GuestPlan, booted, cloned
from pytest_memtype.run.counters import GCOV, CounterCollector
from pytest_memtype.run.prefetch import GuestPrefetch, Ready
from pytest_memtype.run.qualification import chosen
from pytest_memtype.run.variants import Variant
from pytest_memtype.x86.effective import Effective

if TYPE_CHECKING:
    from pytest_memtype.target.target import Target

#: Why a test ran on a boot that should have run on a clone.
CLONE_FAILED: Final = "because a clone failed"


@dataclass(frozen=True)
class GuestSpec:
    """A kind of guest: two guests of the same kind are interchangeable.

    :param kernel: Spec of its kernel.
    :param layout: The layout that its MTRRs are programmed with.
    :param hardware: Its CPU, RAM and firmware.
    :param system: ``minimal``, or the distribution that runs in it, such as ``debian:bookworm``.
    :param modules: Modules of the user's that it brings along: as the user wrote each, and the folder that a
        relative path starts from.
    """

    kernel: str
    layout: Layout
    hardware: Hardware
    system: str = MINIMAL
    modules: tuple[tuple[str, Path], ...] = ()


class Session:
    """The guests of one process of a run.

    :param run: The run's folder.
    :param progress: Called with a line about kernels that are fetched or built.
    :param fresh: ``clone`` or ``boot``: how guests are made.
    :param accelerator: The accelerator that the user wants, or ``auto``.
    :param target: The machine to test instead of guests in QEMU; None for those.
    :param coverage: Whether the counters of kernels that were built with GCOV are collected.
    :param mutant: Name of the fault to switch on in each guest, of those planted in its kernel; None for a
        kernel without.
    """

    def __init__(
        self,
        run: Path,
        *,
        progress: Progress,
        fresh: str,
        accelerator: Wanted,
        target: Target | None = None,
        coverage: bool = False,
        mutant: str | None = None,
    ) -> None:
        self.run = run
        self.target = target
        self._wanted = accelerator
        self._choice: Choice | None = None
        self._counters = CounterCollector(run) if coverage else None
        self.bundle: Callable[[str], Bundle] = functools.cache(lambda spec: bundle(spec, progress=progress))
        self._progress = progress
        self._distribution: Callable[[str, str], Distribution] = functools.cache(
            lambda name, spec: distribution(name, self.bundle(spec), progress=progress)
        )
        # Reading a configuration takes 10 ms, and many tests need the same options.
        self._lacking: Callable[[str, tuple[str, ...]], list[str]] = functools.cache(
            lambda spec, options: _lacking_in(self.bundle(spec), options)
        )
        self._fresh = fresh
        self._mutant = mutant
        fault = None if mutant is None else find(mutant)
        self._mutant_at_boot = fault is not None and fault.at_boot
        self._remarked: set[str] = set()
        self._user_modules: dict[tuple[str, Path, str], BuiltModule] = {}
        self._ahead: GuestPrefetch[GuestSpec, Guest] = GuestPrefetch(self._make)
        # The processes of a run check each template once.
        checksum.share_through(run / ".checked")

    def start(self, kind: GuestSpec, *, logs: Path) -> Ready[Guest]:
        """Start a fresh guest, and tell how it was made.

        :param kind: The kind of guest.
        :param logs: Folder for the logs of this guest alone.
        :raises MemtypeError: the kernel, the layout or the guest can't be had.
        :raises Unavailable: a target can't be such a guest, or the kernel was built without what it takes.
        """
        if self.target is not None:
            # The import loads paramiko, which takes as long as the rest of the plugin.
            from pytest_memtype.target.target import cannot

            reason = cannot(self.target, kernel=kind.kernel, layout=kind.layout, hardware=kind.hardware)
            if reason is not None:
                raise reason
            return Ready(self.target.guest(), "target")
        needed = of_hardware(cpus=kind.hardware.cpus, firmware=kind.hardware.firmware)
        self.check_options(kind.kernel, needed if self._counters is None else (*needed, GCOV))
        self.remark(uncovered_ram(kind.layout, kind.hardware))
        ready = self._ahead.take(kind, logs)
        if ready.guest.machine.shaken() is None:
            return ready
        # Its template was damaged while it waited; making another guest finds that, and makes a new template.
        ready.guest.machine.close()
        return self._make(kind, logs)

    def check_options(self, kernel: str, options: Iterable[str]) -> None:
        """Check that a kernel was built with some options. Nothing is known of a target's.

        :param kernel: The spec of the kernel.
        :param options: Their names, without ``CONFIG_``.
        :raises OptionMissing: it was built without one.
        """
        wanted = tuple(options)
        if self.target is None and wanted and (missing := self._lacking(kernel, wanted)):
            raise OptionMissing(kernel, missing)

    def remark(self, line: str) -> None:
        """Tell the user a line, once.

        :param line: The line; empty for nothing.
        """
        if line and line not in self._remarked:
            self._remarked.add(line)
            self._progress(Remark(line))

    def expect(self, kind: GuestSpec, *, logs: Path) -> None:
        """Start the guest that will be asked for next, while something else goes on.

        :param kind: The kind of guest.
        :param logs: Folder for the logs of this guest alone.
        :raises MemtypeError: QEMU refuses its devices.
        """
        # Booting takes a core for seconds, which the present test should have.
        if self._fresh == "clone" and self.target is None and self._why_not_saved(kind) is None:
            self._ahead.expect(kind, logs, memory=kind.hardware.memory_bytes)

    def count(self, kind: GuestSpec, guest: Guest, *, test: str) -> None:
        """Collect what a guest's kernel has counted for a test, where that was asked for.

        :param kind: The kind of guest.
        :param guest: The guest.
        :param test: The node id of the test, which has ended.
        """
        if self._counters is not None:
            self._counters.end(guest, kernel=kind.kernel, test=test)

    def end(self, guest: Guest) -> None:
        """End a guest of a test, or hand a target back.

        :param guest: The guest.
        :raises GuestError: on a target the test has left something behind.
        """
        if self.target is None:
            guest.host_machine.close()
        else:
            self.target.hand_back(guest)

    def end_ahead(self) -> None:
        """End the guest that was started ahead, once its start is over: until then there may be remarks."""
        self._ahead.close()

    def close(self) -> None:
        """End the guest that was started ahead, and leave the target.

        :raises SshError: files or a module of the run are still on the target.
        """
        self.end_ahead()
        if self.target is not None:
            self.target.close()

    def about(self, kernel: str) -> dict[str, str]:
        """Fields of records about the guests of a kernel: its version, accelerator and QEMU's version."""
        if self.target is not None:
            return {
                "kernel_version": "target",
                "accelerator": "none",
                "accelerator_reason": f"{self.target.address} is a machine that somebody owns",
                "qemu": "none",
            }
        choice = self.choice(kernel)
        return {
            "kernel_version": self.bundle(kernel).version,
            "accelerator": choice.accelerator,
            "accelerator_reason": choice.reason,
            "qemu": this_qemu().release,
        }

    def choice(self, kernel: str) -> Choice:
        """The accelerator, chosen at the first call by a trial with a kernel if need be.

        :param kernel: Spec of the kernel for the trial.
        :raises HostError: the accelerator that is wanted can't be used.
        """
        if self._choice is None:
            self._choice = chosen(self.bundle(kernel), self._wanted, progress=self._progress)
        return self._choice

    def user_module(self, source: str, *, folder: Path, kernel: str) -> BuiltModule:
        """A module of the user's for a kernel.

        What the compiler says of one that doesn't build is in the details of the run's first error alone.

        :param source: The folder, file or name, as the user wrote it.
        :param folder: The folder that a relative path starts from.
        :param kernel: Spec of the kernel.
        :raises Unavailable: the kernel is a target's, or its headers are gone.
        :raises UsageError: the module can't be used for this kernel.
        :raises ModuleBroken: it doesn't build.
        """
        if self.target is not None:
            raise Unavailable(
                "a target is somebody's machine, into whose kernel no module of the test's is loaded"
            )
        key = (source, folder, kernel)
        if key not in self._user_modules:
            try:
                made = user_module(source, folder, self.bundle(kernel), progress=self._progress)
            except ModuleBroken as error:
                raise self._said_once(error) from None
            line = functools.partial(line_of, made)
            self._user_modules[key] = BuiltModule(made.name, source, made.files, line)
        return self._user_modules[key]

    def _said_once(self, error: ModuleBroken) -> ModuleBroken:
        name = hashlib.sha256(error.message.encode()).hexdigest()[:16]
        try:
            # The processes of a run share its folder.
            with (self.run / f".broken-{name}").open("x"):
                return error
        except OSError:
            return ModuleBroken(
                f"{error.message} (the compiler's words are with the first test that wanted it)"
            )

    def plan(self, kind: GuestSpec) -> GuestPlan:
        """The files and settings of a guest; missing files are fetched or built.

        :param kind: The kind of guest.
        :raises MemtypeError: the kernel, the distribution or the firmware can't be had.
        """
        made = self.bundle(kind.kernel)
        runs = None if kind.system == MINIMAL else self._distribution(kind.system, kind.kernel)
        hardware = kind.hardware
        if self._mutant_at_boot:
            words = f"{hardware.cmdline} {PARAMETER}={self._mutant}".strip()
            hardware = dataclasses.replace(hardware, cmdline=words)
        return GuestPlan(
            made.image,
            runs.initramfs if runs else made.initramfs,
            kind.layout,
            hardware,
            self.choice(kind.kernel).accelerator,
            flash=flash(kind.hardware.firmware, progress=self._progress),
            distribution=runs,
            launcher=made.launcher,
            modules=tuple(
                file
                for source, folder in kind.modules
                for file in self.user_module(source, folder=folder, kernel=kind.kernel).files
            ),
        )

    def _why_not_saved(self, kind: GuestSpec) -> str | None:
        if not kind.hardware.devices and not kind.hardware.objects:
            return None
        return why_not_saved(kind.hardware, self.choice(kind.kernel).accelerator)

    def _make(self, kind: GuestSpec, logs: Path) -> Ready[Guest]:
        why_not = self._why_not_saved(kind)
        plan = self.plan(kind)
        if self._fresh == "boot":
            return Ready(self._booted(kind, plan, logs), "boot")
        if why_not is not None:
            devices = " ".join((*kind.hardware.devices, *kind.hardware.objects))
            self.remark(f"guests with {devices} are booted and not cloned: {why_not}")
            return Ready(self._booted(kind, plan, logs), f"boot, because {why_not}")
        try:
            # Nobody needs a template again that booted with a fault.
            cache = (self.run if self._mutant_at_boot else cache_directory()) / "templates"
            guest = cloned(plan, logs=logs, cache=cache, progress=self._progress)
            with _closed_on_error(guest):
                if self._counters is not None:
                    self._counters.begin(guest, kernel=kind.kernel)
                self._switch_mutant(guest)
                self._note_start(kind, guest)
            return Ready(guest, "clone")
        except NotOurs:
            # Files that others could have changed aren't booted either.
            raise
        except (TemplateError, HostError) as error:
            return Ready(self._booted(kind, plan, logs), f"boot, {CLONE_FAILED}: {error}")

    def _booted(self, kind: GuestSpec, plan: GuestPlan, logs: Path) -> Guest:
        guest = booted(plan, logs=logs)
        with _closed_on_error(guest):
            note_boot(guest)
            self._switch_mutant(guest)
            self._note_start(kind, guest)
        return guest

    def _note_start(self, kind: GuestSpec, guest: Guest) -> None:
        # Without working probes no alias of others fails a test, which looks like a kernel without any.
        if unseen := note_start(guest):
            # The import loads rich, which workers do without.
            from pytest_memtype.report.verdict_table import hardware_words

            hardware = hardware_words(asdict(kind.hardware))
            guests = f"guests of {kind.kernel}{hardware and f' with {hardware}'}"
            self.remark(f"{guests}: mappings of others go unseen, and their aliases with them ({unseen})")

    def begin_again(self, kind: GuestSpec, guest: Guest) -> None:
        """Note what a guest has whose kernel has just loaded itself anew: it isn't the test's.

        :param kind: The kind of guest.
        :param guest: The guest.
        """
        if self._counters is not None:
            self._counters.begin_again(guest, kernel=kind.kernel)
        note_boot(guest)
        self._switch_mutant(guest)
        # Without the module there are no observations.
        with contextlib.suppress(ModuleMissing):
            guest.others.note()

    def _switch_mutant(self, guest: Guest) -> None:
        # A fault that acts at boot is on already; what the kernel says of it is checked all the same.
        if self._mutant is None:
            return
        with _closed_on_error(guest):
            guest.switch_mutant(self._mutant)


@contextlib.contextmanager
def _closed_on_error(guest: Guest) -> Iterator[None]:
    """End a guest if the block fails: nobody else knows of it yet."""
    try:
        yield
    except BaseException:
        guest.machine.close()
        raise


def _lacking_in(bundle: Bundle, options: tuple[str, ...]) -> list[str]:
    # Some old packages come without their configuration. They are Debian's, which have all of these.
    return [] if bundle.config is None else lacking(options, bundle.config)


@dataclass
class _Started:
    kind: GuestSpec
    guest: Guest
    how: str
    # Aliases that earlier tests have left in a shared guest.
    told: dict[tuple[int, int], frozenset[Effective]] = field(default_factory=dict)


@dataclass
class GuestsOfTest:
    """The guests of one test, or of a module whose tests share them.

    :param session: The session that starts and ends them.
    :param logs: Folder for the logs, with a folder below it for each guest.
    :param guests: The guests so far, in the order of their numbers.
    """

    session: Session
    logs: Path
    guests: list[_Started] = field(default_factory=list)

    def start(self, kind: GuestSpec) -> Guest:
        """Start one more guest of the test."""
        if self.session.target is not None and self.guests:
            raise Unavailable("a target is one machine, and this test wants several guests")
        ready = self.session.start(kind, logs=self.logs / f"guest-{len(self.guests) + 1}")
        self.guests.append(_Started(kind, ready.guest, ready.how))
        return ready.guest

    def shared(self, kind: GuestSpec) -> Guest:
        """The live guest of a kind, or a new one."""
        for other in self.guests:
            if other.kind == kind and other.guest.host_machine.alive:
                return other.guest
        return self.start(kind)

    def positions(self) -> list[int]:
        """Number of journal entries of each guest, for :meth:`records`."""
        return [len(each.guest.journal.entries) for each in self.guests]

    def records(self, test: str, variant: Variant, *, since: list[int]) -> list[Record]:
        """The records of a test's operations in its guests.

        :param test: The node id of the test.
        :param variant: The kernel and the guest that the test's id names.
        :param since: Number of each guest's journal entries that are not the test's, as of
            :meth:`positions`; 0 for guests beyond the list.
        """
        about = {"test": test, "tested": variant.tested, "case": case_of(test, variant.name)}
        records: list[Record] = []
        for number, each in enumerate(self.guests):
            start = since[number] if number < len(since) else 0
            context = {"schema": SCHEMA, **self._context(each), **about, "guest": number + 1}
            for entry in each.guest.journal.entries[start:]:
                record = {**context, **entry}
                if "effective" in record:
                    record["effective"] = recorded(record["effective"])
                records.append(record)
        return records

    def contexts(self) -> list[Record]:
        """The facts of each guest that all of its records have."""
        return [self._context(each) for each in self.guests]

    def _context(self, started: _Started) -> dict[str, Any]:
        return {
            "kernel": started.guest.release,
            **self.session.about(started.kind.kernel),
            "system": started.kind.system,
            "layout": started.kind.layout.name,
            "mtrr_enabled": started.kind.layout.enabled,
            "hardware": asdict(as_started(started.kind.layout, started.kind.hardware)),
            "boot": started.how,
        }

    def count(self, test: str) -> None:
        """Collect what the guests' kernels have counted, where that was asked for.

        :param test: The node id of the test, which has ended.
        """
        for each in self.guests:
            self.session.count(each.kind, each.guest, test=test)

    def reports(self) -> list[ConsoleReport]:
        """Reports of the guests' kernels since the test began."""
        return [report for each in self.guests for report in each.guest.reports()]

    def shaken(self) -> MemtypeError | None:
        """An error where somebody has changed a file that a guest's RAM is a copy of; None if nobody has."""
        machines = [each.guest.host_machine for each in self.guests]
        found = (machine.shaken() for machine in machines if isinstance(machine, Machine))
        return next(filter(None, found), None)

    def audit(self) -> list[Checked]:
        """Audit the live guests, at the end of a test that passed."""
        return [
            dataclasses.replace(check(each.guest, told=each.told), guest=number)
            for number, each in enumerate(self.guests, start=1)
            if each.guest.host_machine.alive
            and each.guest.host_machine.state in (GuestState.READY, GuestState.STOPPED)
        ]

    def end_kernel(self, guest: Guest, *, test: str, audited: bool) -> list[Checked]:
        """Collect what a kernel takes with it that is about to load itself anew, as at the end of a test.

        :param guest: One of the guests.
        :param test: The node id of the test.
        :param audited: Whether to audit it.
        :returns: The audit.
        :raises GuestError: the guest ended or hung.
        """
        number, started = self._started(guest)
        found = [dataclasses.replace(check(guest, told=started.told), guest=number)] if audited else []
        self.session.count(started.kind, guest, test=test)
        return found

    def begin_again(self, guest: Guest) -> None:
        """Take what a guest has for its boot's, whose kernel has just loaded itself anew.

        :param guest: One of the guests.
        """
        _, started = self._started(guest)
        # They were the old kernel's.
        started.told.clear()
        self.session.begin_again(started.kind, guest)

    def _started(self, guest: Guest) -> tuple[int, _Started]:
        """The number of a guest, and how it was started."""
        return next(each for each in enumerate(self.guests, start=1) if each[1].guest is guest)

    def reset(self) -> None:
        """Make the live guests fit for another test, which shares them.

        One that an earlier test has left hanging is ended, with a remark: :meth:`shared` starts another.
        """
        for each in self.guests:
            if each.guest.host_machine.alive:
                try:
                    each.guest.reset()
                except GuestError as error:
                    each.guest.host_machine.close()
                    self.session.remark(f"another guest is shared from here on: {error.message}")

    def rerun_commands(self) -> list[tuple[int, str]]:
        """Pairs of a guest's number and a command that starts the same guest again."""
        return [(number, each.guest.host_machine.rerun) for number, each in enumerate(self.guests, start=1)]

    def leave_evidence(self, folder: Path, records: list[Record]) -> None:
        """Write a failed test's records and the facts of its guests into a folder."""
        leave(folder, records=records, guests=[self._evidence(each) for each in self.guests])

    def _evidence(self, started: _Started) -> Evidence:
        ranges = [str(each) for each in started.kind.layout.ranges]
        machine = started.guest.host_machine
        own = machine.config if isinstance(machine, Machine) else None
        return Evidence({**self._context(started), "ranges": ranges}, own)

    def end(self) -> None:
        """End the guests. Their logs stay, and all that is known of them.

        :raises GuestError: a test has left something behind on a target.
        """
        with contextlib.ExitStack() as ends:
            for each in self.guests:
                ends.callback(self.session.end, each.guest)

    def forget(self, *, keep_logs: bool) -> None:
        """Forget the guests, which have ended.

        :param keep_logs: False removes the logs, unless a template could not be made: that may not recur.
        """
        self.guests = []
        if not keep_logs and not any(self.logs.glob("*/template")):
            shutil.rmtree(self.logs, ignore_errors=True)
