"""The memory types that PAT entries and MTRRs are made of."""

from __future__ import annotations

import enum


class MemType(enum.IntEnum):
    """A memory type; its value is the architectural encoding.

    MTRRs and PAT share the encodings, but UC- exists in the PAT only; 2, 3 and
    everything above 7 are reserved (Intel SDM vol. 3, "Memory Types That Can Be
    Encoded With PAT"). ``str()`` gives the short name.
    """

    UC = 0
    WC = 1
    WT = 4
    WP = 5
    WB = 6
    UC_MINUS = 7

    @property
    def kernel_name(self) -> str:
        """The name that Linux prints (``cattr_name``, arch/x86/mm/pat/memtype.c, 6.1)."""
        return _KERNEL_NAMES[self]

    @property
    def short(self) -> str:
        """The manuals' abbreviation: ``UC``, ``WC``, ``WT``, ``WP``, ``WB`` or ``UC-``."""
        return "UC-" if self is MemType.UC_MINUS else self.name

    def __str__(self) -> str:
        return self.short


_KERNEL_NAMES = {
    MemType.UC: "uncached",
    MemType.WC: "write-combining",
    MemType.WT: "write-through",
    MemType.WP: "write-protected",
    MemType.WB: "write-back",
    MemType.UC_MINUS: "uncached-minus",
}

_BY_NAME = {
    name.casefold(): memtype
    for memtype in MemType
    for name in (memtype.name, memtype.short, memtype.kernel_name)
}
# The words of /proc/mtrr (mtrr_attrib_to_str(), arch/x86/kernel/cpu/mtrr/mtrr.c, 6.1), and of the manuals.
_BY_NAME |= {"uncachable": MemType.UC, "uncacheable": MemType.UC, "write-protect": MemType.WP}


def parse_memtype(text: str) -> MemType:
    """The memory type called ``text``: a kernel name, a short name or an enum name, in any case.

    A kernel has two: PAT's ``uncached`` is ``uncachable`` in ``/proc/mtrr``.

    :param text: Spaces around it don't count.
    :raises ValueError: The name is unknown; the message lists the known ones.
    """
    try:
        return _BY_NAME[text.strip().casefold()]
    except KeyError:
        known = ", ".join(f"{memtype} ({memtype.kernel_name})" for memtype in MemType)
        raise ValueError(f"unknown memory type {text!r}; known are {known}") from None
