"""Kernels: where they come from, and how they become bundles that guests boot from."""

from pytest_memtype.host.progress import Progress, shown, silent
from pytest_memtype.kernels.bundle import Bundle, bundle

__all__ = ["Bundle", "Progress", "bundle", "shown", "silent"]
