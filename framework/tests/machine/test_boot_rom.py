import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memtype.machine.boot_rom import boot_rom

Writes = list[tuple[int, int]]


def run(rom: bytes) -> tuple[Writes, int]:
    """Run a ROM as a BIOS does: far call to offset 3, in real mode.

    Opcodes: Intel SDM vol. 2. Knows only what a boot ROM may hold; anything else raises.

    :returns: The register writes, and AX on return.
    """
    # Nothing is known of the registers on entry.
    eax, ecx, edx = 0xDEADBEEF, 0xDEADBEEF, 0xDEADBEEF
    writes: Writes = []
    at = 3
    while True:
        if rom[at] == 0xEB:  # JMP rel8
            at += 2 + struct.unpack_from("<b", rom, at + 1)[0]
        elif rom[at] == 0x66 and rom[at + 1] in (0xB8, 0xB9, 0xBA):  # operand size; MOV r32, imm32
            (immediate,) = struct.unpack_from("<I", rom, at + 2)
            match rom[at + 1]:
                case 0xB8:
                    eax = immediate
                case 0xB9:
                    ecx = immediate
                case 0xBA:
                    edx = immediate
            at += 6
        elif rom[at : at + 2] == b"\x0f\x30":  # WRMSR
            writes.append((ecx, edx << 32 | eax))
            at += 2
        elif rom[at : at + 2] == b"\x31\xc0":  # XOR AX, AX
            eax &= 0xFFFF0000
            at += 2
        elif rom[at] == 0xCB:  # RETF
            return writes, eax & 0xFFFF
        else:
            raise AssertionError(f"unexpected opcode {rom[at]:#04x} at {at:#x}")


@given(
    st.lists(st.tuples(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)), min_size=1, max_size=60)
)
def test_carries_out_the_writes_in_order(writes: Writes) -> None:
    rom = boot_rom(writes)
    assert run(rom) == (writes, 0)
    # BIOS Boot Specification 1.01, "Expansion header for option ROMs": 55 AA, length in units of 512
    # bytes, all bytes adding up to 0.
    assert rom[:2] == b"\x55\xaa"
    assert len(rom) == rom[2] * 512
    assert sum(rom) % 256 == 0


def test_plug_and_play_header() -> None:
    # Plug and Play BIOS Specification 1.0a, "Option ROM expansion header": found through offset 1Ah, on a
    # 16-byte boundary, "$PnP", revision 1, length in units of 16 bytes, next header, adding up to 0.
    # Boot connection (16h), disconnect (18h) and bootstrap entry (1Ah) vectors: none.
    rom = boot_rom([(0x2FF, 0)])
    (offset,) = struct.unpack_from("<H", rom, 0x1A)
    assert offset % 16 == 0
    header = rom[offset : offset + 32]
    assert header[:8] == b"$PnP" + bytes([1, 2, 0, 0])
    assert sum(header) % 256 == 0
    assert header[0x16:0x1C] == bytes(6)
    # No PCI data structure, since this isn't a PCI device's ROM.
    assert rom[0x18:0x1A] == b"\0\0"


def test_eight_variable_ranges_fit_into_one_block() -> None:
    # 1 + 16 + 1 writes of 20 bytes: SeaBIOS has to find room for it below 1 MiB.
    assert len(boot_rom([(0x2FF, 0)] * 18)) == 512


def test_limits() -> None:
    # The length byte ends at 255 blocks.
    assert run(boot_rom([(1, 2)] * 6500)) == ([(1, 2)] * 6500, 0)
    with pytest.raises(ValueError, match="6600 register writes don't fit"):
        boot_rom([(1, 2)] * 6600)
    with pytest.raises(ValueError, match="leave it out"):
        boot_rom([])


@pytest.mark.parametrize("write", [(-1, 0), (1 << 32, 0), (0, -1), (0, 1 << 64)])
def test_refuses_what_no_register_holds(write: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="isn't 32 bits of number and 64 of value"):
        boot_rom([write])
