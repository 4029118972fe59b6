"""The agent's mailbox: guest memory through which long messages go, at the speed of memory.

A byte costs 20 microseconds on the way into an emulated serial port and 3 on the way out (QEMU 7.2, TCG); the
port carries only where a message lies and its checksum.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from pytest_memtype.errors import AgentError
from pytest_memtype.guest.region import PAGE_SIZE
from pytest_memtype.machine.memory import GuestMemory


class Mailbox:
    """The memory that the agent has set aside for messages.

    :param memory: The guest's memory, read and written from outside.
    :param runs: Guest-physical address and number of pages of each piece.
    """

    def __init__(self, memory: GuestMemory, runs: Sequence[tuple[int, int]]) -> None:
        self._memory = memory
        self._pieces = [(address, pages * PAGE_SIZE) for address, pages in runs]
        self.size = sum(size for _, size in self._pieces)

    def write(self, message: bytes) -> dict[str, int]:
        """Leave a message, and return the fields of a request that tell the agent of it."""
        for address, first, last in self._cut(len(message)):
            self._memory.write(address, message[first:last])
        return {"length": len(message), "crc": zlib.crc32(message)}

    def read(self, notice: dict[str, Any]) -> bytes:
        """Read the message that the agent says it has left.

        :param notice: What the agent says of it: ``length`` in bytes, and ``crc``, its CRC-32.
        :raises AgentError: the mailbox holds other bytes, or is shorter than the message.
        """
        length = int(notice["length"])
        parts = [self._memory.read(address, last - first) for address, first, last in self._cut(length)]
        message = b"".join(parts)
        if zlib.crc32(message) != notice["crc"]:
            raise AgentError(f"the agent's mailbox does not hold the {length} bytes it is said to hold")
        return message

    def _cut(self, length: int) -> Iterator[tuple[int, int, int]]:
        """Cut a message of some bytes: guest-physical address, offsets of each piece's begin and end."""
        done = 0
        for address, size in self._pieces:
            if done < length:
                yield address, done, min(done + size, length)
                done += size
        if done < length:
            raise AgentError(f"a message of {length} bytes is longer than the agent's mailbox of {self.size}")
