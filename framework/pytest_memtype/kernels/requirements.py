"""The configuration that a kernel needs to be a guest."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_memtype.errors import KernelError

_NEEDED = {
    "X86_64": "the guest's programs are 64-bit",
    "BLK_DEV_INITRD": "its root file system is an initramfs",
    "DEVTMPFS": "it finds its devices there",
    "PROC_FS": "the agent reads it",
    "SYSFS": "the agent reads it",
    "PCI": "the test device is on it",
    "SERIAL_8250_CONSOLE": "the host talks to it on serial ports",
}
_NEEDED_FOR_A_MODULE = {"MODULES": "half of the agent is a module"}
_SETTING = re.compile(r"^CONFIG_(\w+)=(.*)$", re.MULTILINE)


def settings(config: str) -> dict[str, str]:
    """The settings of a ``.config`` file, without ``CONFIG_`` and quotes."""
    return {name: value.strip('"') for name, value in _SETTING.findall(config)}


def check(config: Path, *, what: str, module: bool) -> None:
    """Check that the configuration of a kernel lets it be a guest.

    :param config: The file of the kernel's configuration.
    :param what: The kernel, as the beginning of an error's message.
    :param module: Whether it has to load our module.
    :raises KernelError: the kernel lacks something, or would refuse the module.
    """
    try:
        given = settings(config.read_text(errors="replace"))
    except OSError as error:
        raise KernelError(f"{what}: its configuration can't be read: {error}") from None
    needed = _NEEDED | (_NEEDED_FOR_A_MODULE if module else {})
    # As a module it would come too late: the guest loads none but ours.
    missing = [name for name in needed if given.get(name) != "y"]
    if missing:
        listed = ", ".join(f"CONFIG_{name}=y ({needed[name]})" for name in missing)
        raise KernelError(f"{what}: its configuration lacks {listed}; build it with that")
    if module and given.get("MODULE_SIG_FORCE") == "y":
        raise KernelError(
            f"{what}: CONFIG_MODULE_SIG_FORCE=y makes it refuse the guest's module; build it without"
        )
