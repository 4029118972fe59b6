"""A guest, as a test sees it."""

from __future__ import annotations

import dataclasses
import functools
import re
import shlex
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_memtype.console.reports import ConsoleReport, find_reports
from pytest_memtype.errors import AgentError, GuestError, KernelError, Unavailable, UsageError
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.batch import Batch
from pytest_memtype.guest.device_memory import DEVICE_MEMORY, DeviceMemory
from pytest_memtype.guest.driver import Driver
from pytest_memtype.guest.effective_now import effective_now
from pytest_memtype.guest.faults import Faults
from pytest_memtype.guest.gcov import READ, GuestCounters, decode_counters
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.journal_values import listed, mtrr_type, pat_text, type_by, type_or_errno
from pytest_memtype.guest.kernel_functions import KernelFunctions
from pytest_memtype.guest.kernel_list import ListEntry, parse_memtype_list
from pytest_memtype.guest.kexec import greeted_again, load_again
from pytest_memtype.guest.module import BuiltModule, Module, Value
from pytest_memtype.guest.observation import Observation, ObservationStatus, decode_status
from pytest_memtype.guest.operation import Steps, ask, carry_out, operation
from pytest_memtype.guest.others import Others
from pytest_memtype.guest.outcome import TrackedMapping, Verdict, decode_tracked, decode_verdict
from pytest_memtype.guest.pci import PciDevice, find_device
from pytest_memtype.guest.plugged_memory import plug_memory, unplug_memory
from pytest_memtype.guest.policy import Policy
from pytest_memtype.guest.power import Cpu, suspend
from pytest_memtype.guest.proc_mtrr import ProcMtrr, parse_proc_mtrr
from pytest_memtype.guest.process import Process
from pytest_memtype.guest.protocol import plain
from pytest_memtype.guest.region import PAGE_SIZE, Region, one_piece
from pytest_memtype.guest.register_views import Disagreement, disagreements
from pytest_memtype.guest.registers import RegisterChange, Registers, decode_registers, register_changes
from pytest_memtype.guest.results import ShellResult, TypeInUse
from pytest_memtype.guest.said import Said
from pytest_memtype.guest.screenshot import Picture, screenshot
from pytest_memtype.guest.strict import error_number, flag, integer, region_of
from pytest_memtype.guest.transfer import MOST, get_file, put_file
from pytest_memtype.host.files import named_path, read_file
from pytest_memtype.machine.change_registers import change_vcpu_registers, with_mtrrs
from pytest_memtype.machine.console import Console
from pytest_memtype.machine.device_state import CpuRegisters
from pytest_memtype.machine.device_trial import why_not_saved
from pytest_memtype.machine.firmware_layout import firmware_layout
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout, check_bootable, intended
from pytest_memtype.machine.machine import Machine, qemu_of
from pytest_memtype.machine.qemu_command import DISPLAY
from pytest_memtype.machine.qmp import Qmp
from pytest_memtype.machine.timeouts import BOOT
from pytest_memtype.machine.vcpu_registers import outside_registers
from pytest_memtype.x86 import pat
from pytest_memtype.x86.effective import Effective
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrState

if TYPE_CHECKING:
    from pytest_memtype.audit.audit import Audit
    from pytest_memtype.ssh.connection import Connection

NO_PARAMETERS: Mapping[str, Value] = MappingProxyType({})

_NAME_LENGTH = 31
# guests/module/driver_operations.c: pages of one allocation.
_MOST_RAM = 1024
_MUTANT = "/sys/kernel/debug/memtype_mutant"


