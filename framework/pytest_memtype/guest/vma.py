"""The virtual memory areas of a process that hold device memory, as ``/proc/PID/maps`` lists them."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memtype.guest.region import PAGE_SIZE, Region
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal

_DEVICES = ("/dev/memtype", "/dev/mem")


@shown_in_hexadecimal("address")
@dataclass(frozen=True)
class Vma:
    """A virtual memory area that holds device memory.

    :param address: Virtual address of its first byte in the process.
    :param region: The guest-physical memory behind it, if no page was copied on write.
    :param protection: Protection as the kernel prints it: ``rw-s`` is shared and may be read and written.
    :param path: Path of the file that is mapped.
    """

    address: int
    region: Region
    protection: str
    path: str


def parse_maps(text: str) -> tuple[Vma, ...]:
    """The areas of the agent's device, ``/dev/mem`` and of sysfs's ``resourceN``, by address.

    The offset of all of them is the guest-physical address: the first two are mapped at it, sysfs adds
    the BAR's start (``pci_mmap_resource_range()`` in ``drivers/pci/mmap.c``), and ``remap_pfn_range()`` sets
    it for private mappings (``mm/memory.c``; all of this 5.10 to 7.3).

    :param text: Content of ``/proc/PID/maps``.
    :raises ValueError: a line has another form than in that file.
    """
    areas = []
    for line in text.splitlines():
        addresses, protection, offset, _device, _inode, *path = line.split(maxsplit=5)
        if path and (path[0] in _DEVICES or "/resource" in path[0]):
            start, end = (int(address, 16) for address in addresses.split("-"))
            region = Region(int(offset, 16), (end - start) // PAGE_SIZE)
            areas.append(Vma(start, region, protection, path[0]))
    return tuple(areas)
