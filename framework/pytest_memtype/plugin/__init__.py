"""The pytest plugin. What pytest registers of it is listed here, and each file's hooks stand in that file."""

from __future__ import annotations

from typing import Any

pytest_plugins = [
    "pytest_memtype.plugin.options",
    "pytest_memtype.plugin.fixtures",
    "pytest_memtype.plugin.hooks",
    "pytest_memtype.plugin.bugs",
    "pytest_memtype.plugin.keeper",
    "pytest_memtype.plugin.cluster",
]


def __getattr__(name: str) -> Any:
    # Where tests import it from. Not before it is asked for: pytest is to rewrite its asserts first.
    if name == "GuestFactory":
        from pytest_memtype.plugin.fixtures import GuestFactory

        return GuestFactory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
