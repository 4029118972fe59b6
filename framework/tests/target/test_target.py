"""A machine that memtype knows nothing of, reached over SSH alone, and what is left on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import pytest
from memtype_support.hand_started import CONFIG, MEMORY, HandStarted, Wire, one_line
from memtype_support.target_facts import SAID

from pytest_memtype import MemType
from pytest_memtype.errors import (
    GuestExited,
    GuestHung,
    HeadersMissing,
    MemtypeError,
    NotAllowed,
    SshDiskFull,
    SshError,
    SshHostKeyChanged,
    SshKeyRefused,
    SshLost,
    SshRefused,
    Unavailable,
    UsageError,
)
from pytest_memtype.guest.guest import Guest
from pytest_memtype.host.progress import silent
from pytest_memtype.machine.state import GuestState
from pytest_memtype.ssh.connection import Address, Finished
from pytest_memtype.ssh.keys import key_of, new_private_key, public_line
from pytest_memtype.target import machine as target_machine
from pytest_memtype.target import target as target_target
from pytest_memtype.target.address import TargetAddress
from pytest_memtype.target.module import halves
from pytest_memtype.target.target import Target

# The image is built once, and the machine boots once.
pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("target")]

WC, UC_MINUS = MemType.WC, MemType.UC_MINUS
RAM = 0x4000000
OUTSIDE = MEMORY + (16 << 20)

Targets = Callable[..., Target]


@pytest.fixture
def wire(machine: HandStarted) -> Iterator[Wire]:
    made = Wire(machine.ssh_port)
    yield made
    made.close()


def use(guest: Guest) -> None:
    """Leave as much as a test can."""
    assert guest.driver("drm").ioremap(guest.mmio(pages=2), WC).accepted
    assert guest.process("P", uid=1000).mmap(guest.mmio(pages=2), WC).accepted
    assert guest.process("R").mtrr_add(MEMORY, 1 << 20, WC).accepted


def test_two_drivers_and_nothing_left(machine: HandStarted, target: Targets) -> None:
    made = target()
    guest = made.guest()
    bar = guest.mmio(pages=4)
    first = guest.driver("drm").ioremap(bar, WC)
    second = guest.driver("fbdev").ioremap(bar, UC_MINUS)
    assert first.accepted
    assert second.verdict.rule == "alias"
    assert second.granted is WC
    use(guest)
    assert len(guest.mtrr_list()) == 2
    # Else nothing could be left for the tests that look for it.
    seen = machine.left()
    for each in ("memtype ", "agent --port", "/memtype-", "write-combining"):
        assert each in seen
    made.hand_back(guest)
    # The next test has the machine as the first found it.
    guest = made.guest()
    assert (guest.tracked(observed=False), guest.memtype_list(bar), len(guest.mtrr_list())) == ((), (), 1)
    assert guest.driver("drm").ioremap(bar, UC_MINUS).accepted
    made.close()
    assert machine.left() == ""


@pytest.mark.parametrize("start", [RAM, OUTSIDE, OUTSIDE - 4096])
def test_the_machine_refuses_what_the_host_should_not_ask_for(target: Targets, start: int) -> None:
    guest = target().guest()
    before = guest.memtype_list()
    # Nothing of the framework stands between this and the agent.
    call = guest._agent.call
    fields = {"start": start, "pages": 2, "memtype": int(WC)}
    call("process", name="P", uid=0)
    verbs = ("ioremap", "memremap", "set_memory", "set_pages_array", "reserve_wc", "phys_wc_add", "zap")
    for verb in (*verbs, "memremap_pages", "vmap"):
        with pytest.raises(NotAllowed):
            call(verb, owner="X", **fields)
    own = (
        "driver",
        "insert_pfn",
        "insert_pfn_pmd",
        "insert_pfn_pud",
        "insert_mixed",
        "iomap_memory",
        "noncached_writecombine",
    )
    structs = ("insert_page", "insert_pages", "remap_vmalloc", "dma_coherent", "dma_wc")
    for via in (*own, *structs, "sysfs", "devmem"):
        with pytest.raises(NotAllowed):
            call("mmap", process="P", via=via, **fields)
    for verb, other in (("ram", {"pages": 1}), ("fuzz", {"seed": 1, "steps": 1}), ("mailbox", {})):
        with pytest.raises(NotAllowed):
            call(verb, **other)
    assert (guest.tracked(observed=False), guest.memtype_list()) == ((), before)


def test_what_a_target_is_not(target: Targets) -> None:
    guest = target().guest()
    for use_qemu in (
        lambda: guest.qmp,
        lambda: guest.registers_outside(),
        lambda: guest.audit(),
        # Nobody would bind its devices as they were, or bring its CPUs back.
        lambda: guest.pci("00:00.0"),
        lambda: guest.cpu(0),
    ):
        with pytest.raises(Unavailable, match="needs a guest of our own in QEMU"):
            use_qemu()


def test_of_two_errors_the_first_is_raised_and_tells_the_second(
    machine: HandStarted, target: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at the start, and one when it is undone."""

    def refuse(*_args: object, **_fields: object) -> None:
        raise GuestHung("the first")

    monkeypatch.setattr(target_machine, "agent_command", lambda *_: "exit 7")
    monkeypatch.setattr(target_machine, "Port", refuse)
    with pytest.raises(GuestHung, match=r"^the first") as caught:
        target().guest()
    assert "the agent ended with status 7" in str(caught.value)
    # It is the agent that would have removed what was brought there.
    machine.run("rm -r /run/memtype-*")


