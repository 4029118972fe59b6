"""The agent's mailbox: guest memory through which long messages go, at the speed of memory.

A byte costs 20 microseconds on the way into an emulated serial port and 3 on the way out (QEMU 7.2, TCG); the
port carries only where a message lies and its checksum.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from pytest_memtype.errors import AgentError, UsageError
from pytest_memtype.guest.region import PAGE_SIZE
from pytest_memtype.guest.strict import integer
from pytest_memtype.machine.memory import GuestMemory


@contextlib.contextmanager
def _where_the_agent_said() -> Iterator[None]:
    """Memory that isn't there is no mistake of the user's."""
    try:
        yield
    except UsageError as error:
        raise AgentError(f"the agent's mailbox is no memory: {error.message}") from None


class Mailbox:
    """The memory that the agent has set aside for messages.

    :param memory: The guest's memory, read and written from outside.
    :param runs: Guest-physical address and number of pages of each piece.
    :raises ValueError: a piece has no page, or there is none.
    """

    def __init__(self, memory: GuestMemory, runs: Sequence[tuple[int, int]]) -> None:
        self._memory = memory
        self._pieces = [(integer(address), integer(pages) * PAGE_SIZE) for address, pages in runs]
        if not self._pieces or any(size <= 0 for _, size in self._pieces):
            # Files would go through it in pieces of no byte, for ever.
            raise ValueError("a mailbox without a page")
        self.size = sum(size for _, size in self._pieces)

    def write(self, message: bytes) -> dict[str, int]:
        """Leave a message, and return the fields of a request that tell the agent of it.

        :param message: The message.
        :raises AgentError: the message is longer than the mailbox, or that lies where the guest has no RAM.
        """
        with _where_the_agent_said():
            for address, first, last in self._cut(len(message)):
                self._memory.write(address, message[first:last])
        return {"length": len(message), "crc": zlib.crc32(message)}

    def read(self, notice: dict[str, Any]) -> bytes:
        """Read the message that the agent says it has left.

        :param notice: What the agent says of it: ``length`` in bytes, and ``crc``, its CRC-32.
        :raises AgentError: the mailbox holds other bytes, is shorter than the message, or lies where the
            guest has no RAM.
        """
        length = integer(notice["length"])
        with _where_the_agent_said():
            parts = [self._memory.read(address, last - first) for address, first, last in self._cut(length)]
        message = b"".join(parts)
        if zlib.crc32(message) != integer(notice["crc"]):
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
