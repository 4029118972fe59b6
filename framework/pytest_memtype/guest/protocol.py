"""Lines on the agent's serial port, encoded and decoded.

One request, one reply, each a line; ``guests/agent/protocol.h`` is the other
side::

    @SEQUENCE:TOKEN verb key=value key=value *CRC
    @SEQUENCE:TOKEN {"log": [...], "reply": {...}} *CRC

The sequence number is decimal. It is 0, without a token, for a line that answers no request. The token is
random: root in the guest can write a line to the port before the request, with the next number and a right
checksum, but not with a token that isn't chosen yet. The checksum is
zlib's CRC-32, eight hexadecimal digits, of everything from ``@`` to the byte
before the last space.
"""

from __future__ import annotations

import json
import secrets
import zlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pytest_memtype.console.text import sanitize
from pytest_memtype.errors import DamagedLine, ForeignLine

REQUEST_LENGTH = 4096
"""Bytes that the agent has room for in a request, its final zero included."""

_TOKEN_BYTES = 8


@dataclass(frozen=True)
class Line:
    """A line from the agent, checked and decoded.

    :param sequence: Number of the request that it answers; 0 when it answers none.
    :param token: Token of that request; empty when it answers none.
    :param content: The decoded JSON.
    """

    sequence: int
    token: str
    content: Any


def plain(text: object) -> str:
    """A string in the agent's JSON, made harmless: it has a character for each byte (buffer_json())."""
    return sanitize(str(text).encode("latin-1", "replace"))


def request_text(verb: str, fields: dict[str, str | int]) -> bytes:
    """A request without the frame that the serial port needs."""
    words = [
        f"{key}={quote(value, safe=':/-_.,') if isinstance(value, str) else value}"
        for key, value in fields.items()
    ]
    return " ".join([verb, *words]).encode("ascii")


def new_token() -> str:
    """A random token for a request, which nobody in a guest can foresee."""
    return secrets.token_hex(_TOKEN_BYTES)


def encode_request(sequence: int, token: str, verb: str, fields: dict[str, str | int]) -> bytes:
    """The line for a request, checksum included.

    :param sequence: Number of the request, 1 for an agent's first.
    :param token: The request's token, of :func:`new_token`.
    :param verb: The request.
    :param fields: Its arguments; text is quoted.
    :raises ValueError: the line is longer than the agent has room for.
    """
    payload = b"@%d:%s %s" % (sequence, token.encode("ascii"), request_text(verb, fields))
    line = payload + b" *%08x\n" % zlib.crc32(payload)
    if len(line) >= REQUEST_LENGTH:
        raise ValueError(
            f"{verb}: a request of {len(line)} bytes is longer than the {REQUEST_LENGTH} there are"
        )
    return line


def decode_line(line: bytes) -> Line:
    """Check and decode a line from the agent.

    :param line: The bytes of the line; its end may be there or not.
    :raises DamagedLine: the checksum or the shape of the line is wrong.
    :raises ForeignLine: the line isn't the agent's at all.
    """
    if b"@" not in line and b" *" not in line:
        raise ForeignLine(f"line that isn't the agent's: {line[:80]!r}")
    payload, star, checksum = line.rstrip(b"\r\n").rpartition(b" *")
    if not star or checksum != b"%08x" % zlib.crc32(payload) or not payload.startswith(b"@"):
        raise DamagedLine(f"damaged line from the agent: {line[:80]!r}")
    head, _, text = payload[1:].partition(b" ")
    number, _, token = head.partition(b":")
    try:
        return Line(sequence=int(number), token=token.decode("ascii"), content=json.loads(text))
    except (ValueError, RecursionError):
        raise DamagedLine(f"line from the agent that checks but isn't JSON: {line[:80]!r}") from None
