"""The choice of what runs the guests of this host: KVM where it is faster than TCG, else TCG.

Hosts exist where ``/dev/kvm`` opens and SeaBIOS runs, yet the kernel's decompressor crawls for minutes, so
only booting a real kernel tells. Other hosts have a KVM that is fast and answers otherwise than TCG, because
the hypervisor below it drops what is written to a register; only comparing tells. Both are done once for each
boot of the host, each QEMU, each set of parameters of KVM's modules, and each way this package starts KVM.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec

from pytest_memtype.errors import GuestError, GuestHung, HostError
from pytest_memtype.host.no_locks import locking
from pytest_memtype.host.private_folder import PrivateFolder
from pytest_memtype.host.progress import Progress, Remark
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.port import Port
from pytest_memtype.machine.qemu_command import Accelerator, QemuConfig, rerun_command
from pytest_memtype.machine.qemu_versions import QEMU, identity
from pytest_memtype.machine.timeouts import BOOT

#: The version of the comparison. Raise it when :mod:`pytest_memtype.run.qualification` changes.
PROGRAM: Final = 1

Wanted = Literal["auto", "tcg", "kvm"]

ACCELERATORS: Final[tuple[Wanted, ...]] = get_args(Wanted)
"""The values of ``--accel``."""

KVM: Final = Path("/dev/kvm")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MODULES = Path("/sys/module")
_KVM_MODULES = ("kvm", "kvm_amd", "kvm_intel")
_FILE = "accelerator.json"
_QUALIFICATION = "qualification.json"
_LOCK = "accelerator.lock"
# The most that another process can take: two milestones and a comparison, two accelerators.
_LOCK_SECONDS = 8 * BOOT

_Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The accelerator of this host, and why.

    :param accelerator: ``tcg`` or ``kvm``.
    :param reason: The reason for it, as one line of text.
    :param kvm_seconds: Seconds from the start of QEMU to the milestone that decided and that ``reason``
        names; None if KVM wasn't tried, ended early, or was given up when it had taken longer than TCG.
    :param tcg_seconds: Seconds to the same milestone under TCG; None if nothing was tried.
    """

    accelerator: Accelerator
    reason: str
    kvm_seconds: _Seconds | None = None
    tcg_seconds: _Seconds | None = None


class Qualification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The outcome of comparing KVM with TCG.

    :param records: How many records were compared.
    :param difference: The first record that differs, on one line with both values; None where all are the
        same.
    """

    records: int
    difference: str | None


class _Kept(msgspec.Struct, omit_defaults=True):
    """The content of a file: what is kept, and the host that it is valid for, see :func:`_host`."""

    host: dict[str, Any]
    choice: Choice | None = None
    qualification: Qualification | None = None


#: Compares KVM with TCG. Raises GuestError or HostError when a guest didn't finish, which may be temporary.
Qualify = Callable[[], Qualification]


def choose(
    image: Path,
    initramfs: Path,
    wanted: Wanted = "auto",
    *,
    cache: Path,
    progress: Progress,
    qualify: Qualify,
) -> Choice:
    """The accelerator for guests of this host.

    ``auto`` boots the kernel under TCG and, no longer than that took, under KVM; if KVM is faster, it is
    compared with TCG. The outcome is kept in the cache folder; processes that ask at the same time try
    once.

    :param image: The kernel of a guest, a bzImage.
    :param initramfs: Its initramfs, with the agent.
    :param wanted: ``auto`` tries KVM; ``tcg`` and ``kvm`` are taken as they are.
    :param cache: An existing folder.
    :param progress: Called with one line at the start of what is slow, and with what is wrong with KVM.
    :param qualify: Compares KVM with TCG; it knows what a guest is, which this room doesn't.
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
        return _asked_for(cache=cache, progress=progress, qualify=qualify)
    known = recall(cache)
    if known is not None:
        return known
    with _alone(cache):
        # Another process may have tried while this one waited.
        return recall(cache) or _try(image, initramfs, cache=cache, progress=progress, qualify=qualify)


def recall(cache: Path) -> Choice | None:
    """The choice that ``auto`` stands for here, as far as it is known; None if it has yet to be tried.

    :param cache: The folder that choices are kept in; it may not exist.
    :raises HostError: QEMU isn't installed.
    """
    problem = kvm_problem()
    if problem is not None:
        return Choice("tcg", problem)
    return _recall(cache / _FILE).choice


def kvm_problem() -> str | None:
    """The reason why ``/dev/kvm`` can't be opened; None if it can, however slow or wrong KVM is."""
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
    """The host that a kept choice is valid for: its boot, its QEMU, its KVM and how KVM is started."""
    qemu = shutil.which(QEMU)
    if qemu is None:
        raise HostError(f"{QEMU} is not on this host; install the package qemu-system-x86")
    command = rerun_command(QemuConfig(accelerator="kvm"))
    return {
        "boot_id": _BOOT_ID.read_text().strip(),
        "qemu": identity(qemu),
        # Another release of this package may start KVM otherwise, or compare something else.
        "program": PROGRAM,
        "command": hashlib.sha256(command.encode()).hexdigest(),
        "kvm": {module: parameters for module in _KVM_MODULES if (parameters := _parameters(module))},
    }


def _parameters(module: str) -> dict[str, str]:
    """The parameters that a module of the host's kernel was loaded with: "npt=N" makes another KVM of it."""
    found: dict[str, str] = {}
    folder = _MODULES / module / "parameters"
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        # Only root may read some of them.
        with contextlib.suppress(OSError):
            found[file.name] = file.read_text().strip()
    return found


