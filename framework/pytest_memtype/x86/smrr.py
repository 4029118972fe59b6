"""The system-management range register (SMRR): who may see the memory of system-management mode.

Intel SDM vol. 3, "System-Management Range Register Interface".
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType

SMRR_PHYSBASE = 0x1F2
"""It and its mask, 0x1F3, may be written in system-management mode only."""

_VALID = 1 << 11
_ADDRESS_FIELD = 0xFFFFF000


@shown_in_hexadecimal("physbase", "physmask")
@dataclass(frozen=True)
class Smrr:
    """The pair of registers as read from one CPU.

    While it is valid it wins over all MTRRs, whether these are enabled or not. In system-management mode its
    memory has :attr:`memtype`; outside it is UC, writes are dropped and reads return a fixed value.

    :param physbase: MSR 0x1F2: the type in bits 7:0, the base in 31:12.
    :param physmask: MSR 0x1F3: the mask in bits 31:12, V is bit 11.
    :raises ValueError: The type is reserved.
    """

    physbase: int
    physmask: int

    def __post_init__(self) -> None:
        encoding = self.physbase & 0xFF
        if encoding not in set(MemType) - {MemType.UC_MINUS}:
            raise ValueError(f"SMRR {SMRR_PHYSBASE:#x} holds the reserved memory type {encoding:#04x}")

    @property
    def valid(self) -> bool:
        return bool(self.physmask & _VALID)

    @property
    def memtype(self) -> MemType:
        """The type in system-management mode."""
        return MemType(self.physbase & 0xFF)

    @property
    def base(self) -> int:
        """The first address of its range, where the mask has no holes."""
        return self.physbase & _ADDRESS_FIELD

    @property
    def mask(self) -> int:
        """The address bits that its range has in common with the base."""
        return self.physmask & _ADDRESS_FIELD

    def covers(self, address: int) -> bool:
        """Whether it is valid and an address is in its range.

        The registers know 32 bits of address, and the range lies below 4 GiB.
        """
        return self.valid and address < 1 << 32 and address & self.mask == self.base & self.mask
