"""A guest, as a test sees it."""

from __future__ import annotations

import dataclasses
import functools
import re
import shlex
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_memtype.console.reports import ConsoleReport, find_reports
from pytest_memtype.console.text import sanitize
from pytest_memtype.errors import AgentError, GuestError, Unavailable, UsageError
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.batch import Batch
from pytest_memtype.guest.device_memory import DEVICE_MEMORY, DeviceMemory
from pytest_memtype.guest.driver import Driver
from pytest_memtype.guest.effective_now import effective_now
from pytest_memtype.guest.faults import Faults
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.journal_values import listed, mtrr_type, pat_text, type_by, type_or_errno
from pytest_memtype.guest.kernel_list import ListEntry, parse_memtype_list
from pytest_memtype.guest.observation import (
    Observation,
    ObservationStatus,
    decode_observation,
    decode_status,
)
from pytest_memtype.guest.outcome import TrackedMapping, Verdict, decode_tracked, decode_verdict
from pytest_memtype.guest.policy import Policy
from pytest_memtype.guest.proc_mtrr import ProcMtrr, parse_proc_mtrr
from pytest_memtype.guest.process import Process
from pytest_memtype.guest.protocol import plain
from pytest_memtype.guest.region import PAGE_SIZE, Region
from pytest_memtype.guest.register_views import Disagreement, disagreements
from pytest_memtype.guest.registers import RegisterChange, Registers, decode_registers, register_changes
from pytest_memtype.guest.results import ShellResult, TypeInUse
from pytest_memtype.guest.screenshot import Picture, screenshot
from pytest_memtype.machine.change_registers import change_vcpu_registers, with_mtrrs
from pytest_memtype.machine.console import Console
from pytest_memtype.machine.device_state import CpuRegisters
from pytest_memtype.machine.firmware_layout import firmware_layout
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout, check_bootable, intended
from pytest_memtype.machine.machine import Machine, qemu_of
from pytest_memtype.machine.qemu_command import DISPLAY
from pytest_memtype.machine.qmp import Qmp
from pytest_memtype.machine.vcpu_registers import outside_registers
from pytest_memtype.x86 import pat
from pytest_memtype.x86.effective import Effective
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrState

if TYPE_CHECKING:
    from pytest_memtype.audit.audit import Audit
    from pytest_memtype.ssh.connection import Connection

_NAME_LENGTH = 31