def _recall(file: Path) -> _Kept:
    """The content of a file that was kept for this host; nothing in it if it is another's, or damaged.

    :param file: The file that :func:`_keep` wrote.
    :raises HostError: QEMU isn't installed.
    """
    # Whatever is wrong with the file, trying again makes a better one.
    with contextlib.suppress(OSError, ValueError, RecursionError):
        kept = msgspec.json.decode(file.read_bytes(), type=_Kept)
        if kept.host == _host():
            return kept
    return _Kept({})


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Hold the lock that lets one process at a time try KVM.

    :param cache: An existing folder, for the lock.
    :raises HostError: another process holds the lock for too long, or the file system has no locks.
    """
    # Slow to load, and a choice that was made before doesn't need it.
    from filelock import FileLock, Timeout

    lock = FileLock(cache / _LOCK)
    try:
        with locking(cache / _LOCK):
            lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout:
        raise HostError(
            f"{cache / _LOCK}: another run has been trying KVM for {_LOCK_SECONDS:.0f} s; "
            "end it, or use --accel=tcg"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _try(image: Path, initramfs: Path, *, cache: Path, progress: Progress, qualify: Qualify) -> Choice:
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
    if choice.accelerator == "kvm":
        try:
            choice = trusted(choice, _qualification(cache=cache, qualify=qualify))
        except (GuestError, HostError) as error:
            # About the kernel, too, or about this host at this moment.
            choice = Choice("tcg", f"KVM was not compared with TCG: {error.message}")
            progress(Remark(f"TCG it is: {choice.reason}"))
            return choice
        if choice.accelerator == "tcg":
            progress(Remark(f"TCG it is: {choice.reason}"))
    _keep(_Kept(host, choice=choice), cache / _FILE)
    return choice


def trusted(choice: Choice, qualification: Qualification) -> Choice:
    """KVM, which was faster, if its records are the same as TCG's; else TCG, and why."""
    if qualification.difference is None:
        same = f"{qualification.records} records are the same under both"
        return msgspec.structs.replace(choice, reason=f"{choice.reason}; {same}")
    reason = f"KVM is faster, but not to be trusted: {qualification.difference}"
    return msgspec.structs.replace(choice, accelerator="tcg", reason=reason)


def _asked_for(*, cache: Path, progress: Progress, qualify: Qualify) -> Choice:
    """KVM, which the user asked for, whatever comparing it gives; a difference is reported."""
    qualification = _recall_qualification(cache)
    try:
        if qualification is None:
            with _alone(cache):
                qualification = _qualification(cache=cache, qualify=qualify)
    except (GuestError, HostError) as error:
        progress(Remark(f"--accel=kvm: not compared with TCG: {error.message}"))
        return Choice("kvm", f"asked for; not compared with TCG: {error.message}")
    if qualification.difference is None:
        return Choice("kvm", "asked for")
    progress(Remark(f"--accel=kvm: not to be trusted: {qualification.difference}"))
    return Choice("kvm", f"asked for, though not to be trusted: {qualification.difference}")


def _qualification(*, cache: Path, qualify: Qualify) -> Qualification:
    """The outcome of comparing KVM with TCG, kept or made now. The caller holds :func:`_alone`.

    :param cache: The folder that the outcome is kept in.
    :param qualify: Compares KVM with TCG; called where no outcome is kept.
    :raises GuestError: the comparison didn't run to its end under one of them.
    :raises HostError: this host can't compare now.
    """
    known = _recall_qualification(cache)
    if known is not None:
        return known
    host = _host()
    found = qualify()
    keep_qualification(found, cache=cache, host=host)
    return found


def keep_qualification(found: Qualification, *, cache: Path, host: dict[str, Any] | None = None) -> None:
    """Keep the outcome of a comparison, so that the next process on this host doesn't compare again.

    :param found: The outcome.
    :param cache: The folder that it is kept in.
    :param host: The host it was found for, see :func:`_host`; None for this host as it is now.
    """
    _keep(_Kept(host or _host(), qualification=found), cache / _QUALIFICATION)


def _recall_qualification(cache: Path) -> Qualification | None:
    return _recall(cache / _QUALIFICATION).qualification


@dataclass(frozen=True)
class Milestone:
    """A text that a guest prints while it boots, and the port it prints it on."""

    name: str
    port: Callable[[Machine], Port]
    text: bytes


#: A KVM that crawls never reaches the first. A KVM that is slow at what the rest of a boot is made of (each
#: byte on a serial port leaves the guest several times) is late at the second.
MILESTONES: Final = (
    Milestone("the kernel's first line", lambda machine: machine.console, b"Linux version"),
    Milestone("the agent's greeting", lambda machine: machine.agent_port, b"\n"),
)


def race(trial: Callable[[Accelerator, Milestone, float], float]) -> Choice:
    """The accelerator that boots faster: KVM if it is first at every milestone, else TCG.

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
    guest = QemuConfig(kernel=image, initrd=initramfs, accelerator=accelerator)
    with Machine.start(guest, logs=logs, timeout=timeout) as machine:
        machine.resume()
        remaining = max(0.0, timeout - (time.monotonic() - start))
        milestone.port(machine).expect_exact(milestone.text, timeout=remaining)
        return time.monotonic() - start


def _keep(kept: _Kept, file: Path) -> None:
    # The writer holds the lock, so one name will do, and what a killed run left is written over.
    unfinished = file.with_name(f"{file.name}.partial")
    # A full disk costs the next run a trial, not this one its tests.
    with contextlib.suppress(OSError):
        unfinished.write_bytes(msgspec.json.encode(kept))
        unfinished.replace(file)
