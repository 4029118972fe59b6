"""A device state that says what it isn't. What a real one says: test_registers_outside.py."""

from __future__ import annotations

import pytest

from pytest_memtype.errors import DeviceStateError
from pytest_memtype.machine.device_state import CpuShape, read_cpus, shape_of

SHAPE = CpuShape(version=12, offsets={"cr3": (0, 1)})


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
    [(b"", "doesn't begin with QEVM"), (b"QEVM\x00\x00\x00\x03" + bytes(500), "no CPU of version 12")],
)
def test_no_cpus(state: bytes, message: str) -> None:
    with pytest.raises(DeviceStateError, match=message):
        read_cpus(state, SHAPE)


def test_a_header_without_a_footer_is_no_section() -> None:
    header = b"\x04\x00\x00\x00\x07\x03cpu" + bytes(4) + b"\x00\x00\x00\x0c"
    whole = b"QEVM\x00\x00\x00\x03" + header + bytes(8) + b"\x7e\x00\x00\x00\x07"
    with pytest.raises(DeviceStateError, match="no CPU"):
        read_cpus(whole[:-1], SHAPE)
