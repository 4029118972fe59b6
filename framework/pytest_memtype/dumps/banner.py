"""The kernel's banner, "Linux version ...", and the form of a release in it and elsewhere."""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.text import Row

# Bounded, because a text may hold numbers of hundreds of digits; a kernel's second number is below 100.
NUMBER: Final = (
    r"(?P<release>(?P<major>[2-9])\.(?P<minor>\d{1,2})(?:\.(?P<patch>\d{1,3}))?(?:\.(?P<fourth>\d{1,3}))?"
    r"(?P<rest>(?:-rc\d{1,2})?[-+~]?[\w.+~:-]{0,60}))"
)
"""A regular expression of a release, with its numbers and its rest as groups."""

BANNER: Final = re.compile(rf"\bLinux version {NUMBER}")
"""The banner in a line of the log."""

#: Of a line without the log's prefix, which may be somebody's sentence: the compiler follows the version.
_BARE_BANNER: Final = re.compile(rf"\bLinux version {NUMBER} \(")


def banner(row: Row) -> re.Match[str] | None:
    """The banner in a line; None where there is none."""
    if "Linux version " not in row.message:
        return None
    return (BANNER if row.prefixed else _BARE_BANNER).search(row.message)
