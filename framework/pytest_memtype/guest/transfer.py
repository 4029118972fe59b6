"""Files into a guest and out of it, through the agent's mailbox."""

from __future__ import annotations

from typing import Final

from pytest_memtype.errors import AgentError
from pytest_memtype.guest.agent import Agent

#: Bytes of the largest file that goes either way: a guest's root file system is memory.
MOST: Final = 64 << 20


def put_file(agent: Agent, content: bytes, to: str) -> None:
    """Write a file in the guest; folders above it are made.

    :param agent: The guest's agent.
    :param content: The file's content.
    :param to: Its absolute path in the guest.
    :raises AgentError: the guest's kernel refuses it.
    :raises Unavailable: the guest doesn't run in a QEMU of this run.
    """
    size = agent.mailbox.size
    # An empty file is one message without a byte.
    for offset in range(0, len(content) or 1, size):
        fields = agent.mailbox.write(content[offset : offset + size])
        agent.call("put", path=to, offset=offset, **fields)


def get_file(agent: Agent, path: str) -> bytes:
    """The content of a regular file in the guest.

    :param agent: The guest's agent.
    :param path: Its absolute path in the guest.
    :raises AgentError: the guest's kernel refuses it, or the file is larger than :data:`MOST`.
    :raises Unavailable: the guest doesn't run in a QEMU of this run.
    """
    mailbox = agent.mailbox
    content = b""
    while True:
        reply = agent.call("get", path=path, offset=len(content))
        part = reply.decode(mailbox.read)
        content += part
        if len(content) > MOST:
            raise AgentError(f"get: {path} is larger than {MOST >> 20} MiB")
        if len(part) < mailbox.size:
            return content
