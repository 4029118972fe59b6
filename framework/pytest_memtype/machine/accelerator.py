"""What runs the guests of this host: KVM where it is faster than TCG, else TCG.

Hosts exist where ``/dev/kvm`` opens and SeaBIOS runs, yet the kernel's decompressor crawls for minutes, so
only booting a real kernel tells. It is done once for each boot of the host and each QEMU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pytest_memtype.errors import GuestError, GuestHung, HostError
from pytest_memtype.machine.command import Accelerator, Guest
from pytest_memtype.machine.folder import PrivateFolder
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.port import Port
from pytest_memtype.machine.qemu_versions import QEMU
from pytest_memtype.machine.timeouts import BOOT
from pytest_memtype.progress import Progress

Wanted = Literal["auto", "tcg", "kvm"]

KVM: Final = Path("/dev/kvm")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FILE = "accelerator.json"
_LOCK = "accelerator.lock"
# The most that another process can take: two milestones, two accelerators.
_LOCK_SECONDS = 4 * BOOT


@dataclass(frozen=True)
class Choice:
    """The accelerator of this host, and why.

    :param accelerator: ``tcg`` or ``kvm``.
    :param reason: One line for people.
    :param kvm_seconds: From the start of QEMU to the milestone that decided and that ``reason`` names;
        None if KVM wasn't tried, ended early, or was given up when it had taken longer than TCG.
    :param tcg_seconds: The same under TCG; None if nothing was tried.
    """

    accelerator: Accelerator
    reason: str
    kvm_seconds: float | None = None
    tcg_seconds: float | None = None


def choose(
    image: Path,
    initramfs: Path,
    wanted: Wanted = "auto",
    *,
    cache: Path,
    progress: Progress,
) -> Choice:
    """The accelerator for guests of this host.

    ``auto`` boots the kernel under TCG and, no longer than that took, under KVM. What came of it is kept in
    the cache folder; processes that ask at the same time try once.

    :param image: The kernel of a guest, a bzImage.
    :param initramfs: Its initramfs, with the agent.
    :param cache: An existing folder.
    :param progress: Called with one line at the start of what is slow.
    :raises HostError: KVM is wanted and can't be had, or QEMU isn't installed.
    """
    if wanted == "tcg":
        return Choice("tcg", "asked for")
    if wanted == "kvm":
        problem = kvm_problem()
        if problem is not None:
            raise HostError(
                f"--accel=kvm: {problem}; load the kernel's module kvm_intel or kvm_amd and join the group "
                f"that {KVM} belongs to, or use --accel=tcg"
            )
        return Choice("kvm", "asked for")
    return recall(cache) or _try_once(image, initramfs, cache=cache, progress=progress)


def recall(cache: Path) -> Choice | None:
    """What ``auto`` means here, as far as it is known: None if it has yet to be tried.

    :raises HostError: QEMU isn't installed.
    """
    problem = kvm_problem()
    if problem is not None:
        return Choice("tcg", problem)
    # Whatever is wrong with the file, trying again makes a better one.
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        content = json.loads((cache / _FILE).read_bytes())
        if content["host"] == _host():
            return _decode(content["choice"])
    return None


def kvm_problem() -> str | None:
    """Why ``/dev/kvm`` can't be opened; None if it can, which doesn't mean that it is any good."""
    try:
        os.close(os.open(KVM, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"{KVM} is not there"
    except PermissionError:
        return f"{KVM} is not open to this user"
    except OSError as error:
        return f"{KVM} can't be opened ({error.strerror})"
    return None


def _host() -> dict[str, Any]:
    """What a choice is good for. QEMU is known by its file, because asking it for its version starts it."""
    qemu = shutil.which(QEMU)
    if qemu is None:
        raise HostError(f"{QEMU} is not on this host; install the package qemu-system-x86")
    status = Path(qemu).stat()
    return {
        "boot_id": _BOOT_ID.read_text().strip(),
        "qemu": {"path": qemu, "size": status.st_size, "mtime_ns": status.st_mtime_ns},
    }


def _decode(content: dict[str, Any]) -> Choice:
    """:raises ValueError: it is not what :func:`_keep` wrote. TypeError means the same."""
    choice = Choice(**content)
    seconds = (choice.kvm_seconds, choice.tcg_seconds)
    if choice.accelerator not in ("tcg", "kvm") or not isinstance(choice.reason, str):
        raise ValueError(content)
    if not all(value is None or (isinstance(value, float) and value >= 0) for value in seconds):
        raise ValueError(content)
    return choice


def _try_once(image: Path, initramfs: Path, *, cache: Path, progress: Progress) -> Choice:
    # Slow to load, and a choice that was made before doesn't need it.
    from filelock import FileLock, Timeout

    try:
        with FileLock(cache / _LOCK, timeout=_LOCK_SECONDS):
            # Another process may have tried while this one waited.
            return recall(cache) or _try(image, initramfs, cache=cache, progress=progress)
    except Timeout:
        raise HostError(
            f"{cache / _LOCK}: another run has been trying KVM for {_LOCK_SECONDS:.0f} s; "
            "end it, or use --accel=tcg"
        ) from None


def _try(image: Path, initramfs: Path, *, cache: Path, progress: Progress) -> Choice:
    progress("timing a boot under TCG and under KVM")
    host = _host()
    folder = PrivateFolder()
    try:
        choice = race(functools.partial(_trial, image, initramfs, folder.path))
    except GuestError as error:
        # This is about the kernel, not about KVM: the test's own guest will show it, and keep its logs.
        return Choice("tcg", f"KVM was not tried, because the kernel doesn't boot under TCG: {error.message}")
    finally:
        folder.remove()
    _keep(choice, host=host, cache=cache)
    return choice


@dataclass(frozen=True)
class Milestone:
    """Something that a guest prints while it boots."""

    name: str
    port: Callable[[Machine], Port]
    text: bytes


#: A KVM that crawls never comes to the first. One that is slow at what the rest of a boot is made of (each
#: byte on a serial port leaves the guest several times) comes late to the second.
MILESTONES: Final = (
    Milestone("the kernel's first line", lambda machine: machine.console, b"Linux version"),
    Milestone("the agent's greeting", lambda machine: machine.agent_port, b"\n"),
)


def race(trial: Callable[[Accelerator, Milestone, float], float]) -> Choice:
    """KVM if it is first at every milestone, else TCG.

    :param trial: Boots a guest as far as a milestone, and returns the seconds it took. More than the number
        given raises ``GuestHung``, and another end of the guest another ``GuestError``.
    :raises GuestError: The guest doesn't boot under TCG.
    """
    for milestone in MILESTONES:
        # TCG first: its time is the deadline that keeps a KVM that crawls from taking minutes.
        tcg = trial("tcg", milestone, BOOT)
        came = f"{milestone.name} came after {tcg:.2f} s under TCG"
        try:
            kvm = trial("kvm", milestone, tcg)
        except GuestHung:
            return Choice("tcg", f"{came}, not as soon under KVM", tcg_seconds=tcg)
        except GuestError as error:
            return Choice("tcg", f"{came}; under KVM, {error.message}", tcg_seconds=tcg)
        reason = f"{came}, {kvm:.2f} s under KVM"
        if kvm >= tcg:
            return Choice("tcg", reason, kvm, tcg)
    return Choice("kvm", reason, kvm, tcg)


def _trial(
    image: Path, initramfs: Path, logs: Path, accelerator: Accelerator, milestone: Milestone, timeout: float
) -> float:
    start = time.monotonic()
    guest = Guest(kernel=image, initrd=initramfs, accelerator=accelerator)
    with Machine.start(guest, logs=logs, timeout=timeout) as machine:
        machine.resume()
        remaining = max(0.0, timeout - (time.monotonic() - start))
        milestone.port(machine).expect_exact(milestone.text, timeout=remaining)
        return time.monotonic() - start


def _keep(choice: Choice, *, host: dict[str, Any], cache: Path) -> None:
    # Whoever writes this holds the lock, so one name will do, and what a killed run left is written over.
    unfinished = cache / f"{_FILE}.partial"
    content = {"host": host, "choice": dataclasses.asdict(choice)}
    # A full disk costs the next run a trial, not this one its tests.
    with contextlib.suppress(OSError):
        unfinished.write_text(json.dumps(content, indent=2) + "\n")
        unfinished.replace(cache / _FILE)
