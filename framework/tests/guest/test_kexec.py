"""A guest goes on in a kernel that is loaded anew, and what is from before says so."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from pytest_memtype import Guest, MemType
from pytest_memtype.errors import BootError, GuestPanicked, Unavailable, UsageError
from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.kexec import greeted_again
from pytest_memtype.machine.state import GuestState

pytestmark = [pytest.mark.needs_module, pytest.mark.needs_config("KEXEC_FILE")]

WC, UC_MINUS = MemType.WC, MemType.UC_MINUS


def test_what_is_from_before_is_refused(guest: Guest) -> None:
    """Names and handles are given again by the new kernel, so they would mean something else."""
    bar = guest.mmio(pages=4)
    drm, process = guest.driver("drm"), guest.process("X")
    mapping, theirs = drm.ioremap(bar, WC).mapping, process.mmap(bar, WC).mapping
    fault, batch = guest.kernel.count("ioremap"), guest.batch()
    batch.add(drm.ioremap, bar, WC)
    kernel, policy = guest.kernel, guest.policy
    policy.enforce = True
    assert mapping is not None
    assert theirs is not None

    guest.kexec()

    gone: list[Callable[[], object]] = [
        lambda: drm.ioremap(bar, WC),
        lambda: drm.release(mapping),
        lambda: process.read(theirs, 0),
        process.fork,
        process.exit,
        fault.disarm,
        batch.flush,
        lambda: kernel.direct(bar),
        lambda: guest.faults.fail("ioremap", task=process),
        lambda: setattr(policy, "enforce", False),
    ]
    for use in gone:
        with pytest.raises(UsageError, match=r"from before guest\.kexec\(\), and its kernel is gone"):
            use()
    new, other = guest.driver("drm"), guest.process("X")
    assert not guest.policy.enforce
    again, others = new.ioremap(bar, UC_MINUS).mapping, other.mmap(bar, UC_MINUS).mapping
    assert again is not None
    assert again != mapping
    registers = guest.registers()[0]
    for use in (
        lambda: new.release(mapping),
        lambda: new.page_table(mapping, registers),
        lambda: other.read(theirs, 0),
        lambda: other.munmap(theirs),
    ):
        with pytest.raises(UsageError, match="map it anew"):
            use()
    assert len(guest.tracked(bar)) == 2
    assert others is not None
    assert other.read(others, 0) is not None
    moved = other.mremap(others, move=True)
    other.munmap(moved)
    new.release(again)
    assert guest.tracked(bar) == ()


def test_the_guest_goes_on(guest: Guest, tmp_path: Path) -> None:
    """Numbers of requests, the mailbox, batches, files, modules, the journal, the log."""
    bar = guest.mmio(pages=1)
    guest.driver("drm").ioremap(bar, WC)
    assert guest.journal.live(bar)
    release, sequence = guest.release, guest._agent.sequence
    cmdline, booted = "cat /proc/cmdline", "cat /proc/sys/kernel/random/boot_id"
    before, boot = guest.shell(cmdline).output, guest.shell(booted).output

    guest.kexec()

    assert guest.shell(cmdline).output == before
    assert guest.shell(booted).output != boot
    assert guest.shell("uname -r").output.strip() == guest.release == release
    assert guest._agent.sequence > sequence
    assert guest.journal.live(bar) == []
    assert [each["result"] for each in guest.journal.entries if each["operation"] == "kexec"] == [0]
    assert any("Linux version" in line for line in guest.log)
    drm = guest.driver("drm")
    with guest.batch() as batch:
        mapped = batch.add(drm.ioremap, bar, UC_MINUS)
        batch.add(drm.release, mapped.mapping)
    assert mapped.result().granted is UC_MINUS
    file = tmp_path / "file"
    file.write_bytes(b"x" * 3_000_000)
    assert guest.get(guest.put(file)) == file.read_bytes()
    assert guest.aliases() == ()
    assert guest.others.unseen_aliases() == []
    assert guest.reports() == ()
    guest.reset()


def test_a_kernel_that_does_not_greet_in_time(guest: Guest) -> None:
    with pytest.raises(
        BootError, match=r"doesn't reach its agent: the guest gave no answer for 0\.01"
    ) as told:
        guest.kexec(timeout=0.01)
    assert f"kernel console: {guest.machine.logs / 'console.log'}" in told.value.details
    assert guest.machine.state is GuestState.HUNG


@pytest.mark.expect_oops("Unable to mount root fs")
def test_a_kernel_that_dies(guest: Guest, tmp_path: Path) -> None:
    """It has no initramfs, and nothing else that it could mount."""
    (tmp_path / "initrd").write_bytes(b"no archive")
    guest.machine.config = dataclasses.replace(guest.machine.config, initrd=tmp_path / "initrd")
    with pytest.raises(GuestPanicked, match="Unable to mount root fs"):
        guest.kexec()


def test_a_kernel_that_cannot(guest: Guest) -> None:
    """It says so before anything has changed."""
    bar = guest.mmio(pages=1)
    drm = guest.driver("drm")
    mapping = drm.ioremap(bar, WC).mapping
    with (
        guest.faults.fail("__x64_sys_kexec_file_load", returns=-errno.ENOSYS),
        pytest.raises(Unavailable, match="built without CONFIG_KEXEC_FILE"),
    ):
        guest.kexec()
    guest.shell("echo 1 > /proc/sys/kernel/kexec_load_disabled")
    with pytest.raises(Unavailable, match="kexec_load_disabled forbids it"):
        guest.kexec()
    assert mapping is not None
    drm.release(mapping)
    results = [each["result"] for each in guest.journal.entries if each["operation"] == "kexec"]
    assert results == [errno.ENOSYS, errno.EPERM]
    # They would keep 17 MB of its RAM.
    assert guest.shell("ls /tmp/memtype-kexec-*").status != 0


def test_faults_end_with_their_kernel(guest: Guest) -> None:
    """Nobody can disarm them any more, and nobody need."""
    with guest.kernel.count("ioremap"), guest.faults.fail("ioremap", after=9):
        guest.kexec()
    assert guest.driver("drm").ioremap(guest.mmio(pages=1), WC).accepted


@pytest.mark.parametrize("kind", [GuestPanicked, ZeroDivisionError])
def test_an_error_behind_a_kexec_stays_its_own(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def dies(agent: Agent, *, timeout: float) -> NoReturn:
        greeted_again(agent, timeout=timeout)
        raise kind("of the new kernel's")

    monkeypatch.setattr("pytest_memtype.guest.guest.greeted_again", dies)
    with pytest.raises(kind, match="of the new kernel's"), guest.faults.fail("ioremap"):
        guest.kexec()


def test_reports_of_a_boot_are_nobodys(guest: Guest) -> None:
    """Those before and after it are the test's."""
    before = "WARNING: CPU: 0 PID: 1 at mm/before.c:1 before+0x1/0x2"
    trace = ["Call Trace:", " <TASK>", " init+0x1/0x2", " </TASK>", "---[ end trace 0123456789abcdef ]---"]
    boot, after = before.replace("before", "boot"), before.replace("before", "after")

    def say(*lines: str) -> None:
        with (guest.machine.logs / "console.log").open("ab") as console:
            console.writelines(f"[    1.000000] {line}\n".encode() for line in lines)

    say(before, *trace)
    position = guest._said.size
    say("Linux version 6.1.0", boot, *trace)
    guest._said.leave_boot_out(position)
    say(after, *trace)
    assert [each.title for each in guest.reports()] == [
        f"WARNING in {where} at mm/{where}.c:1" for where in ("before", "after")
    ]
    guest.begin_test()
    assert guest.reports() == ()


def test_a_distribution_is_not_started_again(guest: Guest) -> None:
    guest.machine.config = dataclasses.replace(guest.machine.config, network=True)
    with pytest.raises(Unavailable, match="wants a guest of the agent alone"):
        guest.kexec()
