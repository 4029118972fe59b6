"""The guest's RAM from outside."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_memtype.errors import GuestExited, HostError, UsageError
from pytest_memtype.machine.hardware import MIB, Hardware, RamRange
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.memory import GuestMemory, _windows, host_address
from pytest_memtype.machine.qemu_command import QemuConfig
from pytest_memtype.machine.wait import Waiter

Start = Callable[..., Machine]

SIZE = 96 * MIB
HARDWARE = Hardware(memory="96M")


@pytest.mark.parametrize("address", [0x1000, 0x7FFFFF, SIZE - 5])
def test_what_is_written_is_read(start: Start, address: int) -> None:
    machine = start(QemuConfig(hardware=HARDWARE))
    machine.memory.write(address, b"hello")
    assert machine.memory.read(address, 5) == b"hello"
    assert machine.memory.read(address - 1, 1) == b"\0"


def test_it_is_what_the_guest_sees(start: Start) -> None:
    """QEMU's own view of guest-physical memory, through its monitor."""
    machine = start(QemuConfig(hardware=HARDWARE))
    machine.memory.write(0x500000, bytes(range(1, 9)))
    seen = machine.qmp.execute("human-monitor-command", {"command-line": "xp /1xg 0x500000"})
    assert "0x0807060504030201" in str(seen)


@pytest.mark.parametrize("address", [0x7FFFF000, 1 << 32, (1 << 32) + 0x2FFFF000])
def test_above_the_hole(start: Start, address: int) -> None:
    """2816 MiB: 2 GiB at 0, 768 MiB at 4 GiB. QEMU's own view says the same."""
    machine = start(QemuConfig(hardware=Hardware(memory="2816M")))
    machine.memory.write(address, bytes(range(1, 9)))
    seen = machine.qmp.execute("human-monitor-command", {"command-line": f"xp /1xg {address:#x}"})
    assert "0x0807060504030201" in str(seen)
    assert machine.memory.read(address, 8) == bytes(range(1, 9))


def test_ram_that_is_mapped_nowhere(start: Start) -> None:
    """Not taken for address 0 of QEMU, and no descriptor stays."""
    machine = start(QemuConfig(hardware=HARDWARE))
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(HostError, match="has no mapping of its 0x6000000 bytes at 0x0"):
        GuestMemory(
            machine.process.pid,
            [*HARDWARE.ram, RamRange(1 << 32, SIZE, SIZE)],
            {},
            waiter=machine,
        )
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


@pytest.mark.parametrize("address", [0x7FFFFFFC, 0x80000000, 0xFFFFFFFC, (1 << 32) + 0x2FFFFFFC])
def test_ends_of_split_ram(start: Start, address: int) -> None:
    machine = start(QemuConfig(hardware=Hardware(memory="2816M")))
    with pytest.raises(UsageError, match="the guest has no such RAM"):
        machine.memory.read(address, 8)


def test_a_private_copy_of_a_file_stays_private(start: Start, tmp_path: Path) -> None:
    """A clone's memory: the template's file must not change."""
    file = tmp_path / "ram, of a template"
    with file.open("wb") as out:
        out.truncate(SIZE)
        out.seek(0x500000)
        out.write(b"template")
    machine = start(QemuConfig(hardware=HARDWARE, ram_file=file, ram_share=False))
    assert machine.memory.read(0x500000, 8) == b"template"
    machine.memory.write(0x500000, b"changed!")
    assert machine.memory.read(0x500000, 8) == b"changed!"
    with file.open("rb") as text:
        text.seek(0x500000)
        assert text.read(8) == b"template"


MAPS = b"""\
7f0000000000-7f0000002000 r-xp 00000000 fe:00 1234 /usr/lib/libc.so.6
7f1000000000-7f1000001000 rw-s 00000000 00:01 77 /memfd:ram (deleted)
7f1000001000-7f1000004000 rw-s 00001000 00:01 77 /memfd:ram (deleted)
7f2000000000-7f2000004000 rw-p 00000000 00:00 0
7f2000010000-7f2000014000 rw-p 00000000 00:00 0 [heap]
7f3000000000-7f3000008000 r--p 00000000 fe:00 99 /boot/initrd, with a space
"""