def test_a_batch_is_carried_out_one_by_one(target: Targets) -> None:
    guest = target().guest()
    bar, drm = guest.mmio(pages=2), guest.driver("drm")
    with guest.batch() as batch:
        first = batch.add(drm.ioremap, bar, WC)
        batch.add(drm.release, first.mapping)
    assert first.result().accepted
    assert guest.tracked(bar) == ()


def test_a_dry_run_does_nothing(machine: HandStarted, target: Targets) -> None:
    lines: list[str] = []
    guest = target(dry_run=lines.append).guest()
    outcome = guest.driver("drm").ioremap(guest.mmio(pages=2), WC)
    assert outcome.granted is WC
    with pytest.raises(NotAllowed):
        guest.ram(pages=1)
    assert f"ioremap start={MEMORY:#x} pages=2 memtype=WC owner=drm" in lines
    assert lines[-1] == "ram pages=1: refused"
    for refused in (
        lambda: guest.process("X").mmap(via="/dev/zero", size=4096),
        lambda: guest.driver("drm").memremap_pages(guest.region(1 << 32, 2 << 20), MemType.WB),
        lambda: guest.driver("drm").vmap(guest.region(1 << 32, 4096), MemType.WB),
        lambda: guest.process("X").ioctl("/proc/mtrr", 0, b""),
    ):
        with pytest.raises(NotAllowed):
            refused()
    assert machine.left() == ""


def test_a_file_that_names_ram(machine: HandStarted, target: Targets, config: Path) -> None:
    config.write_text(f'[[memory]]\naddress = {RAM:#x}\nsize = 4096\nwhat = "RAM"\n')
    with pytest.raises(UsageError, match="System RAM on the target"):
        target()
    assert machine.left() == ""


