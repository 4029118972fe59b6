"""Forms of messages in a kernel's log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pytest_memtype.dumps.facts import Kind

HEX: Final = r"(?:0x)?[0-9a-f]{1,16}"
"""A regular expression of an address or a size."""

NUMBER_ENDS: Final = r"(?![0-9a-fx])"
"""A regular expression of the end of such a number, so that none is read in part."""


def form(kind: Kind, trigger: str, pattern: str, whole: str = "") -> Form:
    """The form of a message whose pattern is compiled without regard to case, with the fields of Form."""
    return Form(kind, trigger, re.compile(pattern, re.I), whole)


@dataclass(frozen=True)
class Form:
    """A form of a message.

    :param kind: What it is.
    :param trigger: Words in lower case without which a line can't be it.
    :param pattern: What it is made of; behind the trigger all may be missing, if the text was cut.
    :param whole: A group that only a message that isn't cut has; empty if none can be missing.
    """

    kind: Kind
    trigger: str
    pattern: re.Pattern[str]
    whole: str = ""
