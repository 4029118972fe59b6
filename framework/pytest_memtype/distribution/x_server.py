"""A real X server in a guest that has a distribution."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_memtype.errors import GuestError
from pytest_memtype.guest.region import PAGE_SIZE, Region
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal

if TYPE_CHECKING:
    from pytest_memtype.audit.audit import Audit
    from pytest_memtype.audit.mappings import PageMapping
    from pytest_memtype.guest.guest import Guest

_UNIT: Final = "memtype-xorg"
_CONFIG: Final = "/run/memtype-xorg.conf"
_LOG: Final = "/run/memtype-xorg.log"
_READY: Final = "/run/memtype-xorg.ready"
_DISPLAY: Final = ":0"

#: Seconds for Xorg's start: 2 are usual under TCG on an idle host. Less than a command of the agent has.
_START: Final = 50

#: A line of /proc/PID/maps that is a shared mapping of a device.
_SHARED: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S{3}s ([0-9a-f]+) \S+ \d+ +(/(?:dev|sys)/\S+)", re.M)


@shown_in_hexadecimal("offset", "size")
@dataclass(frozen=True)
class DeviceFile:
    """A device file that the server has mapped.

    :param path: The path of the device file.
    :param offset: The offset in the file at which the mapping begins, in bytes. What that means is up to the
        driver.
    :param size: The size of the mapping in bytes.
    """

    path: str
    offset: int
    size: int


@dataclass(frozen=True)
class XServer:
    """Xorg, started by :func:`start`; it runs as root on virtual terminal 7.

    :param guest: The guest that the server runs in.
    :param pid: The process id of Xorg in the guest.
    """

    guest: Guest
    pid: int

    def fill(self, colour: str) -> None:
        """Let a client (xsetroot) fill the whole screen with a colour. It returns when that is done.

        :param colour: The colour, as X names them: ``#3060c0``.
        """
        run(self.guest, f"DISPLAY={_DISPLAY} xsetroot -solid {shlex.quote(colour)}")

    def device_files(self) -> tuple[DeviceFile, ...]:
        """The device files that the server has mapped, as the kernel lists them, by address."""
        maps = run(self.guest, f"cat /proc/{self.pid}/maps")
        return tuple(
            DeviceFile(path, int(offset, 16), int(end, 16) - int(start, 16))
            for start, end, offset, path in _SHARED.findall(maps)
        )

    def mappings(self, region: Region, audit: Audit | None = None) -> tuple[PageMapping, ...]:
        """The server's own mappings of some physical memory, by its page tables, read from outside.

        :param region: The physical memory, in whole pages.
        :param audit: The audit to look in, to ask several things of one moment; None makes a new one.
        """
        found = on_region(audit or self.guest.audit(), region)
        return tuple(each for each in found if each.process and each.process[0] == self.pid)

    def stop(self) -> None:
        """Ask the server to end (SIGTERM), and wait until it has."""
        run(self.guest, f"systemctl stop {_UNIT}")

    def kill(self) -> None:
        """Kill the server (SIGKILL), and wait until nothing is left of it."""
        run(self.guest, f"systemctl kill --signal=KILL {_UNIT}; systemctl stop {_UNIT}")


def start(guest: Guest, driver: str, **options: str) -> XServer:
    """Start Xorg with one of its video drivers, and wait until clients can connect.

    :param guest: A guest with a distribution, and a display that the driver knows.
    :param driver: ``modesetting``, ``fbdev`` or ``vesa``.
    :param **options: The driver's options by name; ``BusID`` chooses the device.
    :raises GuestError: the server doesn't come up; its errors are the message's details.
    """
    lines = [f'    Option "{name}" "{value}"' for name, value in options.items() if name != "BusID"]
    if "BusID" in options:
        lines.append(f'    BusID "{options["BusID"]}"')
    # Without a pointer the server wouldn't start where the guest has none.
    config = "\n".join(
        [
            'Section "ServerFlags"',
            '    Option "AutoAddDevices" "off"',
            '    Option "AllowMouseOpenFail" "on"',
            "EndSection",
            'Section "Device"',
            '    Identifier "display"',
            f'    Driver "{driver}"',
            *lines,
            "EndSection",
            "",
        ]
    )
    run(guest, f"printf %s {shlex.quote(config)} > {_CONFIG}; rm -f {_READY} {_LOG}; mkfifo {_READY}")
    # -displayfd says when clients are served; an end of file says that the server failed. Both
    # sides of a FIFO wait for each other, so neither can be too early.
    xorg = f"exec Xorg {_DISPLAY} vt7 -ac -noreset -nolisten tcp -config {_CONFIG} -logfile {_LOG}"
    command = f"{xorg} -displayfd 3 3> {_READY}"
    run(
        guest,
        f"systemctl reset-failed {_UNIT} 2>/dev/null; "
        f"systemd-run --quiet --unit={_UNIT} sh -c {shlex.quote(command)}",
    )
    if not guest.shell(f"timeout {_START} head -n 1 {_READY}").output.strip():
        errors = guest.shell(f"grep -F '(EE)' {_LOG} | head -n 30; journalctl -qn 10 -u {_UNIT}").output
        raise GuestError(f"Xorg with {driver} doesn't start", details=tuple(errors.splitlines()))
    pid = run(guest, f"systemctl show --property=MainPID --value {_UNIT}")
    return XServer(guest, int(pid))


def on_region(audit: Audit, region: Region) -> tuple[PageMapping, ...]:
    """The mappings of some physical memory, however many pages it has."""
    return audit.seen.of(region.start // PAGE_SIZE, region.pages, most=max(region.pages, 256))


def run(guest: Guest, command: str) -> str:
    """The output of a command in a guest's shell, without white space around it.

    :param guest: The guest, whose agent gives shells.
    :param command: Shell lines.
    :raises GuestError: the command fails; its last lines are the message's details.
    """
    result = guest.shell(command)
    if result.status:
        details = tuple(result.output.splitlines()[-20:])
        raise GuestError(f"status {result.status} of {command!r} in the guest", details=details)
    return result.output.strip()
