"""PCI devices of a guest, as its kernel lists them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pytest_memtype.errors import GuestError, UsageError
from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.protocol import plain
from pytest_memtype.guest.region import PAGE_SIZE, Region
from pytest_memtype.guest.strict import integer

_ID: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")
_LISTED: Final = re.compile(
    r"([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) 0x([0-9a-f]{4}) 0x([0-9a-f]{4}) (\S*)"
)
_ADDRESS: Final = re.compile(r"(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_DEVICES: Final = "/sys/bus/pci/devices"

# include/linux/ioport.h
_MEMORY: Final = 0x200
_PREFETCH: Final = 0x2000
_MEM_64: Final = 0x100000
# "No address assigned yet": it is listed from 0 on (arch/x86/pci/i386.c, pcibios_allocate_dev_resources()).
_UNSET: Final = 0x20000000

# One line per device: address, vendor, device, driver; then those of its resources.
_LIST: Final = f"""exec 2>/dev/null; cd {_DEVICES} || exit 0
for each in *; do
  read vendor < $each/vendor && read device < $each/device || continue
  driver=; [ -e $each/driver ] && driver=$(cd -P $each/driver && pwd)
  echo "$each $vendor $device ${{driver##*/}}"; cat $each/resource
done"""


@dataclass(frozen=True)
class Bar:
    """A memory BAR of a PCI device.

    :param number: Its number, 0 to 5.
    :param region: The guest-physical memory, rounded up to whole pages: a BAR may be smaller than one.
    :param size: Bytes.
    :param prefetchable: Whether reading it changes nothing, so that the kernel offers it write-combined too.
    :param bits64: Whether it may lie above 4 GiB.
    """

    number: int
    region: Region
    size: int
    prefetchable: bool
    bits64: bool

    def __str__(self) -> str:
        kind = f"{'64' if self.bits64 else '32'} bits{', prefetchable' if self.prefetchable else ''}"
        return f"BAR {self.number} {self.region} ({kind})"


@dataclass(frozen=True)
class _Listed:
    """A device as the kernel lists it.

    :param address: Its place on the bus.
    :param identity: Vendor and device.
    :param driver: Name of the driver that it is bound to; None for none.
    :param bars: Its memory BARs that have an address, by number.
    """

    address: str
    identity: str
    driver: str | None
    bars: tuple[Bar, ...]


class PciDevice:
    """A PCI device of a guest.

    :ivar address: Its place on the bus, ``0000:00:02.0``.
    :ivar id: Vendor and device, ``1234:11e8``.
    """

    def __init__(
        self, address: str, identity: str, look: Callable[[], Iterable[_Listed]], agent: Agent
    ) -> None:
        self.address = address
        self.id = identity
        self._look = look
        self._agent = agent

    @property
    def bars(self) -> tuple[Bar, ...]:
        """The memory BARs, by number. Those that have no address are left out."""
        return self._listed().bars

    @property
    def driver(self) -> str | None:
        """Name of the driver that it is bound to; None for none."""
        return self._listed().driver

    def bind(self, driver: object) -> None:
        """Bind it to a driver, also to one that doesn't list its id; another driver is unbound first.

        :param driver: A module that :meth:`Guest.load` gave, or the name of a driver.
        :raises GuestError: the driver doesn't take it, or there is none.
        """
        name = driver if isinstance(driver, str) else self._driver_of(str(getattr(driver, "name", driver)))
        if not re.fullmatch(r"[\w.-]+", name):
            raise UsageError(f"bind: {name!r} is no name of a driver")
        if self.driver == name:
            return
        if self.driver is not None:
            self.unbind()
        # A driver that reads what it is asked to override takes any device.
        self._run(f"echo {name} > {self._path}/driver_override")
        said = self._run(f"echo {self.address} > /sys/bus/pci/drivers/{name}/bind", checked=False)
        if self.driver != name:
            self._run(f"echo > {self._path}/driver_override", checked=False)
            raise GuestError(f"{self.id} at {self.address} can't be bound to {name}: {said}")

    def unbind(self) -> None:
        """Unbind it from its driver.

        :raises GuestError: it has none.
        """
        if self.driver is None:
            raise GuestError(f"{self.id} at {self.address} is bound to no driver")
        self._run(f"echo {self.address} > {self._path}/driver/unbind; echo > {self._path}/driver_override")

    @property
    def _path(self) -> str:
        return f"{_DEVICES}/{self.address}"

    def _listed(self) -> _Listed:
        for each in self._look():
            if each.address == self.address:
                return each
        raise GuestError(f"the PCI device at {self.address} is gone")

    def _driver_of(self, module: str) -> str:
        """The name of the PCI driver that a module has registered."""
        output = self._run(f"ls /sys/module/{module}/drivers 2>&1", checked=False)
        names = re.findall(r"^pci:(\S+)$", output, re.MULTILINE)
        if not names:
            raise GuestError(f"module {module} has registered no PCI driver")
        return str(names[0])

    def _run(self, command: str, *, checked: bool = True) -> str:
        reply = self._agent.call("shell", command=command)
        status, output = reply.decode(
            lambda content: (integer(content["status"]), plain(content["output"]).strip())
        )
        if status and checked:
            raise GuestError(f"{self.id} at {self.address}: {output}")
        return output or " ".join(reply.log[-1:])

    def __repr__(self) -> str:
        return f"PciDevice({self.id} at {self.address})"


def pci_devices(agent: Agent) -> tuple[PciDevice, ...]:
    """The PCI devices of a guest, by address."""

    def look() -> tuple[_Listed, ...]:
        reply = agent.call("shell", command=_LIST)
        return reply.decode(lambda content: _listed(plain(content["output"])))

    return tuple(PciDevice(each.address, each.identity, look, agent) for each in look())


def find_device(agent: Agent, which: str) -> PciDevice:
    """A PCI device of a guest.

    :param agent: The guest's agent.
    :param which: Vendor and device, ``1234:11e8``, or its place on the bus, ``00:02.0``.
    :raises UsageError: there is none, or there are several of that id.
    """
    if not isinstance(which, str) or not (_ID.fullmatch(which) or _ADDRESS.fullmatch(which)):
        raise UsageError(f"pci: {which!r} is neither an id like '1234:11e8' nor a place like '00:02.0'")
    devices = pci_devices(agent)
    found = [each for each in devices if each.id == which or each.address.endswith(which)]
    if not found:
        there = ", ".join(each.id for each in devices) or "none"
        raise UsageError(f"pci: the guest has no device {which}; it has {there}")
    if len(found) > 1:
        places = ", ".join(each.address for each in found)
        raise UsageError(f"pci: {which} is at {places}; name one by its place")
    return found[0]


def _listed(listing: str) -> tuple[_Listed, ...]:
    found: list[tuple[re.Match[str], list[str]]] = []
    for line in listing.splitlines():
        if line.startswith("0x"):
            found[-1][1].append(line)
        elif match := _LISTED.fullmatch(line):
            found.append((match, []))
        else:
            raise ValueError(f"{line!r} is no PCI device")
    return tuple(
        _Listed(
            match[1],
            f"{match[2]}:{match[3]}",
            match[4] or None,
            tuple(bar for number, line in enumerate(lines[:6]) if (bar := _bar(number, line)) is not None),
        )
        for match, lines in found
    )


def _bar(number: int, line: str) -> Bar | None:
    start, end, flags = (int(word, 16) for word in line.split())
    if not flags & _MEMORY or flags & _UNSET or not end:
        return None
    if end < start:
        raise ValueError(f"{line!r} is no BAR")
    first = start // PAGE_SIZE * PAGE_SIZE
    region = Region(first, (end + PAGE_SIZE - first) // PAGE_SIZE)
    return Bar(number, region, end - start + 1, bool(flags & _PREFETCH), bool(flags & _MEM_64))