def test_no_file(machine: HandStarted, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing was done there") as raised:
        Target(machine.address(), logs=tmp_path, progress=silent)
    assert f"address = {MEMORY:#x}" in raised.value.details
    assert machine.left() == ""


def test_a_key_that_it_does_not_know(machine: HandStarted, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(new_private_key())
    address = machine.address()
    other = type(address)(address.ssh, identity=tmp_path / "key", host_key=address.host_key)
    with pytest.raises(SshKeyRefused, match="doesn't let the key SHA256:") as raised:
        Target(other, logs=tmp_path, progress=silent)
    one_line(raised.value)
    assert machine.left() == ""


def test_a_host_key_that_has_changed(machine: HandStarted, tmp_path: Path) -> None:
    address = machine.address()
    key = public_line(key_of(new_private_key()))
    other = type(address)(address.ssh, identity=address.identity, host_key=key)
    with pytest.raises(SshHostKeyChanged, match="somebody is in between") as raised:
        Target(other, logs=tmp_path, progress=silent)
    one_line(raised.value)
    assert machine.left() == ""


@pytest.mark.parametrize("how", ["cut", "silent"])
def test_the_connection_ends_in_the_middle(
    machine: HandStarted, wire: Wire, target: Targets, how: str
) -> None:
    # The wire comes first, to be closed last: a target that is closed needs it.
    made = target(port=wire.near)
    guest = made.guest()
    use(guest)
    machine.run("echo is there > /dev/console")

    def end() -> None:
        machine.run("until pgrep -x -f 'sleep 600' > /dev/null; do :; done")
        wire.cut() if how == "cut" else wire.silent.set()

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(SshLost, match="the connection was lost") as raised:
        guest.shell("sleep 600")
    ending.join()
    one_line(raised.value)
    assert not guest.host_machine.alive
    assert guest.host_machine.state is GuestState.EXITED
    details = "\n".join(raised.value.details)
    assert "last console lines:" in details
    assert "is there" in details
    assert "run it again: memtype run --target" in details
    # Its lease is 8 seconds, and what it does then takes as long as it takes.
    assert machine.left(within=60) == ""
    assert machine.run("pgrep -x sleep") == ""
    # The next test reaches it again.
    wire.silent.clear()
    assert made.guest().mmio(pages=1)


PARENT = "pgrep -o -f '^/.*/agent --port -'"
CHILD = f"pgrep -o -P $({PARENT})"


def test_an_agent_that_is_killed(machine: HandStarted, target: Targets) -> None:
    guest = target().guest()
    use(guest)
    machine.run(f"kill -9 $({CHILD})")
    with pytest.raises(GuestExited, match="the agent ended with status 0") as raised:
        guest.driver("drm").ioremap(guest.mmio(pages=1), WC)
    one_line(raised.value)
    assert machine.left() == ""


def test_an_agent_that_is_killed_with_the_one_who_would_undo_everything(
    machine: HandStarted, target: Targets
) -> None:
    made = target()
    guest = made.guest()
    assert guest.driver("drm").ioremap(guest.mmio(pages=2), WC).accepted
    machine.run(f"kill -9 $({PARENT})")
    with pytest.raises(GuestExited, match="the agent was killed"):
        guest.driver("drm").ioremap(guest.mmio(pages=1), WC)
    with pytest.raises(MemtypeError, match="the agent was killed; look there for") as raised:
        made.close()
    one_line(raised.value)
    machine.run("rm -r /run/memtype-*")
    # The module that was left, with its mapping, the next agent replaces.
    made = target()
    assert made.guest().tracked(observed=False) == ()
    made.close()
    assert machine.left() == ""


def test_a_full_disk(machine: HandStarted, target: Targets) -> None:
    machine.run("fallocate -l $(($(df --output=avail -B1 /run | tail -n 1) - 65536)) /run/filler")
    try:
        with pytest.raises(SshDiskFull, match="its disk is full") as raised:
            target().guest()
        one_line(raised.value)
        assert machine.left() == ""
    finally:
        machine.run("rm /run/filler")


def test_a_kernel_without_headers(target: Targets) -> None:
    facts = replace(target().prepared.facts, release="6.1.0-999-amd64")
    with pytest.raises(HeadersMissing, match=r"no module for its kernel 6\.1\.0-999-amd64") as raised:
        halves(facts, where="lab", progress=silent)
    one_line(raised.value)


def test_an_agent_that_is_not_even_started(
    machine: HandStarted, target: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(target_machine, "agent_command", interrupted)
    with pytest.raises(KeyboardInterrupt):
        target().guest()
    assert machine.left() == ""


class Answering:
    """A connection to a machine that nobody has, which says of itself what comes next.

    :cvar says: What it says in each connection to come, an error where there is none.
    """

    says: ClassVar[list[str | SshError]] = []

    def __init__(self, address: Address, **_: object) -> None:
        said = self.says.pop(0)
        if isinstance(said, SshError):
            raise said
        self.address, self.said, self.closed = address, said, False

    def run(self, _command: str, **_: object) -> Finished:
        return Finished(0, self.said)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Target:
    """A target that has said once what it is. Nothing is to be brought there."""

    def deploy_module(*_: object) -> None:
        raise AssertionError("something was brought there")

    monkeypatch.setattr(target_target, "Connection", Answering)
    monkeypatch.setattr(target_target, "halves", lambda *_, **__: None)
    monkeypatch.setattr(target_target, "deploy_module", deploy_module)
    monkeypatch.setattr(Answering, "says", [SAID])
    (tmp_path / "key").write_text(new_private_key())
    (tmp_path / "lab.toml").write_text(CONFIG)
    address = TargetAddress(
        Address("lab"),
        identity=tmp_path / "key",
        host_key=public_line(key_of(new_private_key())),
        console="socket://127.0.0.1:1",
        config=tmp_path / "lab.toml",
    )
    return Target(address, logs=tmp_path, progress=silent)


@pytest.mark.parametrize(
    ("before", "now", "kind", "why"),
    [
        ("fd", "fb", UsageError, "doesn't lie in the memory of one PCI device"),
        ("c0000000-febfffff : PCI", "c0000000-febfffff : System RAM #", UsageError, "is System RAM"),
        ("6.1.0-56", "6.1.0-57", SshError, "it runs another kernel now, 6.1.0-57-amd64"),
    ],
)
def test_a_machine_that_was_started_again_is_looked_at_again(
    answering: Target, before: str, now: str, kind: type[MemtypeError], why: str
) -> None:
    """Its firmware may have put the memory elsewhere."""
    Answering.says.append(SAID.replace(before, now))
    with pytest.raises(kind, match=why) as raised:
        answering.guest()
    one_line(raised.value)


def test_a_machine_that_is_gone_keeps_no_console_open(
    answering: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_consoles = []

    class Console:
        def __init__(self, where: str) -> None:
            open_consoles.append(where)

        def close(self) -> None:
            open_consoles.clear()

    monkeypatch.setattr(target_target, "SerialConsole", Console)
    Answering.says.append(SshRefused("nobody listens"))
    with pytest.raises(SshRefused):
        answering.guest()
    assert open_consoles == []
