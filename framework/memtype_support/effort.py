"""How much a test tries: little while one works, all of it with ``MEMTYPE_TEST_EFFORT=long``."""

from __future__ import annotations

import os


def effort(*, quick: int, long: int) -> int:
    """One of the two numbers, by the environment."""
    return long if os.environ.get("MEMTYPE_TEST_EFFORT") == "long" else quick