def test_ram_is_the_file_of_its_size() -> None:
    """As in proc(5), "/proc/pid/maps"; RAM of four pages in two mappings, memory without a file as long."""
    found = [(each.first, each.last, each.address) for each in _windows(MAPS, 0x4000)]
    assert found == [(0, 0x1000, 0x7F1000000000), (0x1000, 0x4000, 0x7F1000001000)]
    assert _windows(MAPS, 0x3000) == []
    other = MAPS + b"7f4000000000-7f4000004000 rw-s 00000000 00:01 78 /memfd:memory-backend-memfd (deleted)\n"
    with pytest.raises(HostError, match="can't be told from a memory object that is as large, 0x4000 bytes"):
        _windows(other, 0x4000)


def test_names_of_files_are_any_bytes() -> None:
    """Only the end of a line is escaped there (proc(5)): neither what isn't UTF-8, nor other line breaks."""
    for name in (b"/home/j\xf6rg/ram", "/home/a\u2028b\x85c\rd/ram".encode()):
        mapped = b"7f1000000000-7f1000004000 rw-p 00000000 fe:00 12 %b\n" % name
        (found,) = _windows(mapped, 0x4000)
        assert (found.first, found.last, found.address) == (0, 0x4000, 0x7F1000000000)


def test_where_qemu_keeps_it() -> None:
    said = "Host virtual address for 0x100000 (ram) is 0x7ffb940ff000\r\n"
    assert (
        host_address(lambda command: said if command == "gpa2hva 0x100000" else "", 0x100000)
        == 0x7FFB940FF000
    )
    with pytest.raises(UsageError, match="doesn't say where it keeps guest-physical 0x100000: no"):
        host_address(lambda _: "no\r\n", 0x100000)
    with pytest.raises(UsageError) as raised:
        host_address(lambda _: "\x1b[2J no\r\n" * 1000, 0x100000)
    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 1000


@pytest.mark.parametrize(("address", "length"), [(SIZE, 1), (SIZE - 4, 5), (0xFD000000, 4), (-1, 4)])
def test_what_is_no_ram_is_refused(start: Start, address: int, length: int) -> None:
    machine = start(QemuConfig(hardware=HARDWARE))
    with pytest.raises(UsageError, match="the guest has no such RAM"):
        machine.memory.read(address, length)
    with pytest.raises(UsageError, match="the guest has no such RAM"):
        machine.memory.write(address, b"x" * length)


def test_the_memory_of_a_guest_that_ended_is_gone(start: Start) -> None:
    machine = start(QemuConfig(hardware=HARDWARE))
    memory = machine.memory
    os.kill(machine.process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, machine.process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(GuestExited):
        memory.read(0, 1)
    with pytest.raises(GuestExited):
        memory.write(0, b"x")


def test_a_closed_machine_has_no_memory(start: Start) -> None:
    machine = start(QemuConfig(hardware=HARDWARE))
    machine.close()
    with pytest.raises(GuestExited):
        machine.memory.read(0, 1)


def test_a_host_that_forbids_it_is_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Yama's ptrace_scope is the host's own: here, only what it makes of open() can be had."""
    machine = start(QemuConfig(hardware=HARDWARE))
    allowed = os.open

    def forbidden(path: Any, *rest: Any, **options: Any) -> int:
        # The standard library opens files too, and not always with the same arguments.
        if str(path).endswith("/mem"):
            raise PermissionError(1, "Operation not permitted")
        return allowed(path, *rest, **options)

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(HostError, match=r"kernel\.yama\.ptrace_scope"):
        machine.memory.read(0, 1)


def test_a_qemu_that_ends_at_this_moment() -> None:
    """Linux 6.18 doesn't open the memory of a process that has ended; older versions open it empty."""

    class Ended:
        def ended(self, doing: str) -> GuestExited:
            return GuestExited(f"it ended ({doing})")

    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(GuestExited, match="it ended"):
            GuestMemory(process.pid, HARDWARE.ram, {}, waiter=cast("Waiter", Ended()))
