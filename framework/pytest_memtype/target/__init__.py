"""A machine that somebody owns, as one to test on: reached over SSH, and left as it was."""

from typing import Final

QEMU: Final = "qemu"
"""The address of the guests that a run starts itself."""
