"""The lines on the agent's port; what the agent itself makes of them is in test_agent.py."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_memtype.errors import DamagedLine, ForeignLine
from pytest_memtype.guest.protocol import REQUEST_LENGTH, decode_line, encode_request, new_token


def test_a_request_is_one_line() -> None:
    # CRC-32 of "@7:0af shell command=echo%20%2A%0A" as zlib's manual defines it.
    payload = b"@7:0af shell command=echo%20%2A%0A"
    line = payload + b" *%08x\n" % zlib.crc32(payload)
    assert encode_request(7, "0af", "shell", {"command": "echo *\n"}) == line


def test_no_two_requests_have_the_same_token() -> None:
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert {len(token) for token in tokens} == {16}


def test_a_request_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than the 4096"):
        encode_request(1, "a", "shell", {"command": "x" * REQUEST_LENGTH})


def reply(payload: bytes) -> bytes:
    return payload + b" *%08x\n" % zlib.crc32(payload)


def test_a_reply_is_decoded() -> None:
    line = decode_line(reply(b'@12:0af {"log": [], "reply": {"a": " *"}}'))
    assert (line.sequence, line.token) == (12, "0af")
    assert line.content == {"log": [], "reply": {"a": " *"}}
    line = decode_line(reply(b'@0 {"busy": 1}'))
    assert (line.sequence, line.token, line.content) == (0, "", {"busy": 1})


@settings(deadline=None)
@given(position=st.integers(0, 200), byte=st.integers(0, 255))
def test_one_wrong_byte_is_noticed(position: int, byte: int) -> None:
    line = bytearray(
        reply(b'@12 {"log": [], "reply": {"status": 0, "output": "some text from the guest"}}')[:-1]
    )
    position %= len(line)
    if line[position] == byte:
        return
    line[position] = byte
    with pytest.raises(DamagedLine):
        decode_line(bytes(line))


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_lost_character_is_noticed(cut: int) -> None:
    line = reply(b'@12 {"log": [], "reply": {}}')
    with pytest.raises(DamagedLine):
        decode_line(line[:cut] + line[cut + 1 :])


@pytest.mark.parametrize("payload", [b"", b"12 {}", b"@x {}", b"@1 {", b"@1 nonsense", b"@1:\xff {}"])
def test_nonsense_that_checks_is_damaged_too(payload: bytes) -> None:
    with pytest.raises(DamagedLine):
        decode_line(reply(payload))


@pytest.mark.parametrize(
    "line",
    [b"\x1b[2J\x1b[01;01HEFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID device path\r", b"\r"],
)
def test_what_firmware_writes_is_no_damage(line: bytes) -> None:
    """Nothing of it could be the agent's: no start of a line, and no checksum."""
    with pytest.raises(ForeignLine):
        decode_line(line)
