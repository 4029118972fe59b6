"""Which release of this package runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """Tell the package's version; ``none`` where it runs from a folder in which nobody has installed it."""
    try:
        return version("pytest-memtype")
    except PackageNotFoundError:
        return "none"
