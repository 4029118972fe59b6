"""The MTRRs of the boot CPU, as each firmware leaves them."""

from __future__ import annotations

from typing import Final

from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import SEABIOS, Layout
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrRange

_GIB: Final = 1 << 30
_UC = MemType.UC

# OvmfPkg/Library/PlatformInitLib/MemDetect.c, PlatformQemuInitializeRam(): all write-back, then UC from
# 640 KiB to 1 MiB.
_OVMF_FIXED: Final = (0x0606060606060606, 0x0606060606060606, *(0,) * 9)

_OVMF_MMCONFIG: Final = 0xB0000000


def firmware_layout(hardware: Hardware) -> Layout:
    """The layout that the guest's firmware sets, before any layout of a test."""
    return _ovmf(hardware) if hardware.firmware == "ovmf" else SEABIOS


def _ovmf(hardware: Hardware) -> Layout:
    """OVMF's layout: edk2 2022.11, PlatformQemuUc32BaseInitialization() and PlatformDynamicMmioWindow()."""
    # From 2 GiB on, or where RAM goes further from MMCONFIG on.
    if hardware.low_memory_bytes <= 2 * _GIB:
        low = [MtrrRange(2 * _GIB, 2 * _GIB, _UC)]
    else:
        # MtrrLib takes the larger first.
        low = [MtrrRange(3 * _GIB, _GIB, _UC), MtrrRange(_OVMF_MMCONFIG, _GIB // 4, _UC)]
    # The last eighth of all addresses is the window for 64-bit BARs.
    window = 1 << (hardware.physical_bits - 3)
    high = MtrrRange(7 * window, window, _UC)
    return Layout("ovmf", default=MemType.WB, ranges=[*low, high], fixed=_OVMF_FIXED)
