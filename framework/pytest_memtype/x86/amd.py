"""AMD's registers beside the MTRRs: where RAM ends, and what type it has above 4 GiB.

AMD APM vol. 2 (24593), "Extended Fixed-Range MTRR Type-Field Encodings", "IORRs" and "Top-of-Memory
Registers", and the descriptions of SYSCFG, TOP_MEM and TOP_MEM2 in AMD's processor references. QEMU up
to 7.2 has none of these registers: they read as 0 there.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal

SYSCFG = 0xC0010010
TOP_MEM = 0xC001001A
TOP_MEM2 = 0xC001001D

FIX_DRAM_MODIFY = 1 << 19
"""MtrrFixDramModEn: RdMem and WrMem can be read and written; without it they read as 0."""
TOM2_ENABLE = 1 << 21
"""MtrrTom2En: TOP_MEM2 is in force."""
TOM2_FORCE_WB = 1 << 22
"""Tom2ForceMemTypeWB: what no MTRR covers is WB between 4 GiB and TOP_MEM2, whatever the default type."""

RD_WR_MEM = 0x18
"""RdMem (bit 4) and WrMem (bit 3) in each byte of a fixed-range MTRR."""

_4G = 1 << 32
# 8 MiB granules: Linux 6.1 masks with 0xffffff800000 (get_mtrr_state, arch/x86/kernel/cpu/mtrr/generic.c).
_TOP_FIELD = (1 << 52) - (8 << 20)


@shown_in_hexadecimal("syscfg", "top_mem", "top_mem2")
@dataclass(frozen=True)
class AmdMemory:
    """The three registers as read from one CPU."""

    syscfg: int
    top_mem: int
    top_mem2: int

    @property
    def fixed_dram_modify(self) -> bool:
        """Whether bytes of fixed-range MTRRs show RdMem and WrMem."""
        return bool(self.syscfg & FIX_DRAM_MODIFY)

    @property
    def top_above_4g(self) -> int:
        """Where RAM above 4 GiB ends; 4 GiB when TOP_MEM2 isn't in force or below that."""
        return max(self.top_mem2 & _TOP_FIELD, _4G) if self.syscfg & TOM2_ENABLE else _4G

    def forces_write_back(self, address: int) -> bool:
        """Whether WB takes the place of the default type (only while the MTRRs are enabled).

        MTRRs that cover the address, and the PAT, still override it.
        """
        return _4G <= address < self.top_above_4g and bool(self.syscfg & TOM2_FORCE_WB)
