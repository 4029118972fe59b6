"""Where a kernel comes from, and how it becomes a bundle a guest boots from."""

from pytest_memtype.host.progress import Progress, shown, silent
from pytest_memtype.kernels.bundle import Bundle, bundle

__all__ = ["Bundle", "Progress", "bundle", "shown", "silent"]
