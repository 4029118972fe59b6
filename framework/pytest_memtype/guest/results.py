"""Answers to some questions to a guest, and to system calls in it."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from pytest_memtype.x86.memtype import MemType


@dataclass(frozen=True)
class ShellResult:
    """The result of a shell command in the guest.

    :param status: Its exit status; 128 and the signal's number when one killed it.
    :param output: Standard output and error, sanitised.
    """

    status: int
    output: str


@dataclass(frozen=True)
class TypeInUse:
    """The answer of ``lookup_pfn_memtype``.

    :param memtype: The type in use, or the default for that memory; None when the pages in use differ.
    :param errno: Positive: EBUSY when they differ, EINVAL for a malformed range; else 0.
    :param in_use: Is any page mapped?
    """

    memtype: MemType | None
    errno: int
    in_use: bool


@dataclass(frozen=True)
class IoctlAnswer:
    """The kernel's answer to an ``ioctl()``.

    :param errno: Positive, 0 when accepted.
    :param data: The memory that it got the address of, afterwards; empty when it got none.
    """

    errno: int
    data: bytes

    @property
    def accepted(self) -> bool:
        return not self.errno


class SyscallAnswer(int):
    """The kernel's answer to a system call that returns nothing else: 0, or the errno as a positive number.

    :ivar log: The kernel's messages while it worked, sanitised.
    """

    log: tuple[str, ...]

    def __new__(cls, number: int, log: tuple[str, ...] = ()) -> SyscallAnswer:
        answer = super().__new__(cls, number)
        answer.log = log
        return answer

    @property
    def errno(self) -> int:
        return int(self)

    @property
    def accepted(self) -> bool:
        return self == 0

    @property
    def rejected(self) -> bool:
        return self != 0

    def __str__(self) -> str:
        return "accepted" if self.accepted else errno.errorcode.get(self.errno, str(self.errno))

    __repr__ = __str__
