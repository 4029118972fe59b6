"""The IA32_PAT register: eight memory types that page-table entries choose from."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_memtype.x86.memtype import MemType

IA32_PAT = 0x277
"""Number of the register (Intel SDM vol. 4; AMD APM vol. 2 calls it PAT)."""

SLOTS = 8

RESET_PAT = 0x0007040600070406
"""Value after power-up: WB WT UC- UC, twice (Intel SDM vol. 3, "IA32_PAT MSR")."""

LINUX_PAT = 0x0407050600070106
"""Value Linux programs where the PAT has no errata: WB WC UC- UC WB WP UC- WT (``pat_bp_init``, 6.1)."""


def decode(value: int) -> tuple[MemType, ...]:
    """The eight memory types of a register value, slot 0 first.

    :param value: 64 bits.
    :raises ValueError: A slot holds a reserved encoding, or the value isn't 64 bits wide. Hardware
        answers such a write with #GP; TCG (QEMU 7.2) stores it.
    """
    if not 0 <= value < 1 << 64:
        raise ValueError(f"IA32_PAT value {value:#x} isn't a 64-bit register value")
    types = []
    for slot, encoding in enumerate(value.to_bytes(SLOTS, "little")):
        try:
            types.append(MemType(encoding))
        except ValueError:
            raise ValueError(
                f"IA32_PAT value {value:#018x}: slot {slot} holds the reserved encoding {encoding:#04x}"
            ) from None
    return tuple(types)


def encode(types: Sequence[MemType]) -> int:
    """The register value of eight memory types, slot 0 first.

    :param types: By slot.
    :raises ValueError: There aren't eight of them.
    """
    if len(types) != SLOTS:
        raise ValueError(f"IA32_PAT has {SLOTS} slots, not {len(types)}")
    return int.from_bytes(bytes(types), "little")


def possible_types(pat: int) -> frozenset[MemType]:
    """The memory types that some page-table entry can have under this register value.

    :param pat: The value of IA32_PAT.
    :raises ValueError: See :func:`decode`.
    """
    return frozenset(decode(pat))
