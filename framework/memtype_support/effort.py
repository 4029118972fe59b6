"""How much a test tries: little while one works, all of it with ``MEMTYPE_TEST_EFFORT=long``."""

from __future__ import annotations

import os
from typing import TypeVar

_T = TypeVar("_T")


def effort(*, quick: _T, long: _T) -> _T:
    """One of the two values, by the environment."""
    return long if os.environ.get("MEMTYPE_TEST_EFFORT") == "long" else quick
