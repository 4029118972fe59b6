"""A target for a whole run: prepared once, handed to one test after the other, left as it was found."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import paramiko

from pytest_memtype.errors import (
    BootError,
    GuestError,
    ModuleNotLoaded,
    SshError,
    Unavailable,
    UsageError,
)
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.kernel_list import ListEntry, keeps_none
from pytest_memtype.guest.protocol import plain
from pytest_memtype.guest.region import PAGE_SIZE, Region
from pytest_memtype.host.files import WRITTEN_BY_HAND, read_file
from pytest_memtype.host.progress import Progress
from pytest_memtype.machine.hardware import MIB, MOST_CPUS, Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.machine.timeouts import GREETING, UNDOING
from pytest_memtype.ssh import keys
from pytest_memtype.ssh.connection import Connection
from pytest_memtype.ssh.deploy import refusal
from pytest_memtype.target.address import TargetAddress
from pytest_memtype.target.dry_run import DryMachine, DryRun
from pytest_memtype.target.facts import Facts, read_facts
from pytest_memtype.target.machine import TargetMachine
from pytest_memtype.target.module import deploy_module, halves
from pytest_memtype.target.permission import TargetConfig, check, load_permission, missing
from pytest_memtype.target.pump import SerialConsole

_FIRMWARE: Final = Layout("firmware")


@dataclass(frozen=True)
class Prepared:
    """Facts of a target and its owner's permission, read before anything is changed there."""

    facts: Facts
    permission: TargetConfig


