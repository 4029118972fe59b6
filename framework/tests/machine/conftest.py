"""Guests that need no kernel: QEMU paused at reset, or running real-mode code from an option ROM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.qemu_command import QemuConfig

CONSOLE, AGENT = 0x3F8, 0x2F8

ENDS = {
    # cli; hlt; jmp to the hlt.
    "halt": bytes.fromhex("FA F4 EB FD"),
    # out 0xCF9, 6: a full reset (Intel ICH9 datasheet, "RST_CNT: Reset Control Register").
    "reset": bytes.fromhex("BA F9 0C B0 06 EE FA F4 EB FD"),
    # Send back what arrives on the agent's port: wait for bit 0 of its line status register, in, out.
    "echo": bytes.fromhex("BA FD 02 EC A8 01 74 FB BA F8 02 EC EE EB F1"),
    # Print newlines on the console for ever.
    "flood": bytes.fromhex("BA F8 03 B0 0A EE EB FD"),
}


def write(port: int, text: bytes) -> bytes:
    """mov dx, port; then mov al, byte and out dx, al for each byte."""
    return b"\xba" + port.to_bytes(2, "little") + b"".join(b"\xb0%c\xee" % byte for byte in text)


def option_rom(code: bytes) -> bytes:
    """Signature, length in 512-byte blocks, code, and a last byte that makes the sum 0 (Plug and Play BIOS
    Specification 1.0A, "Option ROM Header")."""
    blocks = (3 + len(code) + 1 + 511) // 512
    rom = (b"\x55\xaa%c" % blocks + code).ljust(blocks * 512 - 1, b"\0")
    return rom + bytes([-sum(rom) & 0xFF])


@pytest.fixture(autouse=True)
def _temporary_files_of_its_own(temporary_files: Path) -> None:
    """What a machine leaves behind is seen by its own test alone."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """Starts a guest that, once resumed, prints on its ports and then does one of ``ENDS``."""
    with ExitStack() as stack:

        def start_machine(
            guest: QemuConfig | None = None,
            *,
            console: bytes = b"",
            agent: bytes = b"",
            then: str | None = None,
        ) -> Machine:
            rom = None
            if then is not None:
                rom = option_rom(write(CONSOLE, console) + write(AGENT, agent) + ENDS[then])
            logs = tmp_path / f"logs{len(list(tmp_path.glob('logs*')))}"
            return stack.enter_context(Machine.start(guest or QemuConfig(), logs=logs, boot_rom=rom))

        yield start_machine


@pytest.fixture
def before_waiting() -> Callable[[Machine, Callable[[], object]], None]:
    """Lets something happen when a machine next begins to wait, before it can be given what it waits for."""

    def arrange(machine: Machine, happen: Callable[[], object]) -> None:
        ready = machine.ready

        def ready_after(**arguments: Any) -> bool:
            vars(machine)["ready"] = ready
            happen()
            return ready(**arguments)

        vars(machine)["ready"] = ready_after

    return arrange
