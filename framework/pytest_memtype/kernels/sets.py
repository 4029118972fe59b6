"""Named sets of kernels: TOML files with a list of specs."""

from __future__ import annotations

import tomllib

from pytest_memtype import resources
from pytest_memtype.errors import UsageError


def kernel_set(name: str) -> tuple[str, ...]:
    """The specs of the set in ``kernels/NAME.toml``.

    :raises UsageError: there is no such set, or the file isn't one.
    """
    path = resources.kernel_sets() / f"{name}.toml"
    try:
        kernels = tomllib.loads(path.read_text(encoding="utf-8"))["kernels"]
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in resources.kernel_sets().glob("*.toml")))
        raise UsageError(f"no set of kernels is called {name!r}; known are {known}") from None
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path}: not a set of kernels: {error}") from None
    if not isinstance(kernels, list) or not kernels or not all(isinstance(each, str) for each in kernels):
        raise UsageError(f'{path}: kernels is a list of specs, such as ["debian:bookworm"]')
    return tuple(kernels)
