"""The command ``memtype doctor``."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import click
from rich.table import Table
from rich.text import Text

from pytest_memtype.commands.output import stdout
from pytest_memtype.errors import GuestError, HostError
from pytest_memtype.host import resources
from pytest_memtype.host.memory import available_memory
from pytest_memtype.kernels.mmdebstrap import namespace_problem
from pytest_memtype.kernels.offline import readiness
from pytest_memtype.kernels.sandbox import bwrap_problem
from pytest_memtype.kernels.sources import debian_keyring
from pytest_memtype.machine import template_store
from pytest_memtype.machine.accelerator import recall
from pytest_memtype.machine.qemu_versions import QEMU, TESTED, Qemu, tested_versions
from pytest_memtype.machine.vcpu_registers import trial_guest, usable_qemu


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of the table.")
def doctor(as_json: bool) -> None:
    """Tell what this host can do, what it can't, and what to do about it.

    Ends with status 3 when guests can't run here.

    \b
    Examples:
      memtype doctor
      memtype doctor --json | jq '.checks[] | select(.ok | not)'
    """
    found = checks()
    well = all(check.ok for check in found if check.needed)
    if as_json:
        click.echo(json.dumps({"ok": well, "checks": [dataclasses.asdict(check) for check in found]}))
        sys.exit(0 if well else HostError.exit_status)
    table = Table(box=None, header_style="bold")
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for check in found:
        mark = "[green]ok[/]" if check.ok else "[red]no[/]" if check.needed else "[yellow]part[/]"
        table.add_row(mark, check.name, Text(check.found), Text(check.advice))
    stdout().print(table)
    if not well:
        sys.exit(HostError.exit_status)


_VERSION_SECONDS = 30
_PYTHON = (3, 11)
# The kits and bundles of a few kernels.
_DISK_BYTES = 2 << 30
# The default guest's RAM, QEMU and the page cache of its image, for two workers.
_MEMORY_BYTES = 2 << 30


@dataclass(frozen=True)
class Check:
    """A check of something that pytest-memtype needs of the host.

    :param name: The thing that was checked.
    :param ok: Is it as it should be?
    :param found: What was found, in words.
    :param advice: What to do; empty when nothing need be done.
    :param needed: Is it so needed that guests can't run without it?
    """

    name: str
    ok: bool
    found: str
    advice: str = ""
    needed: bool = True


def checks() -> list[Check]:
    """Check everything that pytest-memtype needs of the host. Changes nothing but the cache folder."""
    # A QEMU that hangs is given up after half a minute, and is therefore tried once.
    remarks: list[str] = []
    qemu = _usable(remarks)
    inspect: tuple[Callable[[], Check], ...] = (
        _python,
        lambda: _qemu(qemu, remarks),
        lambda: _outside(qemu),
        _mmdebstrap,
        _bubblewrap,
        _namespaces,
        _keyring,
        _cache,
        _offline,
        _memory,
        _cores,
        _accelerator,
    )
    return [look() for look in inspect]


def _python() -> Check:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro} ({sys.executable})"
    ok = sys.version_info >= _PYTHON
    return Check("Python", ok, found, "" if ok else "use Python 3.11 or newer")


def _usable(remarks: list[str]) -> Qemu | HostError:
    try:
        # This starts a guest without a kernel, saves it and reads its registers.
        return usable_qemu(progress=remarks.append)
    except HostError as error:
        return error


def _qemu(qemu: Qemu | HostError, remarks: list[str]) -> Check:
    advice = "install the package qemu-system-x86"
    if shutil.which(QEMU) is None:
        return Check("QEMU", False, f"{QEMU} is not on the PATH", advice)
    if isinstance(qemu, HostError):
        return Check("QEMU", False, qemu.message, f"{advice} again")
    found = f"{qemu.banner} ({qemu.program})"
    if qemu.newer_than_tested:
        advice = (
            "if a run fails here and not with a tested version, report it; docs/hosts.md has what was seen"
        )
        found = f"{found}; newer than those tested ({tested_versions()})"
        return Check("QEMU", True, found, "; ".join((*remarks, advice)))
    tested = "tested" if qemu.version[:2] in TESTED else f"between those tested ({tested_versions()})"
    return Check("QEMU", True, f"{found}; {tested}", "; ".join(remarks))


def _outside(qemu: Qemu | HostError) -> Check:
    """Check whether a guest's memory can be read, without which nothing is audited."""
    name = "guest's memory"
    if isinstance(qemu, HostError):
        return Check(name, False, "not looked at: there is no QEMU that can be used", "see QEMU above")
    try:
        with trial_guest() as machine:
            machine.memory.read(0, 16)
    except HostError as error:
        # Runs go on without the audit, and say so.
        advice = "allow it: without it no page tables are read from outside, and tests are not audited"
        return Check(name, False, error.message, advice, needed=False)
    except GuestError as error:
        return Check(name, False, str(error).partition("\n")[0], "see QEMU above")
    return Check(name, True, "read from outside")


