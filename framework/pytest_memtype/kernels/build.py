"""The build of the guest's module, agent and initramfs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from pytest_memtype.errors import HostError, KernelError
from pytest_memtype.host.program import run_to_end
from pytest_memtype.kernels import initramfs, sandbox

# Other files of a checkout, such as the products of a build by hand, are neither copied nor hashed.
_SOURCE_PATTERNS = ("Kbuild", "Makefile", "*.c", "*.h", "*.S", "*.list")
# The verifier's build for user space isn't for guests, and another guest's recipe isn't built here.
_NOT_FOR_GUESTS = ("verifier_host", "debian")
_LIST = Path("initramfs") / "initramfs.list"
_MODULE = "memtype.ko"
#: The files of a bundle that are deployed to other machines than the minimal guest.
AGENT = "agent"
#: The file of a bundle that QEMU is started by.
LAUNCHER = "launcher.so"
STRIPPED_MODULE = "memtype-stripped.ko"
_LIMIT_SECONDS = 600
_DETAIL_LINES = 20

# The compiler comes with linux-headers, from gcc-14 on under its long name alone.
_MODULE_SCRIPT = """
make -s -j{jobs} -C /usr/src/linux-headers-{release} M=/src/guests/module KCFLAGS=-Werror modules
"""
# Debug information would make the module ten times larger in the guest's memory.
_AGENT_SCRIPT = """
compiler=$(cd /usr/bin && echo x86_64-linux-gnu-gcc-[0-9]*)
make -s -j{jobs} -C /src/guests/agent CC="$compiler" agent
make -s -C /src/guests/launcher CC="$compiler" launcher.so
[ ! -e /src/guests/module/memtype.ko ] || strip --strip-debug -o /src/memtype.ko /src/guests/module/memtype.ko
cp /src/guests/agent/agent "$(command -v busybox)" /src
"""


def source_files(sources: Path) -> Iterator[Path]:
    """The files under ``guests/`` that a build reads, in a fixed order."""
    paths = []
    # Each run looks several times for each kernel, and Path.rglob() takes five times as long.
    for folder, folders, names in os.walk(sources):
        if Path(folder) == sources:
            folders[:] = [name for name in folders if name not in _NOT_FOR_GUESTS]
        paths += [Path(folder, name) for name in names if _is_source(name)]
    return iter(sorted(path for path in paths if path.is_file()))


def _is_source(name: str) -> bool:
    # kbuild's own products: memtype.mod.c.
    return not name.endswith(".mod.c") and any(fnmatchcase(name, pattern) for pattern in _SOURCE_PATTERNS)


def copy_sources(sources: Path, work: Path) -> None:
    """Copy ``guests/`` into the folder to build in."""
    for path in source_files(sources):
        copy = work / "guests" / path.relative_to(sources)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def build_module_on_host(build: Path, *, compiler: tuple[str, ...], work: Path, what: str) -> None:
    """Build the module in ``work`` for a kernel that was built on this host.

    :param build: The folder that the kernel was built in. Nothing in it is changed.
    :param compiler: Arguments of make that name the compiler, such as ``CC=gcc-12``.
    :param work: The folder to build in, filled by :func:`copy_sources`.
    :param what: The kernel, as the beginning of an error's message.
    :raises KernelError: the build failed; the compiler's last lines are in its details.
    :raises HostError: this host has no make.
    """
    module = work / "guests" / "module"
    command = ["make", "-s", f"-j{_jobs()}", "-C", str(build), f"M={module}", "KCFLAGS=-Werror", *compiler]
    try:
        done = _run([*command, "modules"], limit=_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        raise KernelError(f"{what}: the build was not done in {_LIMIT_SECONDS} s") from None
    if done.returncode != 0:
        raise _broken(what, done.stdout)


def build_out_of_tree(
    build: Path, *, compiler: tuple[str, ...], module: Path, flags: str, limit: int
) -> tuple[int, str]:
    """Build a user's module for a kernel that was built on this host; beside each it leaves ``.stripped``.

    :param build: The folder that the kernel was built in. Nothing in it is changed.
    :param compiler: Arguments of make that name the compiler, such as ``CC=gcc-12``.
    :param module: The folder of the module, which is built in.
    :param flags: Further flags of the compiler.
    :param limit: Seconds that the build may take.
    :raises KernelError: it takes longer.
    :raises HostError: this host has no make, or no strip.
    :returns: make's exit status, and all that was printed.
    """
    command = ["make", "-s", f"-j{_jobs()}", "-C", str(build), f"M={module}", f"KCFLAGS={flags}", *compiler]
    try:
        done = _run([*command, "modules"], limit=limit)
        for file in module.rglob("*.ko") if done.returncode == 0 else ():
            done = _run(["strip", "--strip-debug", "-o", f"{file}.stripped", str(file)], limit=limit)
    except subprocess.TimeoutExpired:
        raise KernelError(f"{module.name}: the build was not done in {limit} s") from None
    return done.returncode, done.stdout


def build(kit: Path, *, release: str | None, sources: Path, work: Path, target: Path, what: str) -> None:
    """Build the guest's module, its agent, its initramfs and QEMU's launcher into ``target``.

    The files are ``memtype.ko`` (with debug information), the same without, the agent, ``initramfs.cpio`` and
    ``launcher.so``. Warnings of the compiler are errors.

    :param kit: Root folder with the compiler, and with the kernel's headers if the module is built in it.
    :param release: The kernel's release, as ``uname -r`` prints it. None when the module is in ``work``
        already, or can't be built: then neither the initramfs nor ``target`` has it.
    :param sources: The folder that holds ``module/``, ``agent/``, ``launcher/`` and
        ``initramfs/initramfs.list``.
    :param work: The folder to build in, filled by :func:`copy_sources`.
    :param target: An existing folder that takes the files.
    :param what: The kernel, as the beginning of an error's message.
    :raises KernelError: the build failed; the compiler's last lines are in its details.
    :raises HostError: the host has no way to build inside the kit.
    """
    script = "set -eu" + ("" if release is None else _MODULE_SCRIPT) + _AGENT_SCRIPT
    script = script.format(release=release, jobs=_jobs())
    done = sandbox.run(kit, source=work, script=script, limit=_LIMIT_SECONDS)
    if done.status != 0:
        raise _broken(what, done.output)
    module = work / "guests" / "module" / _MODULE
    shutil.copy(work / "agent", target / AGENT)
    shutil.copyfile(work / "guests" / "launcher" / LAUNCHER, target / LAUNCHER)
    if module.exists():
        shutil.copyfile(module, target / _MODULE)
        shutil.copyfile(work / _MODULE, target / STRIPPED_MODULE)
    listing = sources / _LIST
    files = {name: work / name for name in ("agent", "busybox", _MODULE)}
    left_out = frozenset() if module.exists() else frozenset((_MODULE,))
    entries = initramfs.read_list(listing.read_text(), files=files, where=str(listing), left_out=left_out)
    initramfs.write(target / "initramfs.cpio", entries)


def _run(command: list[str], *, limit: int) -> subprocess.CompletedProcess[str]:
    """Run a program of this host's.

    :param command: The program and its arguments.
    :param limit: Seconds that it may take.
    :raises subprocess.TimeoutExpired: it takes longer.
    :raises HostError: it isn't installed.
    """
    try:
        return run_to_end(command, timeout=limit)
    except FileNotFoundError:
        raise HostError(
            f"{command[0]}: not installed; install the packages make and binutils, which build modules for a "
            "kernel of this host's"
        ) from None


def _jobs() -> int:
    return os.cpu_count() or 1


def _broken(what: str, output: str) -> KernelError:
    return KernelError(
        f"{what}: the guest's module or agent doesn't build; the compiler's last lines follow",
        details=tuple(output.splitlines()[-_DETAIL_LINES:]),
    )
