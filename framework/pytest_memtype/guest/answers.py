"""What some questions to a guest are answered with."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memtype.x86.memtype import MemType


@dataclass(frozen=True)
class ShellResult:
    """What a shell command in the guest left.

    :param status: Its exit status; 128 and the signal's number when one killed it.
    :param output: Standard output and error, sanitised.
    """

    status: int
    output: str


@dataclass(frozen=True)
class TypeInUse:
    """The answer of ``lookup_pfn_memtype``.

    :param memtype: The type in use, or the default for that memory; None when the pages in use differ.
    :param errno: 0, or EBUSY when they differ, or EINVAL for a malformed range.
    :param in_use: Is any page mapped?
    """

    memtype: MemType | None
    errno: int
    in_use: bool
