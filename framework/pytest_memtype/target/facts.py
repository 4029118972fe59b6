"""Facts of a target, read there without changing anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pytest_memtype.errors import SshError
from pytest_memtype.ssh.connection import Connection
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal

#: include/linux/ioport.h
RESOURCE_MEMORY: Final = 0x200
RESOURCE_PREFETCH: Final = 0x2000

_SCRIPT = r"""
export LC_ALL=C
echo "uid $(id -u)"
echo "release $(uname -r)"
echo "machine $(uname -m)"
echo "cpus $(getconf _NPROCESSORS_ONLN)"
sed -n 's/^MemTotal: *\([0-9]*\) kB/memory \1/p' /proc/meminfo
sed -n 's/^address sizes.*: *\([0-9]*\) bits physical.*/bits \1/p' /proc/cpuinfo | head -n 1
# Of several names bash is content with any, and dash looks at the first.
[ -e "/lib/modules/$(uname -r)/build/Makefile" ] &&
    command -v make > /dev/null && command -v gcc > /dev/null && echo "headers yes"
grep '^memtype ' /proc/modules && echo "busy yes"
sed 's/^/iomem /' /proc/iomem
for device in /sys/bus/pci/devices/*; do
    [ -e "$device" ] || continue
    driver=$(readlink "$device/driver")
    echo "pci ${device##*/} $(cat "$device/class") ${driver##*/}"
    head -n 6 "$device/resource" | sed 's/^/bar /'
done
exit 0
"""
_IOMEM = re.compile(r"iomem ( *)([0-9a-f]+)-([0-9a-f]+) : (.*)")


@shown_in_hexadecimal("start", "end")
@dataclass(frozen=True)
class Resource:
    """A line of ``/proc/iomem``.

    :param depth: How many other resources it lies in; 0 for none.
    :param start: Address of its first byte.
    :param end: Address of its last byte.
    :param name: Its name, such as ``System RAM``.
    """

    depth: int
    start: int
    end: int
    name: str


@shown_in_hexadecimal("start", "end")
@dataclass(frozen=True)
class Bar:
    """A memory BAR of a PCI device.

    :param device: PCI address of the device, ``0000:00:02.0``.
    :param number: Number of the BAR, from 0.
    :param start: Address of its first byte.
    :param end: Address of its last byte.
    :param prefetchable: Is the BAR prefetchable?
    :param display: Is the device a display controller?
    :param driver: Name of the device's driver, empty when it has none.
    """

    device: str
    number: int
    start: int
    end: int
    prefetchable: bool
    display: bool
    driver: str

    @property
    def size(self) -> int:
        return self.end - self.start + 1

    def __str__(self) -> str:
        driver = f"driver {self.driver}" if self.driver else "no driver"
        return f"BAR {self.number} of PCI device {self.device} ({driver})"


@shown_in_hexadecimal("memory")
@dataclass(frozen=True)
class Facts:
    """Facts of a target.

    :param release: Its kernel's release, as ``uname -r`` prints it.
    :param cpus: Number of CPUs that are online.
    :param memory: RAM in bytes, as much as the kernel manages.
    :param physical_bits: Width of a physical address in bits.
    :param headers: Has it the kernel's headers, and a compiler?
    :param busy: Is the module loaded already?
    :param iomem: The lines of ``/proc/iomem``.
    :param bars: The memory BARs of its PCI devices.
    """

    release: str
    cpus: int
    memory: int
    physical_bits: int
    headers: bool
    busy: bool
    iomem: tuple[Resource, ...]
    bars: tuple[Bar, ...]


def read_facts(connection: Connection) -> Facts:
    """Read the facts of a target.

    :param connection: The connection to the target, as root.
    :raises SshError: the target isn't x86-64 Linux, or the user there isn't root.
    :raises SshLost: the connection broke.
    """
    done = connection.run(_SCRIPT)
    if done.status != 0:
        raise connection.failed("asking what machine it is", done)
    return parse_facts(done.output, where=str(connection.address))


def parse_facts(text: str, *, where: str) -> Facts:
    """Parse the facts that :data:`_SCRIPT` prints.

    :param text: Output of the script.
    :param where: The target's address, for messages.
    :raises SshError: the target isn't x86-64 Linux, the user there isn't root, or a fact is missing.
    """
    said = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    if said.get("machine") != "x86_64":
        raise SshError(f"{where}: it is {said.get('machine', 'no Linux')}, and only x86_64 can be tested")
    if said.get("uid") != "0":
        raise SshError(f"{where}: a module can be loaded by root alone; log in as root (ssh://root@...)")
    try:
        return Facts(
            release=said["release"],
            cpus=int(said["cpus"]),
            memory=int(said["memory"]) << 10,
            physical_bits=int(said["bits"]),
            headers="headers" in said,
            busy="busy" in said,
            iomem=tuple(_resources(text)),
            bars=tuple(_bars(text)),
        )
    except (LookupError, ValueError) as error:
        raise SshError(f"{where}: what it says of itself makes no sense: {error!r}") from None


def _resources(text: str) -> Iterator[Resource]:
    for match in _IOMEM.finditer(text):
        yield Resource(len(match[1]) // 2, int(match[2], 16), int(match[3], 16), match[4])


def _bars(text: str) -> Iterator[Bar]:
    device, display, driver, number = "", False, "", 0
    for line in text.splitlines():
        kind, *words = line.split() or [""]
        if kind == "pci":
            device, number = words[0], 0
            display, driver = words[1].startswith("0x03"), (words[2:] or [""])[0]
        elif kind == "bar" and len(words) == 3:
            start, end, flags = (int(word, 16) for word in words)
            if flags & RESOURCE_MEMORY and end > start:
                yield Bar(device, number, start, end, bool(flags & RESOURCE_PREFETCH), display, driver)
            number += 1