class Target:
    """A target, on which tests run one after the other.

    :param address: The target's address, with its keys and files.
    :param logs: Folder for the logs of the target.
    :param progress: Called with one line at the start of each slow stage.
    :param dry_run: Called with a line for each operation, none of which is carried out. None for no dry run.
    :ivar left: Reservations that tests have left in the kernel's own list.
    :raises UsageError: the address, a key, or the file with the owner's permission can't be used.
    :raises SshError: the target can't be reached or tested.
    """

    def __init__(
        self,
        address: TargetAddress,
        *,
        logs: Path,
        progress: Progress,
        dry_run: Callable[[str], None] | None = None,
    ) -> None:
        self.address = address
        self._logs = logs
        self._progress = progress
        self._identity = keys.identity(address.identity)
        self._host_key = _host_key(address.host_key)
        self._agent: Agent | None = None
        self._machine: TargetMachine | None = None
        self._greeting: Reply | None = None
        self._listed: tuple[ListEntry, ...] = ()
        self.left: list[ListEntry] = []
        self._starts = 0
        permission = None if address.config is None else load_permission(address.config)
        with self._connect() as connection:
            facts = read_facts(connection)
        if permission is None or not permission.memory:
            raise missing(facts, where=str(address))
        check(permission, facts, where=str(address.config))
        self.prepared = Prepared(facts, permission)
        self.dry_run = None if dry_run is None else DryRun(permission, dry_run)

    @property
    def name(self) -> str:
        """The name of the target in test ids."""
        return f"target:{self.prepared.facts.release}"

    @property
    def logs(self) -> Path:
        """The folder of the logs since the agent was last started."""
        return self._logs / f"target-{self._starts}"

    @property
    def rerun(self) -> str:
        """A command that tests the target again."""
        words = ["memtype", "run", "--target", self.address.url]
        words += ["--console", self.address.console] if self.address.console else []
        return shlex.join([*words, "--target-config", str(self.address.config)])

    def guest(self) -> Guest:
        """The target as a fresh guest; the agent is brought there if need be.

        :raises MemtypeError: the target can't be reached, or doesn't take the agent.
        """
        if self._agent is None or not self._agent.machine.alive:
            self._drop()
            self._begin()
        elif self._machine is not None:
            self._machine.begin_test()
            self._agent.call("reset")
        assert self._agent is not None
        assert self._greeting is not None
        memory = self.prepared.permission.memory[0]
        region = Region(memory.start, memory.size // PAGE_SIZE)
        taken = [each.region for each in self._listed]
        return Guest(self._agent, self._greeting, layout=_FIRMWARE, memory=region, taken=taken)

    def hand_back(self, guest: Guest) -> None:
        """Undo everything that a test has made, and check whether anything is left.

        Reservations that the kernel keeps by a fault of its own can't be undone: later tests get other
        memory, and :attr:`left` has them.

        :param guest: The guest that the test got.
        :raises GuestError: the verifier still counts a mapping.
        """
        if self.dry_run is not None or self._agent is None or not self._agent.machine.alive:
            return
        guest.reset()
        tracked = guest.tracked(observed=False)
        listed = self._reservations(guest)
        self.left += [each for each in listed if each not in self._listed]
        self._listed = listed
        if tracked:
            # Whatever the mapping is, it must not affect the next test.
            self._drop()
            raise GuestError(
                f"{self.address}: after the test's end the verifier still counted {_listing(tracked)}"
            )

    def close(self) -> None:
        """End the agent, and have it leave nothing on the target.

        :raises SshError: something is left there.
        """
        self._drop()

    def _connect(self) -> Connection:
        return Connection(self.address.ssh, identity=self._identity, host_key=self._host_key)

    def _drop(self) -> None:
        machine, self._machine, self._agent = self._machine, None, None
        if machine is not None:
            machine.close()

    def _begin(self) -> None:
        if self.dry_run is not None:
            self.dry_run.say(f"bring the agent and the module to {self.address}, and start the agent")
            self._agent = Agent(DryMachine(self._logs, self._hardware), stub=self.dry_run.answer)
            self._greeting = self.dry_run.greeting(self.prepared.facts)
            return
        self._progress(f"preparing {self.address}")
        permission = self.prepared.permission
        console = None
        connection = self._connect()
        try:
            made = halves(self._looked_at(connection), where=str(self.address), progress=self._progress)
            if self.address.console is not None:
                console = SerialConsole(self.address.console)
            _wait_until_free(connection, permission.lease)
            deployed = deploy_module(connection, made)
        except BaseException:
            connection.close()
            if console is not None:
                console.close()
            raise
        self._starts += 1
        self._machine = TargetMachine(
            connection,
            deployed,
            permission,
            console=console,
            hardware=self._hardware,
            logs=self.logs,
            rerun=self.rerun,
        )
        try:
            self._greet(self._machine, permission)
        except BaseException:
            with contextlib.suppress(SshError):
                self._drop()
            raise

    def _looked_at(self, connection: Connection) -> Facts:
        """The target's facts, once more: it may have been started again since the last time.

        :param connection: The connection to the target.
        :raises UsageError: the memory that tests may use is now something else there.
        :raises SshError: the target runs another kernel.
        """
        facts, before = read_facts(connection), self.prepared.facts
        if facts.release != before.release:
            raise SshError(
                f"{self.address}: it runs another kernel now, {facts.release}, and not {before.release} as "
                "at the start; run the tests again"
            )
        check(self.prepared.permission, facts, where=str(self.address.config))
        self.prepared = Prepared(facts, self.prepared.permission)
        return facts

    def _greet(self, machine: TargetMachine, permission: TargetConfig) -> None:
        agent = Agent(machine)
        try:
            self._greeting = agent.greet(timeout=GREETING)
        except ModuleNotLoaded as error:
            raise refusal(machine.connection, error) from None
        allowed = self._greeting.decode(lambda content: plain(content["allowed"]))
        if allowed != permission.allowed:
            raise BootError(f"{self.address}: the agent allows {allowed}, and not {permission.allowed}")
        agent.call("log")
        self._agent = agent
        self._listed = self._reservations(Guest(agent, self._greeting, layout=_FIRMWARE))

    def _reservations(self, guest: Guest) -> tuple[ListEntry, ...]:
        """The kernel's own list of reservations, of the memory that tests may use."""
        try:
            listed = guest.memtype_list()
        except GuestError as error:
            if not keeps_none(error):
                raise
            return ()
        return tuple(
            each
            for each in listed
            if any(
                each.region.start <= named.end and each.region.end > named.start
                for named in self.prepared.permission.memory
            )
        )

    @property
    def _hardware(self) -> Hardware:
        facts = self.prepared.facts
        return Hardware(
            cpu=f"target,phys-bits={facts.physical_bits}",
            memory=f"{facts.memory // MIB}M",
            cpus=min(facts.cpus, MOST_CPUS),
        )


def cannot(target: Target, *, kernel: str, layout: Layout, hardware: Hardware) -> Unavailable | None:
    """Say why a target can't be the guest that a test asks for; None when it can."""
    if kernel != target.name:
        return Unavailable(f"a target runs its own kernel, {target.prepared.facts.release}, and not {kernel}")
    if layout.default is not None or layout.ranges:
        return Unavailable(f"a target's MTRRs can't be set by a boot ROM, as layout {layout.name!r} wants")
    if hardware != Hardware():
        return Unavailable("a target is the hardware that it is, and this test wants other")
    return None


def _host_key(text: str) -> paramiko.PKey:
    try:
        content = read_file(Path(text), most=WRITTEN_BY_HAND)
    except UsageError as error:
        if " " in text:
            return keys.public_key(text, where="host-key=")
        raise UsageError(f"host-key={text}: it is no public key, and {error.message}") from None
    # Latin-1 has a character for every byte: any content that is no key gets that message.
    return keys.public_key(content.decode("latin-1").strip(), where=text)


def _wait_until_free(connection: Connection, lease: int) -> None:
    """Wait until nobody uses the module on a target; the agent replaces an unused one.

    An agent whose connection was cut undoes everything by itself, when its lease is over at the latest.
    """
    limit = int(lease + UNDOING)
    done = connection.run(
        f"i=0; while grep -q '^memtype [0-9]* [1-9]' /proc/modules && [ $i -lt {limit} ]; do "
        f"sleep 1; i=$((i+1)); done; [ $i -lt {limit} ]",
        timeout=limit + 30,
    )
    if done.status != 0:
        raise SshError(
            f"{connection.address}: the module memtype is loaded there, and has been for {limit} s: another "
            "run uses the machine, or one was killed; look for its agent, or unload it with rmmod memtype"
        )


def _listing(found: Sequence[object]) -> str:
    return ", ".join(map(str, found)) or "nothing"
