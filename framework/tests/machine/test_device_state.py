"""A device state that says what it isn't. What a real one says: test_registers_outside.py."""

from __future__ import annotations

import pytest

from pytest_memtype.machine.device_state import CpuShape, DeviceStateError, read_cpus, shape_of

SHAPE = CpuShape(version=12, offsets={"cr3": (0, 1)})


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (b"", "doesn't describe itself; was it cut short"),
        (b'{"page_size": 4096, "devices": []}', "doesn't describe itself"),
        (b'\x06\x00\x00\x00\x22{"page_size": 4096, "devices": []}', "describes no CPU"),
        (b'\x06\x00\x00\x00\x22{"page_size": 4096, "devices": [}}', "description is damaged"),
    ],
)
def test_no_shape(state: bytes, message: str) -> None:
    with pytest.raises(DeviceStateError, match=message):
        shape_of(state)


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
