"""What some questions to a guest, and system calls in it, are answered with."""

from __future__ import annotations

import errno
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


class SyscallAnswer(int):
    """The kernel's answer to a system call that gives nothing else: 0, or the errno as a positive number.

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


class SyscallRefused(OSError):
    """The kernel refused a system call that would have given something. It has what an answer has.

    :ivar errno: Positive.
    :ivar log: The kernel's messages while it worked, sanitised.
    """

    accepted = False
    rejected = True

    def __init__(self, number: int, what: str, log: tuple[str, ...] = ()) -> None:
        super().__init__(number, what)
        self.log = log
