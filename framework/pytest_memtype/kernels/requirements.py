"""The options of a kernel's configuration: those that it needs to be a guest, and those that tests need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pytest_memtype.errors import KernelError

_NEEDED = {
    "X86_64": "the guest's programs are 64-bit",
    "BLK_DEV_INITRD": "its root file system is an initramfs",
    "DEVTMPFS": "it finds its devices there",
    "PROC_FS": "the agent reads it",
    "SYSFS": "the agent reads it",
    "PCI": "the test device is on it",
    "SERIAL_8250_CONSOLE": "the host talks to it on serial ports",
    "BINFMT_ELF": "the guest's programs are ELF files",
    "PRINTK": "the kernel's messages are a part of its answers",
    "FILE_LOCKING": "the agent locks a file, so that there is one of it",
    "NET": "the agent talks to processes through socket pairs",
    "UNIX": "the agent talks to processes through socket pairs",
}
_NEEDED_FOR_A_MODULE = {
    "MODULES": "half of the agent is a module",
    "STACKTRACE": "the module asks who maps, and doesn't build without",
}

#: What is lost without an option: tests that need it are skipped.
LOST: Final = {
    "X86_PAT": "memory types of pages, and their reservations",
    "MTRR": "/proc/mtrr, and what MTRRs have to say",
    "DEBUG_FS": "the kernel's own list of reservations, guest.memtype_list()",
    "DEVMEM": 'mappings through /dev/mem, via="devmem"',
    "STRICT_DEVMEM": "refusals of /dev/mem where there is RAM",
    "IO_STRICT_DEVMEM": "refusals of /dev/mem where a driver has claimed the memory",
    "KPROBES": "injected failures, guest.faults, and mappings of others, guest.observed()",
    "SMP": "guests with more than one CPU",
    "ACPI": "guests with more than one CPU: firmware lists them in its ACPI tables",
    "EFI": 'guests with UEFI firmware, firmware="ovmf"',
    "MTRR_SANITIZER": "mtrr_cleanup(), enable_mtrr_cleanup",
}
_SETTING = re.compile(r"^CONFIG_(\w+)=(.*)$", re.MULTILINE)


def settings(config: str) -> dict[str, str]:
    """The settings of a ``.config`` file, without ``CONFIG_`` and quotes."""
    return {name: value.strip('"') for name, value in _SETTING.findall(config)}


def read_settings(config: Path, *, what: str) -> dict[str, str]:
    """The settings of a kernel.

    :param config: The file of its configuration.
    :param what: The kernel, as the beginning of an error's message.
    :raises KernelError: it can't be read.
    """
    try:
        return settings(config.read_text(errors="replace"))
    except OSError as error:
        raise KernelError(f"{what}: its configuration can't be read: {error}") from None


def of_hardware(*, cpus: int, firmware: str) -> tuple[str, ...]:
    """The options that a kernel needs to run on some hardware.

    :param cpus: Number of CPUs.
    :param firmware: ``seabios`` or ``ovmf``.
    """
    return (*(("SMP", "ACPI") if cpus > 1 else ()), *(("EFI",) if firmware == "ovmf" else ()))


def lacking(options: Iterable[str], config: Path) -> list[str]:
    """The options that a configuration hasn't switched on, in their order.

    One that is a module counts as off: the guest loads none but ours.

    :param options: Names of options, without ``CONFIG_``.
    :param config: The file of the kernel's configuration.
    :raises KernelError: it can't be read.
    """
    given = read_settings(config, what="the kernel")
    return [name for name in options if given.get(name) != "y"]


def missing(given: Mapping[str, str], *, module: bool) -> dict[str, str]:
    """The options that a kernel lacks to be a guest, each with the reason why it is needed.

    :param given: Its :func:`settings`.
    :param module: Whether it has to load our module.
    """
    needed = _NEEDED | (_NEEDED_FOR_A_MODULE if module else {})
    # As a module it would come too late: the guest loads none but ours.
    return {name: why for name, why in needed.items() if given.get(name) != "y"}


def refuses_module(given: Mapping[str, str]) -> bool:
    """Would a kernel refuse the guest's module, which nobody has signed?

    :param given: Its :func:`settings`.
    """
    return given.get("MODULE_SIG_FORCE") == "y"


def check(config: Path, *, what: str, module: bool) -> None:
    """Check that the configuration of a kernel lets it be a guest.

    :param config: The file of the kernel's configuration.
    :param what: The kernel, as the beginning of an error's message.
    :param module: Whether it has to load our module.
    :raises KernelError: the kernel lacks something, or would refuse the module.
    """
    given = read_settings(config, what=what)
    lacks = missing(given, module=module)
    if lacks:
        listed = ", ".join(f"CONFIG_{name}=y ({why})" for name, why in lacks.items())
        raise KernelError(f"{what}: its configuration lacks {listed}; build it with that")
    if module and refuses_module(given):
        raise KernelError(
            f"{what}: CONFIG_MODULE_SIG_FORCE=y makes it refuse the guest's module; build it without"
        )