class Guest:
    """A running guest with its agent.

    :ivar host_machine: Its machine, of whatever kind.
    :ivar release: The kernel's, as ``uname -r`` prints it.
    :ivar layout: What its MTRRs were programmed with.
    :ivar hardware: What it runs on.
    :ivar policy: The verifier's modes.
    :ivar faults: Functions of the kernel that are told to fail.
    :ivar journal: All that was done in it.
    :ivar others_before: How many of the first observations are of the time before the test.
    """

    def __init__(
        self,
        agent: Agent,
        greeting: Reply,
        *,
        layout: Layout,
        memory: Region | None = None,
        taken: Sequence[Region] = (),
    ) -> None:
        """
        :param memory: On somebody's machine, the memory that tests may use.
        :param taken: Parts of it that :meth:`mmio` doesn't give.
        """
        self.host_machine = agent.machine
        self.layout = layout
        self.hardware: Hardware = agent.machine.hardware
        self._agent = agent
        self.journal = Journal(
            functools.partial(mtrr_type, layout, self.hardware)
            if memory is None
            else functools.partial(type_by, self._read_registers()[0].mtrr)
        )
        self.policy = Policy(agent)
        self.faults = Faults(agent, self.journal)
        self.release = greeting.decode(lambda content: plain(content["release"]))
        bar = memory or greeting.decode(lambda content: _bar(content["device"]))
        self._device_memory = DeviceMemory(bar, taken)
        if layout.default is not None and memory is None and bar.start != DEVICE_MEMORY:
            raise GuestError(
                f"the test device's memory is at {bar.start:#x}, but the layout {layout.name} "
                f"expects it at {DEVICE_MEMORY:#x}"
            )
        self.others_before = 0
        self.begin_test()

    @property
    def machine(self) -> Machine:
        """Its QEMU.

        :raises Unavailable: it runs on somebody's machine.
        """
        return qemu_of(self.host_machine)

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor number of the kernel, ``(6, 12)``: what a rule that changed goes by."""
        major, minor = re.findall(r"\d+", self.release)[:2]
        return int(major), int(minor)

    def ssh(self) -> Connection:
        """A connection to the sshd of a distribution, as root, which ends with the guest.

        The agent has it let this run's key in, and tells its host key.

        :raises UsageError: the guest runs no distribution.
        :raises GuestError: the guest ended, or sshd can't be reached.
        """
        if not self.machine.config.network:
            raise UsageError("guest.ssh() wants a guest with a distribution; use --guest debian:bookworm")
        # paramiko takes longer to load than a clone to start, and few tests want it.
        from pytest_memtype.guest import ssh
        from pytest_memtype.ssh.keys import public_key, public_line

        line = shlex.quote(public_line(ssh.own_key()))
        done = self.shell(f"umask 077; echo {line} > {ssh.AUTHORIZED_KEYS} && cat {ssh.HOST_KEY}")
        if done.status != 0:
            raise GuestError(f"the guest can't be told this run's key: {done.output.strip()}")
        return ssh.connected(self.machine, public_key(done.output, where="the guest's host key"))

    def mmio(self, pages: int, align: int = 16) -> Region:
        """Device memory nothing has touched yet: a window of the test device's prefetchable BAR.

        :param align: Of its first page within the BAR, in pages, a power of two.
        :raises UsageError: the BAR has no more.
        """
        return self._device_memory.take(pages, align=align)

    def ram(self, pages: int) -> Region:
        """RAM that the agent owns, contiguous and zeroed.

        :raises AgentError: the guest has no more of it in one piece; 1024 pages is the most.
        """
        reply = self._agent.call("ram", pages=pages)
        region = reply.decode(lambda content: Region(content["start"], pages))
        self.journal.ram.append(region)
        return region

    def region(self, start: int, size: int) -> Region:
        """Any guest-physical range.

        :param size: In bytes, whole pages.
        :raises Unavailable: on a target, what is left of an earlier test lies there.
        """
        if size % PAGE_SIZE:
            raise UsageError(f"region: {size:#x} bytes are not whole pages of 4 KiB")
        try:
            region = Region(start, size // PAGE_SIZE)
        except ValueError as error:
            raise UsageError(f"region: {error}") from None
        if any(each.overlaps(region) for each in self._device_memory.taken):
            raise Unavailable(f"{region} has reservations from before this test, which the kernel has kept")
        return region

    def driver(self, name: str) -> Driver:
        """A driver, by the name under which its mappings are tracked."""
        _check_name(name)
        return Driver(name, self._agent, self.journal)

    def process(self, name: str, uid: int = 0) -> Process:
        """A new process.

        :param uid: Its user id.
        """
        _check_name(name)
        if not 0 <= uid < (1 << 32) - 1:
            raise UsageError(f"process {name}: {uid} is no user id")
        reply = self._agent.call("process", name=name, uid=uid)
        arguments = {"name": name, "uid": uid}
        self.journal.done("process", actor="test", arguments=arguments, result=0, log=reply.log)
        return Process(name, reply.decode(lambda content: int(content["pid"])), self._agent, self.journal)

    def batch(self) -> Batch:
        """Operations to be carried out together, which is many times faster than one by one."""
        return Batch(self._agent)

    def verify(self, region: Region, memtype: MemType, *, kind: str = "kernel") -> Verdict:
        """``verify_pfn_mapping``: the verdict on a mapping that isn't made.

        :param kind: ``kernel`` or ``user``; only the policy one-ioremap tells them apart.
        """
        reply = self._agent.call(
            "verify", start=region.start, pages=region.pages, memtype=int(memtype), kind=kind
        )
        verdict = reply.decode(lambda content: decode_verdict(content["verdict"]))
        self.journal.verified(region, str(memtype), verdict)
        return verdict

    def lookup(self, region: Region) -> TypeInUse:
        """``lookup_pfn_memtype``: "don't care, give me the type in use, or a default"."""
        reply = self._agent.call("lookup", start=region.start, pages=region.pages)

        def decode(content: dict[str, Any]) -> TypeInUse:
            memtype = None if content["errno"] else MemType(content["memtype"])
            return TypeInUse(memtype=memtype, errno=content["errno"], in_use=content["in_use"])

        found = reply.decode(decode)
        self.journal.record_query("lookup", type_or_errno(found.memtype, found.errno), region)
        return found

    def tracked(
        self, region: Region | None = None, *, observed: bool | None = None
    ) -> tuple[TrackedMapping, ...]:
        """The verifier's records, of all memory or of those that overlap a region, by address.

        :param observed: False for those that were asked for alone, True for those of others alone, which
            were seen; None for both.
        """
        if region is not None and not region.pages:
            return ()
        fields = {} if region is None else {"start": region.start, "pages": region.pages}
        reply = self._agent.call("tracked", **fields)
        records = reply.decode(lambda content: tuple(decode_tracked(each) for each in content["records"]))
        return tuple(record for record in records if observed is None or record.observed is observed)

    def observed(self, region: Region | None = None) -> list[Observation]:
        """What others have mapped or tried to map, in the order of the kernel's answers.

        First what was mapped when the module was loaded; then what was seen since the guest booted, or,
        where it is shared, since it was handed to this test.

        :param region: Of those that overlap it.
        """
        self._looked_at_others = True
        return [each for each in self._observations() if region is None or each.region.overlaps(region)]

    def note_others(self) -> int:
        """Take what others have mapped so far for the boot's doing; returns how much that is."""
        self.others_before = len(self._observations())
        return self.others_before

    def unseen_aliases(self) -> list[Observation]:
        """What others have mapped since the test began although it breaks the rule ``alias``; none where the
        test has asked what there is (:meth:`observed`).
        """
        if self._looked_at_others:
            return []
        since = self._observations()[self.others_before :]
        return [each for each in since if each.rule == "alias" and not each.errno and not each.seeded]

    def _observations(self) -> list[Observation]:
        reply = self._agent.call("observed")
        return reply.decode(lambda content: [decode_observation(each) for each in content["observations"]])

    def observation(self) -> ObservationStatus:
        """Which probes work at this moment, and what was not seen."""
        return self._agent.call("observation").decode(decode_status)

    def kept_pages(self) -> int:
        """Pages of RAM from :meth:`ram` that the agent could not give back as they came, and keeps for ever.

        Because they could not be made write-back again, or because a process still had them mapped. Whoever
        got them next would take them for ordinary memory.
        """
        return self._agent.call("statistics").decode(lambda content: int(content["kept_pages"]))

    def observe(self, armed: bool) -> None:
        """Stop the probes, or start them again. What others map or unmap in between is never made good.

        A stopped probe costs ``memtype_reserve()`` nothing, which is what a measurement wants.
        """
        self._agent.call("observe", armed=int(armed))

    def memtype_list(self, region: Region | None = None) -> tuple[ListEntry, ...]:
        """The kernel's own list, of all memory or of those that overlap a region, by address.

        :raises AgentError: the kernel has none, because PAT is off.
        """
        try:
            reply = self._agent.call("memtype_list")
        except AgentError:
            self.journal.record_query("memtype_list", None, region)
            raise
        entries = reply.decode(lambda content: parse_memtype_list(content["text"]))
        found = tuple(entry for entry in entries if region is None or entry.region.overlaps(region))
        if region is not None:
            self.journal.record_query("memtype_list", listed(found), region)
        return found

    def mtrr_list(self) -> tuple[ProcMtrr, ...]:
        """The kernel's own list of the MTRRs in use, ``/proc/mtrr``.

        :raises AgentError: the kernel has none, because the CPU has no MTRRs.
        """
        reply = self._agent.call("mtrr_list")
        return reply.decode(lambda content: parse_proc_mtrr(content["text"]))

    def registers(self) -> tuple[Registers, ...]:
        """PAT, MTRRs and control registers of each CPU, as read inside the guest."""
        found = self._read_registers()
        self.journal.record_query("registers", [pat_text(each.pat) for each in found])
        return found

    def _read_registers(self) -> tuple[Registers, ...]:
        reply = self._agent.call("registers")
        return reply.decode(lambda content: tuple(decode_registers(each) for each in content["cpus"]))

    def registers_outside(self) -> tuple[CpuRegisters, ...]:
        """The same registers as QEMU has them: neither the guest's kernel nor its agent has a say in that."""
        found = outside_registers(self.machine)
        self.journal.record_query(
            "registers_outside", [pat_text(pat.decode(each.pat_value)) for each in found]
        )
        return found

    def change_registers(
        self, change: Layout | Callable[[CpuRegisters], CpuRegisters], *, cpus: Container[int] | None = None
    ) -> None:
        """Change registers from outside, behind the back of the kernel that runs, which goes on with them::

            guest.change_registers(Layout("late", default=MemType.UC, ranges=[...]))
            guest.change_registers(lambda cpu: replace(cpu, pat_value=RESET_PAT), cpus=[1])

        It takes about half a second: the guest moves to another QEMU.

        :param change: A layout for the MTRRs, or what gives a CPU other registers when called with those it
            has.
        :param cpus: QEMU's numbers of those that change, None for all.
        :raises LayoutError: the MTRRs can't express the layout.
        """
        if isinstance(change, Layout):
            check_bootable(change)
            mtrrs = self._intended(change, physical_bits=self.hardware.physical_bits)
            change = functools.partial(with_mtrrs, mtrrs)
        give = change
        change_vcpu_registers(self.machine, lambda cpu: give(cpu) if cpus is None or cpu.cpu in cpus else cpu)
        self._agent.forget_memory()
        self.journal.record_query("change_registers", None)

    def register_disagreements(self) -> tuple[Disagreement, ...]:
        """Where the three ways to read the registers don't agree: in the guest, ``/proc/mtrr``, outside."""
        inside = self.registers()
        listed = None if inside[0].mtrr is None else self.mtrr_list()
        return disagreements(inside=inside, listed=listed, outside=self.registers_outside())

    def rewritten(self) -> tuple[RegisterChange, ...]:
        """The MTRRs that aren't what the layout says: rewritten by the kernel at boot, or changed since.

        Linux rewrites them with ``enable_mtrr_cleanup`` and through ``/proc/mtrr``.
        """
        registers = self.registers()
        meant = self._intended(self.layout, physical_bits=registers[0].physical_bits)
        return register_changes(meant, registers)

    def _intended(self, layout: Layout, *, physical_bits: int) -> MtrrState:
        return intended(layout, physical_bits=physical_bits, firmware=firmware_layout(self.hardware))

    def effective(self, region: Region) -> tuple[Effective | None, ...]:
        """The effective type of each page now: its type in the page tables combined with the MTRRs.

        None where this test has nothing mapped; ``EffectiveType.ALIASED`` where its live mappings of the page
        have different effective types. What others have mapped is the audit's to tell (:meth:`audit`).
        """
        return effective_now(self._agent, self.journal, region, self.registers()[0])

    def audit(self, *, scan: bool = False, tracked: bool = True) -> Audit:
        """What the page tables of all processes and the kernel really hold, read from outside: conflicts,
        and all else that :mod:`pytest_memtype.audit` finds fault with. The guest stands still meanwhile.

        :param scan: Look for page tables in all of RAM, too; else those of CR3 and of the guest's own list of
            processes are read. A guest without the module, or stopped, is always scanned.
        :param tracked: Compare with the verifier's records and the kernel's own list.
        :raises UsageError: this host doesn't let a process look into its child.
        """
        # It imports numpy, which takes as long as importing the rest.
        from pytest_memtype.guest.audited import audited

        return audited(
            self.machine,
            self._agent,
            scan=scan,
            listed=self.memtype_list if tracked else None,
            recorded=self.tracked,
        )

    def shell(self, command: str) -> ShellResult:
        """Run a command in the guest's shell (busybox), without standard input."""
        reply = self._agent.call("shell", command=command)
        result = reply.decode(
            lambda content: ShellResult(status=int(content["status"]), output=plain(content["output"]))
        )
        self.journal.done(
            "shell",
            actor="test",
            arguments={"command": command},
            result=dataclasses.asdict(result),
            log=reply.log,
        )
        return result

    @property
    def console(self) -> Console:
        """The kernel console, for pexpect."""
        return self.host_machine.console

    @property
    def qmp(self) -> Qmp:
        return self.machine.qmp

    def screenshot(self) -> Picture:
        """What :attr:`Hardware.display` shows; without one, the test device.

        :raises GuestError: QEMU can't say.
        """
        return screenshot(self.qmp, device=DISPLAY if self.hardware.display else None)

    def reports(self) -> tuple[ConsoleReport, ...]:
        """The kernel's reports on its console since :meth:`begin_test`: oopses, warnings, lockups, panics."""
        if not isinstance(self.host_machine, Machine) and self.host_machine.alive:
            # Its console may be quiet, or nobody's to see.
            return find_reports("\n".join(self.log))
        with self._console_log.open("rb") as file:
            file.seek(self._console_start)
            return find_reports(sanitize(file.read()))

    def reset(self) -> None:
        """Make it fit for another test: no process, no driver's mapping, the default policy.

        What the kernel keeps, such as which warnings it gives only once, stays. So do mappings of the
        verifier's that a bug of the kernel left behind: they are what tests look for.
        """
        self._agent.call("reset")
        self.journal.forget()
        self.policy = Policy(self._agent)
        self.others_before = 0
        self.begin_test()

    def begin_test(self) -> None:
        """Hand the guest to a test: log and reports begin here."""
        self._looked_at_others = False
        self._log_start = len(self._agent.log)
        self._console_start = _size(self._console_log)

    @property
    def _console_log(self) -> Path:
        return self.host_machine.logs / "console.log"

    @property
    def log(self) -> tuple[str, ...]:
        """The kernel's messages since the guest was handed to the test, sanitised."""
        self._agent.call("log")
        return tuple(self._agent.log[self._log_start :])


def _check_name(name: str) -> None:
    if not 1 <= len(name.encode()) <= _NAME_LENGTH or not name.isprintable():
        raise UsageError(f"{name!r} is no name: it needs 1 to {_NAME_LENGTH} printable characters")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bar(device: dict[str, Any]) -> Region:
    return Region(device["start"], device["size"] // PAGE_SIZE)
