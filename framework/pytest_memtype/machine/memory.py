"""A guest's RAM, read and written from outside while the guest runs."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype.errors import HostError, UsageError
from pytest_memtype.machine.hardware import RamRange
from pytest_memtype.machine.wait import Waiter
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal

# proc(5), /proc/pid/maps: addresses, permissions, offset, device and inode (0: no file), path.
_MAPPING = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) (\S+ [1-9]\d*) .*")


@shown_in_hexadecimal("first", "last", "address")
@dataclass(frozen=True)
class _Window:
    """A mapping of RAM in QEMU: the offsets [first, last) are at ``address`` of the process."""

    first: int
    last: int
    address: int


class GuestMemory:
    """A guest's RAM by guest-physical address, reached through QEMU's own address space.

    The pages that a clone has written are its own, and no file has them.

    :param pid: QEMU's process id.
    :param ram: The ranges of RAM, see :attr:`pytest_memtype.machine.hardware.Hardware.ram`.
    :param plugged: What was plugged in, with offsets that are addresses in QEMU. Later changes count, too.
    :param waiter: The machine.
    :raises HostError: this host doesn't let a process look into its child, or doesn't show where RAM is.
    :raises GuestExited: QEMU ended.
    """

    def __init__(
        self, pid: int, ram: Sequence[RamRange], plugged: Mapping[str, RamRange], *, waiter: Waiter
    ) -> None:
        self._waiter = waiter
        self._plugged = plugged
        try:
            self._file = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except PermissionError:
            raise HostError(
                f"the guest's memory can't be reached from outside: /proc/{pid}/mem may not be opened; "
                "set the sysctl kernel.yama.ptrace_scope to 0 or 1"
            ) from None
        except ProcessLookupError:
            # It has ended, and nobody has waited for it yet (seen with Linux 6.18).
            raise waiter.ended("reaching the guest's memory") from None
        try:
            maps = Path(f"/proc/{pid}/maps").read_bytes()
            self._windows = _windows(maps, sum(each.size for each in ram))
            self._ram = [RamRange(each.start, each.size, self._mapped(each, pid)) for each in ram]
        except BaseException:
            self.close()
            raise

    @property
    def ranges(self) -> list[RamRange]:
        """The RAM at this moment by guest-physical address, with offsets that are addresses in QEMU."""
        return sorted([*self._ram, *self._plugged.values()], key=lambda each: each.start)

    def read(self, address: int, length: int) -> bytes:
        """The bytes at a guest-physical address.

        :param address: Guest-physical address of the first byte.
        :param length: Number of bytes; they have to lie in one range of RAM.
        :raises GuestExited: QEMU ended.
        :raises UsageError: the bytes are not all RAM.
        """
        place = self._locate(address, length)
        # EIO where the process is about to end (Linux, mm/memory.c, access_remote_vm).
        with contextlib.suppress(OSError):
            data = os.pread(self._file, length, place)
            if len(data) == length:
                return data
        raise self._waiter.ended("reading the guest's memory")

    def write(self, address: int, data: bytes) -> None:
        """Overwrite the bytes at a guest-physical address; raises as :meth:`read` does."""
        place = self._locate(address, len(data))
        with contextlib.suppress(OSError):
            if os.pwrite(self._file, data, place) == len(data):
                return
        raise self._waiter.ended("writing to the guest's memory")

    def close(self) -> None:
        """Close the file of QEMU's memory. Calling this again does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _locate(self, address: int, length: int) -> int:
        for piece in self.ranges:
            if piece.start <= address and address + length <= piece.start + piece.size:
                return piece.offset + address - piece.start
        raise UsageError(f"guest-physical {address:#x}, {length} bytes: the guest has no such RAM")

    def _mapped(self, piece: RamRange, pid: int) -> int:
        """The address in QEMU at which a piece of RAM is mapped."""
        place = self._in_process(piece.offset, piece.size)
        if place is None:
            # The file is empty for a process that has ended.
            if not self._windows and not Path(f"/proc/{pid}/maps").read_bytes():
                raise self._waiter.ended("looking for the guest's memory")
            raise HostError(
                f"the guest's memory can't be reached from outside: /proc/{pid}/maps has no mapping of its "
                f"{piece.size:#x} bytes at {piece.start:#x}"
            )
        return place

    def _in_process(self, offset: int, length: int) -> int | None:
        for window in self._windows:
            if window.first <= offset and offset + length <= window.last:
                return window.address + offset - window.first
        return None


def host_address(monitor: Callable[[str], str], address: int) -> int:
    """Ask QEMU where in its own memory a guest-physical address is kept.

    :param monitor: Called with a command of QEMU's human monitor; gives its output.
    :param address: The guest-physical address.
    :raises UsageError: QEMU doesn't say.
    """
    # QEMU 2.9 and later: "Host virtual address for 0x100000 (ram) is 0x7ffb940ff000".
    answer = monitor(f"gpa2hva {address:#x}")
    match = re.search(r" is 0x([0-9a-f]+)", answer)
    if match is None:
        said = " ".join(answer.split())[:200]
        raise UsageError(f"QEMU doesn't say where it keeps guest-physical {address:#x}: {said}")
    return int(match[1], 16)


def _windows(maps: bytes, size: int) -> list[_Window]:
    """The mappings of the file that is ``size`` bytes long, which is the guest's RAM.

    The name doesn't tell: a template that is removed while a clone lives is renamed first, and one that boots
    has its memory in no folder.

    :param maps: ``/proc/PID/maps`` of QEMU, in which names of files are any bytes but the end of a line.
    :param size: Bytes of all RAM.
    :raises HostError: another file is as long, such as one of ``hardware(objects=...)``.
    """
    files: dict[bytes, list[_Window]] = {}
    for line in maps.split(b"\n"):
        match = _MAPPING.fullmatch(line)
        if match:
            start, end, offset = (int(match[number], 16) for number in (1, 2, 3))
            window = _Window(first=offset, last=offset + end - start, address=start)
            files.setdefault(match[4], []).append(window)
    found = [each for each in files.values() if max(window.last for window in each) == size]
    if len(found) > 1:
        raise HostError(
            f"the guest's memory can't be told from a memory object that is as large, {size:#x} bytes: give "
            "one of them another size"
        )
    return found[0] if found else []