class Guest:
    """A running guest with its agent.

    :param agent: The agent, which has greeted.
    :param greeting: The agent's greeting: tells the kernel's release and the test device's BAR.
    :param layout: The layout that the guest's MTRRs were programmed with.
    :param memory: On a target, the memory that tests may use; None for the test device's BAR.
    :param taken: Parts of that memory that :meth:`mmio` doesn't hand out.
    :ivar host_machine: The machine it runs on: a QEMU, or a target.
    :ivar release: The kernel's release, as ``uname -r`` prints it.
    :ivar layout: The layout its MTRRs were programmed with.
    :ivar hardware: The CPU, RAM and devices it runs on.
    :ivar policy: The verifier's modes.
    :ivar faults: Functions of the kernel that are told to fail.
    :ivar kernel: Functions of the kernel, also those that no module can call, and its own page tables.
    :ivar journal: Everything that was done in it.
    :ivar others: Which of the mappings of others a test is judged by.
    :ivar modules: The modules of the user's that it has loaded, by name.
    :ivar user_module: Builds a module for its kernel; set by the run that the guest is of.
    :ivar before_kexec: Called with the guest before each :meth:`kexec`; set by the run that the guest is of.
    :ivar after_kexec: Called with the guest after each :meth:`kexec`; set by the run that the guest is of.
    :ivar brought: Paths of the modules' files that its template has.
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
        self.host_machine = agent.machine
        self.layout = layout
        self.hardware: Hardware = agent.machine.hardware
        self.journal = Journal(
            functools.partial(mtrr_type, layout, self.hardware)
            if memory is None
            else functools.partial(type_by, carry_out(agent, self._read_registers())[0].mtrr)
        )
        self._said = Said(agent.machine.logs / "console.log")
        self._go_by(agent)
        self.release = greeting.decode(lambda content: plain(content["release"]))
        bar = memory or greeting.decode(lambda content: _bar(content["device"]))
        self._device_memory = DeviceMemory(bar, taken)
        if layout.default is not None and memory is None and bar.start != DEVICE_MEMORY:
            raise GuestError(
                f"the test device's memory is at {bar.start:#x}, but the layout {layout.name} "
                f"expects it at {DEVICE_MEMORY:#x}"
            )
        self.user_module: Callable[[str], BuiltModule] | None = None
        self.before_kexec: Callable[[Guest], None] | None = None
        self.after_kexec: Callable[[Guest], None] | None = None
        self.begin_test()

    def _go_by(self, agent: Agent) -> None:
        """Go by the agent of a kernel that has just booted, and knows of nothing."""
        self._agent = agent
        self.policy = Policy(agent)
        self.faults = Faults(agent, self.journal)
        self.kernel = KernelFunctions(agent, self.journal, self.faults)
        self.modules: dict[str, Module] = {}
        self.others = Others(agent, self.modules)
        self.brought: frozenset[str] = frozenset()

    @property
    def machine(self) -> Machine:
        """The QEMU that the guest runs in.

        :raises Unavailable: the guest is a target, which no QEMU of this run runs.
        """
        return qemu_of(self.host_machine)

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor number of the kernel, as ``(6, 12)``, for rules that differ between kernels."""
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

        :param pages: How many pages of 4 KiB, at least 1.
        :param align: Alignment of its first page within the BAR, in pages, a power of two.
        :raises UsageError: the BAR has no such window left.
        """
        return self._device_memory.take(pages, align=align)

    @operation
    def ram(self, pages: int) -> Steps[Region]:
        """RAM that the agent owns, contiguous and zeroed.

        :param pages: How many pages of 4 KiB.
        :raises UsageError: it is more than the 1024 pages that the module takes in one piece.
        :raises AgentError: the guest has no more of it in one piece.
        """
        if not 0 < pages <= _MOST_RAM:
            raise UsageError(f"ram: {pages} pages; ask for 1 to {_MOST_RAM} (4 MiB), as often as you like")
        reply = yield from ask("ram", pages=pages)
        region = reply.decode(lambda content: region_of(content["start"], pages))
        self.journal.ram.append(region)
        return region

    def region(self, start: int, size: int) -> Region:
        """Any range of guest-physical memory, whatever is there.

        :param start: Address of the first byte, the start of a page.
        :param size: Bytes, whole pages of 4 KiB.
        :raises UsageError: the range isn't made of whole pages.
        :raises Unavailable: on a target, a reservation of an earlier test lies there.
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

    @operation
    def process(self, name: str, uid: int = 0) -> Steps[Process]:
        """Start a process in the guest.

        :param name: The name under which the verifier keeps its mappings, 1 to 31 bytes.
        :param uid: Its user id.
        """
        _check_name(name)
        if not 0 <= uid < (1 << 32) - 1:
            raise UsageError(f"process {name}: {uid} is no user id")
        reply = yield from ask("process", name=name, uid=uid)
        arguments = {"name": name, "uid": uid}
        self.journal.done("process", actor="test", arguments=arguments, result=0, log=reply.log)
        return Process(name, reply.decode(lambda content: integer(content["pid"])), self._agent, self.journal)

    def batch(self) -> Batch:
        """Collect operations that are carried out together, which is many times faster than one by one."""
        return Batch(self._agent)

    @operation
    def verify(self, region: Region, memtype: MemType, *, kind: str = "kernel") -> Steps[Verdict]:
        """Ask the verifier for its verdict on a mapping, without making it: ``verify_pfn_mapping``.

        :param region: The pages of the mapping.
        :param memtype: The type of the mapping.
        :param kind: ``kernel`` or ``user``; only the policy one-ioremap tells them apart.
        """
        asked = one_piece(region, "verify")
        reply = yield from ask(
            "verify", start=asked.start, pages=asked.pages, memtype=int(memtype), kind=kind
        )
        verdict = reply.decode(lambda content: decode_verdict(content["verdict"]))
        self.journal.verified(region, str(memtype), verdict)
        return verdict

    @operation
    def lookup(self, region: Region) -> Steps[TypeInUse]:
        """Ask the verifier for the type in use, or for a default: ``lookup_pfn_memtype``."""
        asked = one_piece(region, "lookup")
        reply = yield from ask("lookup", start=asked.start, pages=asked.pages)

        def decode(content: dict[str, Any]) -> TypeInUse:
            error = error_number(content["errno"])
            memtype = None if error else MemType(integer(content["memtype"]))
            return TypeInUse(memtype=memtype, errno=error, in_use=flag(content["in_use"]))

        found = reply.decode(decode)
        self.journal.record_query("lookup", type_or_errno(found.memtype, found.errno), region)
        return found

    @operation
    def tracked(
        self, region: Region | None = None, *, observed: bool | None = None
    ) -> Steps[tuple[TrackedMapping, ...]]:
        """The verifier's records of mappings, by address.

        :param region: Only records that overlap it; None for all memory.
        :param observed: False for mappings that tests asked for, True for mappings of others that were seen;
            None for both.
        """
        if region is not None and not region.pages:
            return ()
        fields: dict[str, int] = {}
        if region is not None:
            # One question, for a batch takes no more: what pieces have in between is left out below.
            start = min(each.start for each in region.parts())
            end = max(each.end for each in region.parts())
            fields = {"start": start, "pages": (end - start) // PAGE_SIZE}
        reply = yield from ask("tracked", **fields)
        records = reply.decode(lambda content: tuple(decode_tracked(each) for each in content["records"]))
        return tuple(
            record
            for record in records
            if (observed is None or record.observed is observed)
            and (region is None or record.region.overlaps(region))
        )

    def load(self, path: str | Path, parameters: Mapping[str, Value] = NO_PARAMETERS) -> Module:
        """Load a kernel module of your own, built for the guest's kernel by that kernel's compiler.

        A module that is loaded already, with the same parameters, isn't loaded again.

        :param path: A folder with Kbuild or Makefile, a ``.c`` file or a ``.ko`` file, from the folder of the
            test's file on; or the name of a module in the kernel's package, ``"uio_pci_generic"``.
        :param parameters: The module's parameters.
        :raises UsageError: there is no such file, or it is a module for another kernel.
        :raises ModuleBroken: it doesn't build; the compiler's words are in the details of the first error.
        :raises ModuleRefusedToLoad: the guest's kernel doesn't take it; the message has the kernel's words.
        :raises GuestPanicked: the kernel panicked while it was loaded.
        :raises Unavailable: the guest is no guest of a run in QEMU.
        """
        if self.user_module is None or not isinstance(self.host_machine, Machine):
            raise Unavailable("load() wants a guest in a QEMU of a run, for whose kernel a module is built")
        built = self.user_module(str(path))
        loaded = self.modules.get(built.name)
        if loaded is not None and loaded.loaded and loaded.parameters == dict(parameters):
            return loaded
        module = Module(
            built,
            parameters,
            agent=self._agent,
            journal=self.journal,
            observed=lambda module: self.others.made_by(module.name),
            tracked=lambda: self.tracked(observed=True),
            reports=self.reports,
            changed=self.kernel.forget_addresses,
        )
        module.load(there=self.brought)
        self.modules[built.name] = module
        return module

    def put(self, path: str | Path, to: str = "") -> str:
        """Copy a file into the guest, and return its path there.

        :param path: A regular file of at most 64 MiB.
        :param to: Its absolute path in the guest; empty for ``/tmp/NAME``. Folders are made.
        :raises UsageError: the file can't be read.
        :raises AgentError: the guest's kernel refuses it.
        """
        source = named_path(str(path), what="put")
        where = to or f"/tmp/{source.name}"
        put_file(self._agent, read_file(source, most=MOST), where)
        self.journal.done("put", actor="test", arguments={"path": str(path), "to": where}, result=0, log=())
        return where

    def get(self, path: str) -> bytes:
        """The content of a regular file in the guest, of at most 64 MiB.

        :param path: Its absolute path there.
        :raises AgentError: there is none, or the guest's kernel refuses it.
        """
        content = get_file(self._agent, path)
        self.journal.done("get", actor="test", arguments={"path": path}, result=len(content), log=())
        return content

    def pci(self, which: str) -> PciDevice:
        """A PCI device of the guest.

        :param which: Vendor and device, ``"1234:11e8"``, or its place on the bus, ``"00:02.0"``.
        :raises UsageError: there is none, or there are several of that id.
        :raises Unavailable: the guest is a target: nobody would bind its devices as they were.
        """
        qemu_of(self.host_machine)
        return find_device(self._agent, which)

    @operation
    def observed(
        self, region: Region | None = None, *, module: Module | str | None = None
    ) -> Steps[list[Observation]]:
        """List the mappings that others have made or tried to make, in the order of the kernel's answers.

        First those that were there when the module was loaded; then those seen since the guest booted, or,
        where it is shared, since it was handed to this test.

        :param region: Only mappings that overlap it; None for all memory.
        :param module: Only mappings that this module has made, or that its file's mmap() has; None for all.
        """
        return (yield from self.others.observed(region, module))

    def aliases(self, owner: Module | str | None = None) -> tuple[Observation, ...]:
        """The mappings since the test began that others have made and that break a rule.

        Where a test asks for those of one owner, the others still fail it at its end.

        :param owner: Only mappings that this module has made; or a name: of a module, or of a task. None for
            all.
        """
        return self.others.aliases(owner)

    @operation
    def observation(self) -> Steps[ObservationStatus]:
        """Tell which probes work at this moment, and how much was not seen."""
        reply = yield from ask("observation")
        return reply.decode(decode_status)

    @operation
    def kept_pages(self) -> Steps[int]:
        """Number of pages of RAM from :meth:`ram` that the agent could not give back, and keeps for ever.

        They could not be made write-back again, or a process still had them mapped. Their next user would
        take them for ordinary memory.
        """
        reply = yield from ask("statistics")
        return reply.decode(lambda content: integer(content["kept_pages"]))

    @operation
    def observe(self, armed: bool) -> Steps[None]:
        """Stop the probes, or start them again. Mappings of others in between are never seen.

        A stopped probe costs ``memtype_reserve()`` nothing, as a measurement needs it.
        """
        yield from ask("observe", armed=int(armed))

    @operation
    def memtype_list(self, region: Region | None = None) -> Steps[tuple[ListEntry, ...]]:
        """The kernel's own list of reservations, by address.

        :param region: Only reservations that overlap it; None for all memory.
        :raises AgentError: the kernel has none, because PAT is off; or it is longer than the agent can say.
        """
        try:
            reply = yield from ask("memtype_list")
        except AgentError:
            self.journal.record_query("memtype_list", None, region)
            raise
        entries = reply.decode(lambda content: parse_memtype_list(content["text"]))
        found = tuple(entry for entry in entries if region is None or entry.region.overlaps(region))
        if region is not None:
            self.journal.record_query("memtype_list", listed(found), region)
        return found

    @operation
    def mtrr_list(self) -> Steps[tuple[ProcMtrr, ...]]:
        """The kernel's own list of the MTRRs in use, ``/proc/mtrr``.

        :raises AgentError: the kernel has none, because the CPU has no MTRRs.
        """
        reply = yield from ask("mtrr_list")
        return reply.decode(lambda content: parse_proc_mtrr(content["text"]))

    @operation
    def registers(self) -> Steps[tuple[Registers, ...]]:
        """PAT, MTRRs and control registers of each CPU, as read inside the guest."""
        found = yield from self._read_registers()
        self.journal.record_query("registers", [pat_text(each.pat) for each in found])
        return found

    def _read_registers(self) -> Steps[tuple[Registers, ...]]:
        reply = yield from ask("registers")
        return reply.decode(lambda content: tuple(decode_registers(each) for each in content["cpus"]))

    def registers_outside(self) -> tuple[CpuRegisters, ...]:
        """Registers of each CPU as QEMU has them, independent of the guest's kernel and its agent."""
        found = outside_registers(self.machine)
        self.journal.record_query(
            "registers_outside", [pat_text(pat.decode(each.pat_value)) for each in found]
        )
        return found

    def change_registers(
        self, change: Layout | Callable[[CpuRegisters], CpuRegisters], *, cpus: Container[int] | None = None
    ) -> None:
        """Change registers from outside, unknown to the running kernel, which goes on with them.

        ::

            guest.change_registers(Layout("late", default=MemType.UC, ranges=[...]))
            guest.change_registers(lambda cpu: replace(cpu, pat_value=RESET_PAT), cpus=[1])

        It takes about half a second: the guest moves to another QEMU.

        :param change: A layout for the MTRRs, whose ``other_cpus`` is that of all CPUs but the first; or a
            function that is called with the registers of a CPU and returns those that the CPU shall have.
        :param cpus: QEMU's numbers of the CPUs that change, None for all.
        :raises LayoutError: the MTRRs can't express the layout.
        :raises Unavailable: QEMU doesn't save one of :attr:`Hardware.devices`, which so can't move; or memory
            was plugged in, which wouldn't.
        """
        why_not = why_not_saved(self.hardware, self.machine.config.accelerator)
        if why_not is not None:
            raise Unavailable(f"change_registers() moves the guest to another QEMU: {why_not}")
        give = self._mtrrs_of(change) if isinstance(change, Layout) else change
        change_vcpu_registers(self.machine, lambda cpu: give(cpu) if cpus is None or cpu.cpu in cpus else cpu)
        self._agent.forget_memory()
        self.kernel.forget_pat()
        self.journal.record_query("change_registers", None)

    def _mtrrs_of(self, layout: Layout) -> Callable[[CpuRegisters], CpuRegisters]:
        """A function that gives each CPU the layout's MTRRs, and other CPUs than QEMU's first their own."""
        check_bootable(layout)
        bits = self.hardware.physical_bits
        boot = others = self._intended(layout, physical_bits=bits)
        if layout.other_cpus is not None:
            others = self._intended(layout.other_cpus, physical_bits=bits)
        return lambda cpu: with_mtrrs(boot if cpu.cpu == 0 else others, cpu)

    def register_disagreements(self) -> tuple[Disagreement, ...]:
        """Registers on which the three ways to read them disagree: in the guest, ``/proc/mtrr``, outside."""
        inside = self.registers()
        listed = None if inside[0].mtrr is None else self.mtrr_list()
        return disagreements(inside=inside, listed=listed, outside=self.registers_outside())

    def rewritten(self) -> tuple[RegisterChange, ...]:
        """MTRRs that differ from the layout: rewritten by the kernel at boot, or changed since.

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
        have different effective types. Mappings of others are not counted: :meth:`audit` finds them.
        """
        return effective_now(self._agent, self.journal, region, self.registers()[0])

    def audit(self, *, scan: bool = False, tracked: bool = True) -> Audit:
        """Read the page tables of all processes and the kernel from outside, and look for faults in them.

        Faults are conflicts between mappings, and everything else that :mod:`pytest_memtype.audit` finds. The
        guest stands still meanwhile.

        :param scan: Look for page tables in all of RAM, too; else those of CR3 and of the guest's own list of
            processes are read. A guest without the module, or stopped, is always scanned.
        :param tracked: Compare with the verifier's records and the kernel's own list.
        :raises UsageError: this host doesn't let a process look into its child.
        """
        # The import loads numpy, which takes as long as importing the rest.
        from pytest_memtype.guest.audited import audited

        return audited(
            self.machine,
            self._agent,
            scan=scan,
            listed=self.memtype_list if tracked else None,
            recorded=self.tracked,
        )

    @operation
    def shell(self, command: str) -> Steps[ShellResult]:
        """Run a command in the guest's shell (busybox), without standard input."""
        reply = yield from ask("shell", command=command)
        # It may have taken out a module, or brought one.
        self.kernel.forget_addresses()
        result = reply.decode(
            lambda content: ShellResult(status=integer(content["status"]), output=plain(content["output"]))
        )
        self.journal.done(
            "shell",
            actor="test",
            arguments={"command": command},
            result=dataclasses.asdict(result),
            log=reply.log,
        )
        return result

    @operation
    def gcov_counters(self) -> Steps[GuestCounters]:
        """Read the counters of a kernel that was built with GCOV, and have it count anew. No record is made.

        :raises AgentError: the kernel has none.
        """
        reply = yield from ask("shell", command=READ)
        return reply.decode(decode_counters)

    def switch_mutant(self, name: str) -> None:
        """Switch on one of the faults that ``memtype mutate`` has planted in the kernel. No record says so.

        :param name: The fault's name, or ``none``.
        :raises KernelError: the kernel has no such fault.
        """
        words = shlex.quote(name)
        reply = self._agent.call("shell", command=f"echo {words} > {_MUTANT} && cat {_MUTANT}")
        status, output = reply.decode(lambda content: (integer(content["status"]), plain(content["output"])))
        if status or output != name:
            raise KernelError(
                f"the guest's kernel {self.release} has no fault {name!r} to switch on; --mutant wants a "
                "kernel that memtype mutate has built"
            )

    def suspend(self, *, seconds: float = 0.0) -> None:
        """Suspend the guest to RAM, and wake it: its CPUs are reset, and get back what they had.

        :param seconds: How long it sleeps at least, at most 600.
        :raises UsageError: it would be woken before it sleeps, or too late.
        :raises Unavailable: its kernel doesn't suspend to RAM.
        :raises GuestError: its kernel refused; it didn't fall asleep, didn't wake, or died meanwhile.
        """
        suspend(self._agent, self.journal, self.machine, seconds=seconds)

    def kexec(self, *, timeout: float = BOOT) -> None:
        """Have the guest's kernel load itself anew: same image, initramfs and command line, and no reset.

        The new kernel finds the MTRRs as the old one has left them, and programs the PAT anew. It knows of no
        mapping, driver, process or module: those made before raise UsageError from now on, and RAM of
        :meth:`ram` is anybody's. Windows of :meth:`mmio` stay what they are. It takes about four seconds.

        The old kernel is audited as at the end of a test, which its aliases fail. Aliases of the new kernel's
        boot and reports up to its agent's greeting are the boot's and no test's: :attr:`log` has the latter.

        :param timeout: Seconds that the new kernel has until its agent greets.
        :raises Unavailable: its kernel doesn't load another, for want of CONFIG_KEXEC_FILE or permission; or
            the guest has memory that was plugged in, runs a distribution, or is a target.
        :raises BootError: the new kernel doesn't come as far as its agent.
        :raises GuestError: the kernel can't be loaded, or the new one dies.
        """

        def before() -> None:
            if self.before_kexec is not None:
                self.before_kexec(self)

        size = self._said.size
        agent = load_again(self._agent, self.journal, self.machine, before=before)
        for module in self.modules.values():
            module.loaded = False
        self._go_by(agent)
        greeting = greeted_again(agent, timeout=timeout)
        self._said.leave_boot_out(size)
        bar = greeting.decode(lambda content: _bar(content["device"]))
        if bar != self._device_memory.bar:
            raise GuestError(f"the test device's memory has moved to {bar} from {self._device_memory.bar}")
        if self.after_kexec is not None:
            self.after_kexec(self)

    def cpu(self, number: int) -> Cpu:
        """A CPU, to take it off and to bring it back.

        :param number: Its number in Linux, from 0.
        :raises Unavailable: the guest is a target: nobody would bring the CPU back.
        """
        qemu_of(self.host_machine)
        return Cpu(number, self._agent, self.journal)

    def plug_memory(self, size: str | int) -> Region:
        """Plug RAM into the running guest, and return it; all of it is online.

        The first piece lies at 4 GiB, or at the next whole GiB behind the RAM of the start. The kernel puts
        only pages there that it can move (``online_movable``), so never those of :meth:`ram`. It stays until
        it is unplugged or the guest ends; :meth:`reset` leaves it.

        :param size: Bytes, or text with a unit such as ``"128M"``: whole blocks of the kernel's, which are of
            128 MiB.
        :raises UsageError: the hardware has no room (:attr:`Hardware.most_memory`), or it isn't whole blocks.
        :raises Unavailable: the kernel takes no memory while it runs, for want of CONFIG_MEMORY_HOTPLUG or
            CONFIG_ACPI_HOTPLUG_MEMORY.
        :raises GuestError: QEMU or the kernel refused it, or the guest died meanwhile.
        """
        return plug_memory(self._agent, self.journal, self.machine, size)

    def unplug_memory(self, region: Region) -> None:
        """Take memory of :meth:`plug_memory` out again.

        :param region: A region that it returned, all of it.
        :raises UsageError: it is none.
        :raises GuestError: the kernel doesn't give it back, or the guest died meanwhile.
        """
        unplug_memory(self._agent, self.journal, self.machine, region)

    @property
    def console(self) -> Console:
        """The kernel console, for pexpect."""
        return self.host_machine.console

    @property
    def qmp(self) -> Qmp:
        return self.machine.qmp

    def screenshot(self) -> Picture:
        """A picture of :attr:`Hardware.display`; of the test device where there is no display.

        :raises GuestError: QEMU can't take it.
        """
        return screenshot(self.qmp, device=DISPLAY if self.hardware.display else None)

    def reports(self) -> tuple[ConsoleReport, ...]:
        """The kernel's reports on its console since :meth:`begin_test`: oopses, warnings, lockups, panics.

        Those of a boot by :meth:`kexec` aren't among them.
        """
        if not isinstance(self.host_machine, Machine) and self.host_machine.alive:
            # The console of a target may be quiet, or out of reach.
            return find_reports("\n".join(self.log))
        return self._said.reports()

    def reset(self) -> None:
        """Make the guest fit for another test: no process, no driver's mapping, the default policy.

        The kernel's own state stays, such as which warnings it gives only once. So do records of the
        verifier that a bug of the kernel left behind: tests look for them.
        """
        self._agent.call("reset")
        self.journal.forget()
        self.policy = Policy(self._agent)
        self.others.before = 0
        self.begin_test()

    def begin_test(self) -> None:
        """Hand the guest to a test: its log and reports begin here."""
        self.others.begin_test()
        self._log_start = len(self._agent.log)
        self._said.begin_test()

    @property
    def log(self) -> tuple[str, ...]:
        """The kernel's messages since the guest was handed to the test, sanitised."""
        self._agent.call("log")
        return tuple(self._agent.log[self._log_start :])


def _check_name(name: str) -> None:
    if not 1 <= len(name.encode()) <= _NAME_LENGTH or not name.isprintable():
        raise UsageError(f"{name!r} is no name: it needs 1 to {_NAME_LENGTH} printable characters")


def _bar(device: dict[str, Any]) -> Region:
    return region_of(device["start"], integer(device["size"]) // PAGE_SIZE)
