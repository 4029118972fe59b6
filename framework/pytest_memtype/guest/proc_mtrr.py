"""The MTRRs as the guest's kernel lists them, ``/proc/mtrr``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pytest_memtype.guest.strict import error_number
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType

MTRR_NAMES = {
    "uncachable": MemType.UC,
    "write-combining": MemType.WC,
    "write-through": MemType.WT,
    "write-protect": MemType.WP,
    "write-back": MemType.WB,
}
"""Linux's names, arch/x86/kernel/cpu/mtrr/if.c, 5.10 to 7.3: other than its names of memory types."""

# mtrr_seq_show() of the same file. The megabytes in brackets say the base once more.
_LINE = re.compile(r"reg(\d+): base=0x([0-9a-f]+) \( *\d+MB\), size= *(\d+)([KM])B, count=(\d+): (\S+)")
_UNITS = {"K": 1 << 10, "M": 1 << 20}


@shown_in_hexadecimal("base", "size")
@dataclass(frozen=True)
class ProcMtrr:
    """A range of ``/proc/mtrr``, which is a variable MTRR in use.

    :param index: Number of the register, by which :meth:`Process.mtrr_delete` finds it.
    :param base: Address of the first byte.
    :param size: Bytes.
    :param memtype: The type that the MTRR gives the range.
    :param count: How often it was asked for.
    """

    index: int
    base: int
    size: int
    memtype: MemType
    count: int


@dataclass(frozen=True)
class MtrrAnswer:
    """The kernel's answer to a change of the MTRRs.

    :param errno: Positive, 0 when accepted.
    :param registers: The ranges of ``/proc/mtrr`` afterwards; None to a process that may not read it.
    :param log: The kernel's messages while it worked, sanitised.
    """

    errno: int
    registers: tuple[ProcMtrr, ...] | None
    log: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        return not self.errno

    @property
    def rejected(self) -> bool:
        return not self.accepted


def parse_proc_mtrr(text: str) -> tuple[ProcMtrr, ...]:
    """The ranges of ``/proc/mtrr``, by register.

    :param text: Content of the file.
    :raises ValueError: a line has another form than any kernel's so far.
    """
    return tuple(_range(line) for line in text.splitlines())


def decode_mtrr_answer(content: dict[str, Any], log: tuple[str, ...]) -> MtrrAnswer:
    """The answer to a change in a reply of the agent."""
    text = content["text"]
    registers = None if text is None else parse_proc_mtrr(text)
    return MtrrAnswer(errno=error_number(content["errno"]), registers=registers, log=log)


def _range(line: str) -> ProcMtrr:
    match = _LINE.fullmatch(line)
    if match is None or match[6] not in MTRR_NAMES:
        raise ValueError(f"/proc/mtrr has an unknown line: {line!r}")
    return ProcMtrr(
        index=int(match[1]),
        base=int(match[2], 16),
        size=int(match[3]) * _UNITS[match[4]],
        memtype=MTRR_NAMES[match[6]],
        count=int(match[5]),
    )
