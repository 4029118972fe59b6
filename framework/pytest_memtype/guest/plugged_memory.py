"""Memory that comes while a guest runs, and goes again."""

from __future__ import annotations

from typing import Any, Final

from pytest_memtype.errors import GuestError, Unavailable, UsageError
from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.protocol import plain
from pytest_memtype.guest.region import PAGE_SIZE, Region
from pytest_memtype.guest.strict import integer
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.plugged_memory import plug, unplug
from pytest_memtype.x86.size import parse_size

_BLOCKS: Final = "/sys/devices/system/memory"
# The folder is there with CONFIG_ACPI_HOTPLUG_MEMORY (Linux, drivers/acpi/acpi_memhotplug.c). Pages that the
# kernel can't move would keep the memory from being unplugged.
_PREPARE: Final = (
    "test -d /sys/firmware/acpi/hotplug/memory && "
    f"echo online_movable > {_BLOCKS}/auto_online_blocks && cat {_BLOCKS}/block_size_bytes"
)
#: Bytes of the smallest block (Linux, arch/x86/include/asm/sparsemem.h, SECTION_SIZE_BITS).
_LEAST_BLOCK: Final = 128 << 20


def plug_memory(agent: Agent, journal: Journal, machine: Machine, size: str | int) -> Region:
    """Plug memory into a guest, as :meth:`Guest.plug_memory` describes it.

    :param agent: The guest's agent.
    :param journal: Its journal.
    :param machine: Its QEMU.
    :param size: Bytes, or text with a unit.
    :raises UsageError: there is no room for it, or it isn't whole blocks.
    :raises Unavailable: the kernel takes no memory while it runs.
    :raises GuestError: QEMU or the kernel refused it, or the guest died meanwhile.
    """
    try:
        count = parse_size(size)
    except ValueError as error:
        raise UsageError(f"plug_memory: {error}") from None
    prepared = agent.call("shell", command=_PREPARE)
    if prepared.decode(lambda content: integer(content["status"])):
        raise Unavailable(
            "this kernel takes no memory while it runs: it needs CONFIG_MEMORY_HOTPLUG and "
            "CONFIG_ACPI_HOTPLUG_MEMORY"
        )
    block = prepared.decode(_block_bytes)
    if count < 1 or count % block:
        raise UsageError(f"plug_memory: {count:#x} bytes are not whole blocks of the kernel's {block:#x}")
    region = Region(plug(machine, count).start, count // PAGE_SIZE)
    numbers = range(region.start // block, region.end // block)
    # Their paths, one by one, are longer than a request.
    states_of = f"for n in $(seq {numbers[0]} {numbers[-1]}); do cat {_BLOCKS}/memory$n/state; done"
    reply = agent.call("shell", command=states_of)
    journal.done("plug_memory", actor="test", arguments={"size": count}, result=region.start, log=reply.log)
    states = reply.decode(lambda content: plain(content["output"])).split()
    if states != ["online"] * len(numbers):
        raise GuestError(f"{region} was plugged in, but not all of it is online: {' '.join(states)}")
    journal.ram.append(region)
    return region


def unplug_memory(agent: Agent, journal: Journal, machine: Machine, region: Region) -> None:
    """Take memory out of a guest, as :meth:`Guest.unplug_memory` describes it.

    :param agent: The guest's agent.
    :param journal: Its journal.
    :param machine: Its QEMU.
    :param region: What :func:`plug_memory` returned.
    :raises UsageError: it is something else.
    :raises GuestError: the kernel doesn't give it back, or the guest died meanwhile.
    """
    try:
        unplug(machine, region.start, region.size)
    finally:
        # The mailbox may have lain there, and the kernel moves pages also of memory that stays then.
        agent.forget_memory()
    # Not there after Guest.reset().
    if region in journal.ram:
        journal.ram.remove(region)
    arguments = {"start": region.start, "pages": region.pages}
    log = agent.call("log").log
    journal.done("unplug_memory", actor="test", arguments=arguments, result=0, log=log)


def _block_bytes(content: dict[str, Any]) -> int:
    found = int(plain(content["output"]), 16)
    if found < _LEAST_BLOCK:
        raise ValueError(f"blocks of {found:#x} bytes")
    return found