def _mmdebstrap() -> Check:
    return _program("mmdebstrap", "mmdebstrap", package="mmdebstrap")


def _program(name: str, program: str, *, package: str) -> Check:
    advice = f"install the package {package}"
    path = shutil.which(program)
    if path is None:
        return Check(name, False, f"{program} is not on the PATH", advice)
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Check(name, False, f"{path}: {error}", f"{advice} again")
    return Check(name, True, f"{done.stdout.partition(chr(10))[0].strip()} ({path})")


def _bubblewrap() -> Check:
    problem = bwrap_problem()
    if problem is None:
        return Check("bubblewrap", True, "bwrap ran a command in a sandbox")
    if os.geteuid() == 0:
        return Check("bubblewrap", True, f"{problem}; building by chroot instead")
    advice = "install the package bubblewrap and allow unprivileged user namespaces, or run as root"
    return Check("bubblewrap", False, problem, advice)


def _namespaces() -> Check:
    """Check user namespaces, which only the images of distributions need: other guests run without."""
    if os.geteuid() == 0:
        return Check("Debian images", True, "built as root")
    problem = namespace_problem()
    if problem is None:
        return Check("Debian images", True, "built in a user namespace")
    found = "can't be built, which only --guest debian:... takes"
    return Check("Debian images", False, found, problem, needed=False)


def _keyring() -> Check:
    path = debian_keyring()
    if path is not None:
        return Check("Debian keyring", True, str(path))
    return Check("Debian keyring", False, "not found", "install the package debian-archive-keyring")


def _cache() -> Check:
    try:
        path = resources.cache_directory()
    except HostError as error:
        return Check("cache folder", False, error.message, "set MEMTYPE_CACHE to a folder you may write to")
    free = shutil.disk_usage(path).free
    ok = free >= _DISK_BYTES
    advice = "" if ok else "free 2 GiB, or set MEMTYPE_CACHE to a folder on another disk"
    room = template_store.room(path / "templates")
    if ok and room < template_store.SUITE:
        advice = (
            f"free some: with less than {_gib(template_store.SUITE)} for them a run of the suite boots "
            "templates anew each time"
        )
    return Check("cache folder", ok, f"{path}, {_gib(free)} free, {_gib(room)} for templates", advice)


def _offline() -> Check:
    """Check whether a run would find all it needs without a network. No fault while there is one."""
    try:
        state = readiness(resources.cache_directory())
    except HostError:  # Told by the check of the cache folder.
        return Check("without a network", False, "no cache folder", needed=False)
    advice = "" if state.ready else "run memtype kernels fetch set:default while there is one"
    return Check("without a network", state.ready, state.line(), advice, needed=False)


def _memory() -> Check:
    available = available_memory()
    ok = available >= _MEMORY_BYTES
    advice = "" if ok else "end other programs, or run fewer workers (-n 1)"
    return Check("memory", ok, f"{_gib(available)} available", advice)


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _cores() -> Check:
    return Check("cores", True, f"{len(os.sched_getaffinity(0))}, one worker for each")


def _accelerator() -> Check:
    """Tell the accelerator of guests. Guests run with either, so this check never fails."""
    try:
        choice = recall(resources.cache_directory())
    except HostError:  # Told by the check of the cache folder.
        choice = None
    if choice is None:
        return Check("accelerator", True, "not tried yet; the first run times a boot under TCG and under KVM")
    return Check("accelerator", True, f"{choice.accelerator.upper()}: {choice.reason}")
