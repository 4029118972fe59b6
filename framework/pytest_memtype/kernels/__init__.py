"""Where a kernel comes from, and how it becomes a bundle a guest boots from."""

from pytest_memtype.kernels.bundle import Bundle, bundle
from pytest_memtype.progress import Progress, shown, silent

__all__ = ["Bundle", "Progress", "bundle", "shown", "silent"]
