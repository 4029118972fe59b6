"""A boot ROM that programs model-specific registers before the kernel is loaded.

QEMU's ``-option-rom`` hands the file to SeaBIOS, which calls it after it has set the MTRRs itself and
before ``-kernel`` is loaded. Only the boot CPU runs it; Linux copies that CPU's MTRRs to the others.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_BLOCK = 512
_MAX_BLOCKS = 0xFF
_PNP_HEADER = 0x20
_CODE = 0x40


def boot_rom(writes: Sequence[tuple[int, int]]) -> bytes:
    """An option ROM that carries out (MSR, value) writes in order.

    The format is the one of the BIOS Boot Specification 1.01 and the Plug and Play BIOS Specification 1.0a,
    "Option ROM header": 55 AA, length in units of 512 bytes, entry point at offset 3, all bytes adding up
    to 0.

    :param writes: MSR number (32 bits) and value (64 bits) of each write.
    :raises ValueError: There are no writes, more than a ROM can hold, or one isn't 32 bits of register
        number and 64 of value.
    """
    if not writes:
        raise ValueError("a boot ROM without register writes does nothing; leave it out")
    code = b"".join(_wrmsr(msr, value) for msr, value in writes)
    # AX = 0 tells a Plug and Play BIOS that this ROM brings no boot device, display or keyboard.
    code += b"\x31\xc0"  # xor ax, ax
    code += b"\xcb"  # retf
    blocks = -(-(_CODE + len(code) + 1) // _BLOCK)
    if blocks > _MAX_BLOCKS:
        raise ValueError(
            f"{len(writes)} register writes don't fit into a ROM of {_MAX_BLOCKS * _BLOCK} bytes"
        )
    jump = b"\xeb" + bytes([_CODE - 5])  # jmp short _CODE
    header = struct.pack("<2sB2s21xH", b"\x55\xaa", blocks, jump, _PNP_HEADER)
    rom = header.ljust(_PNP_HEADER, b"\0") + _pnp_header()
    rom = (rom.ljust(_CODE, b"\0") + code).ljust(blocks * _BLOCK, b"\0")
    return rom[:-1] + _checksum(rom)


def _wrmsr(msr: int, value: int) -> bytes:
    if not 0 <= msr < 1 << 32 or not 0 <= value < 1 << 64:
        raise ValueError(f"register write {msr:#x} = {value:#x} isn't 32 bits of number and 64 of value")
    # The ROM is entered in real mode, where 66h makes an operand 32 bits wide.
    return struct.pack(
        "<2sI2sI2sI2s",
        *(b"\x66\xb9", msr),  # mov ecx, msr
        *(b"\x66\xb8", value & 0xFFFFFFFF),  # mov eax, low half
        *(b"\x66\xba", value >> 32),  # mov edx, high half
        b"\x0f\x30",  # wrmsr
    )


def _pnp_header() -> bytes:
    # SeaBIOS (1.16) calls a ROM without this header later, as one more boot device in boot order.
    header = struct.pack("<4sBBH", b"$PnP", 1, 32 // 16, 0).ljust(32, b"\0")
    return header[:9] + _checksum(header) + header[10:]


def _checksum(content: bytes) -> bytes:
    return bytes([-sum(content) & 0xFF])
