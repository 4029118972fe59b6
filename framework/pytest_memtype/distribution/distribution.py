"""A distribution that is ready to boot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Distribution:
    """A distribution ready to boot with one kernel.

    :param name: As the user wrote it, "debian:bookworm".
    :param drives: Read-only disks: its image, and the kernel's modules.
    :param initramfs: For QEMU's ``-initrd``; it mounts both.
    :param agent: The program to deploy there.
    :param module: The module to deploy there, None where there is none for the kernel.
    """

    name: str
    drives: tuple[Path, ...]
    initramfs: Path
    agent: Path
    module: Path | None
