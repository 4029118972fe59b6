"""Targets: machines that somebody owns, tested over SSH and left as they were."""

from typing import Final

QEMU: Final = "qemu"
"""Value of ``--target`` for guests that a run starts itself in QEMU."""
