"""A device state that says what it isn't. What a real one says: test_registers_outside.py."""

from __future__ import annotations

import pytest

from pytest_memtype.errors import DeviceStateError
from pytest_memtype.machine.device_state import CpuShape, read_cpus, shape_of

SHAPE = CpuShape(version=12, offsets={"cr3": (0, 1)}, size=8)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (b"", "doesn't describe itself; was it cut short"),
        (b'{"page_size": 4096, "devices": []}', "doesn't describe itself"),
        (b'\x06\x00\x00\x00\x22{"page_size": 4096, "devices": []}', "describes no CPU"),
        (b'\x06\x00\x00\x00\x22{"page_size": 4096, "devices": [}}', "description is damaged"),
        (b'\x06\x00\x01\x86\xa5{"x":' + b"[" * 100_000, "description is damaged"),
    ],
)
def test_no_shape(state: bytes, message: str) -> None:
    with pytest.raises(DeviceStateError, match=message):
        shape_of(state)


# QEMU 7.2 and 10.0 begin it otherwise; a later one may do so again. One is as long as the mark is (0x06).
@pytest.mark.parametrize("first", [b'{"page_size": 4096, ', b'{"configuration": {"vmsd_name": "x"}, ', b"{"])
@pytest.mark.parametrize("padding", [0, 0x06 << 8])
def test_a_description_may_begin_with_anything(first: bytes, padding: int) -> None:
    cpu = b'{"name": "cpu", "version": 12, "fields": [' + b", ".join(
        b'{"name": "%s", "size": 8}' % name
        for name in (b"env.cr[0]", b"env.cr[3]", b"env.cr[4]", b"env.efer", b"env.pat")
    )
    mtrrs = b"".join(
        b', {"name": "%s", "array_len": %d, "size": 8}' % pair
        for pair in ((b"env.mtrr_deftype", 1), (b"env.mtrr_fixed", 11), (b"env.mtrr_var", 16))
    )
    text = first + b'"devices": [' + cpu + mtrrs + b"]}]}"
    if padding:
        text = text.ljust(padding)
    state = b"RAM may hold such bytes: \x06\x00\x00\x00\x02{}" + b"\x06" + len(text).to_bytes(4, "big") + text
    shape = shape_of(state)
    assert shape.version == 12
    assert shape.offsets["mtrr_variable"] == (8 * (5 + 1 + 11), 16)


@pytest.mark.parametrize(
    ("state", "message"),
    [(b"", "doesn't begin with QEVM"), (b"QEVM\x00\x00\x00\x03" + bytes(500), "no CPU 0 of version 12")],
)
def test_no_cpus(state: bytes, message: str) -> None:
    with pytest.raises(DeviceStateError, match=message):
        read_cpus(state, SHAPE, cpus=None)


def test_a_header_without_a_footer_is_no_section() -> None:
    header = b"\x04\x00\x00\x00\x07\x03cpu" + bytes(4) + b"\x00\x00\x00\x0c"
    whole = b"QEVM\x00\x00\x00\x03" + header + bytes(8) + b"\x7e\x00\x00\x00\x07"
    with pytest.raises(DeviceStateError, match="no CPU"):
        read_cpus(whole[:-1], SHAPE, cpus=None)


WHOLE = CpuShape(
    version=12,
    offsets={
        "cr0": (0, 1),
        "cr3": (8, 1),
        "cr4": (16, 1),
        "efer": (24, 1),
        "pat_value": (32, 1),
        "mtrr_default_type": (40, 1),
        "mtrr_fixed": (48, 1),
        "mtrr_variable": (56, 2),
    },
    # Behind them lie registers of the guest's own.
    size=72 + 64,
)


def header(cpu: int, section: int) -> bytes:
    return (
        b"\x04" + section.to_bytes(4, "big") + b"\x03cpu" + cpu.to_bytes(4, "big") + (12).to_bytes(4, "big")
    )


def footer(section: int) -> bytes:
    return b"\x7e" + section.to_bytes(4, "big")


def section_of(cpu: int, number: int, registers: bytes, after: bytes = b"") -> bytes:
    """A CPU's section, whose CR3 says which it is.

    :param cpu: Its number.
    :param number: The number of its section.
    :param registers: At most 64 bytes that are the guest's.
    :param after: Subsections.
    """
    fields = bytes(8) + (0x1000 * (cpu + 1)).to_bytes(8, "big") + bytes(56)
    return header(cpu, number) + fields + registers.ljust(64, b"\0") + after + footer(number)


@pytest.mark.parametrize(
    "registers",
    [
        b"",
        # The end of its own section, of the other's, and a header of either, with and without an end.
        footer(5),
        footer(4),
        header(0, 9),
        header(1, 9) + footer(9),
        header(0, 9) + footer(9),
    ],
)
@pytest.mark.parametrize("after", [b"", b"\x05\x0ccpu/xyz_msr0" + bytes(8)])
@pytest.mark.parametrize("cpus", [2, None])
def test_bytes_of_the_guests_are_no_header_and_no_footer(
    registers: bytes, after: bytes, cpus: int | None
) -> None:
    ram = section_of(0, 4, b"") + section_of(1, 5, b"")[:40]
    state = b"QEVM\x00\x00\x00\x03" + ram
    state += section_of(0, 4, registers, after) + section_of(1, 5, registers, after) + b"\x04other devices"
    assert [each.cr3 for each in read_cpus(state, WHOLE, cpus=cpus)] == [0x1000, 0x2000]


def test_a_section_that_looks_whole_inside_another_is_not_believed() -> None:
    """A header among the last CPU's registers, and its end in another device: no CPU 0 comes behind it."""
    state = b"QEVM\x00\x00\x00\x03" + section_of(0, 4, b"") + section_of(1, 5, header(0, 9))
    forged = state.rindex(header(0, 9)) + len(header(0, 9))
    state = state.ljust(forged + WHOLE.size, b"\0") + footer(9)
    assert [each.cr3 for each in read_cpus(state, WHOLE, cpus=2)] == [0x1000, 0x2000]


def test_one_cpu_more_in_ram_is_none_and_one_less_is_an_error() -> None:
    more = b"".join(section_of(cpu, 4 + cpu, b"") for cpu in range(3))
    state = b"QEVM\x00\x00\x00\x03" + more + section_of(0, 4, b"") + section_of(1, 5, b"")
    assert [each.cr3 for each in read_cpus(state, WHOLE, cpus=2)] == [0x1000, 0x2000]
    with pytest.raises(DeviceStateError, match="has no CPU 2 of version 12"):
        read_cpus(state[:8] + section_of(0, 4, b"") + section_of(1, 5, b""), WHOLE, cpus=3)
