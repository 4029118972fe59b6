"""A distribution that is ready to boot, as a record of its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Distribution:
    """A distribution ready to boot with one kernel.

    :param name: The name as the user wrote it, "debian:bookworm".
    :param drives: Read-only disks: the image, and the kernel's modules.
    :param initramfs: The archive for QEMU's ``-initrd``; it mounts both disks.
    :param agent: The agent's program, to be deployed there.
    :param module: The module to be deployed there, None where there is none for the kernel.
    """

    name: str
    drives: tuple[Path, ...]
    initramfs: Path
    agent: Path
    module: Path | None
