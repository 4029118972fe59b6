import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_memtype.errors import GuestExited, GuestHung, GuestPanicked
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.qemu_command import QemuConfig

Start = Callable[..., Machine]
BeforeWaiting = Callable[[Machine, Callable[[], object]], None]

#: Waits for a guest that says nothing, in a process of its own.
WAITING = """
import sys, tempfile
from pathlib import Path
from pytest_memtype.machine.qemu_command import QemuConfig
from pytest_memtype.machine.machine import Machine
tempfile.tempdir = sys.argv[1]
with Machine.start(QemuConfig(), logs=Path(sys.argv[2])) as machine:
    print(machine.process.pid, flush=True)
    machine.agent_port.expect_exact("never")
"""


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def gone(machine: Machine) -> bool:
    try:
        os.kill(machine.process.pid, 0)
    except ProcessLookupError:
        return not machine.directory.exists()
    return False


@pytest.fixture
def waiting(temporary_files: Path, tmp_path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WAITING, str(temporary_files), str(tmp_path / "waiting")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_close_leaves_the_logs_and_nothing_else(start: Start, temporary_files: Path) -> None:
    start().close()  # The background thread and its descriptors stay from the first machine on.
    before = descriptors()
    machine = start(console=b"text", then="halt")
    machine.resume()
    machine.console.expect_exact("text")
    assert machine.alive
    assert machine.death() is None
    machine.close()
    assert not machine.alive
    assert gone(machine)
    assert descriptors() == before
    assert list(temporary_files.iterdir()) == []
    names = sorted(path.name for path in machine.logs.iterdir())
    assert names == ["agent.log", "boot-rom.bin", "console.log", "qemu.log", "qmp.log"]
    machine.close()
    with pytest.raises(GuestExited, match="closed before"):
        machine.agent_port.expect_exact("x", timeout=0)


def test_sigkill_leaves_nothing(start: Start) -> None:
    machine = start()
    os.kill(machine.process.pid, signal.SIGKILL)
    with pytest.raises(GuestExited):
        machine.console.expect_exact("never")
    death = machine.death()
    assert isinstance(death, GuestExited)
    assert "was killed by SIGKILL" in death.message
    machine.close()
    assert gone(machine)


def test_death_is_seen_though_somebody_holds_the_port_open(
    start: Start, before_waiting: BeforeWaiting
) -> None:
    machine = start()
    other = os.open(machine.directory / "agent.out", os.O_WRONLY | os.O_NONBLOCK)
    before_waiting(machine, lambda: os.kill(machine.process.pid, signal.SIGKILL))
    with pytest.raises(GuestExited, match="was killed by SIGKILL"):
        machine.agent_port.expect_exact("never")
    os.close(other)


def test_ctrl_c_inside_a_wait(start: Start, before_waiting: BeforeWaiting) -> None:
    machine = start()
    os.kill(machine.process.pid, signal.SIGSTOP)
    before_waiting(machine, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), machine:
        machine.qmp.execute("query-status")
    assert gone(machine)


def test_ctrl_c_of_the_terminal(waiting: subprocess.Popen[str], temporary_files: Path) -> None:
    assert waiting.stdout is not None
    with waiting:
        pidfd = os.pidfd_open(int(waiting.stdout.readline()))
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate()
        assert "KeyboardInterrupt" in errors
    assert select.select([pidfd], [], [], 0)[0]
    os.close(pidfd)
    assert list(temporary_files.iterdir()) == []


def test_sigkill_of_this_process(waiting: subprocess.Popen[str], temporary_files: Path, start: Start) -> None:
    assert waiting.stdout is not None
    with waiting:
        pidfd = os.pidfd_open(int(waiting.stdout.readline()))
        waiting.kill()
    assert select.select([pidfd], [], [], 60)[0]
    os.close(pidfd)
    # What outlived it removes what it left.
    deadline = time.monotonic() + 60
    while any(temporary_files.iterdir()):
        assert time.monotonic() < deadline
    machine = start()
    assert list(temporary_files.iterdir()) == [machine.directory]


def test_panic(start: Start) -> None:
    text = b"BUG: unable to handle page fault\n\x1b[31mKernel panic - not syncing: Fatal exception\n"
    machine = start(console=text, then="reset")
    machine.resume()
    with pytest.raises(GuestPanicked) as caught:
        machine.agent_port.expect_exact("never")
    assert caught.value.message.endswith(": Kernel panic - not syncing: Fatal exception")
    assert "    BUG: unable to handle page fault" in caught.value.details
    assert "    \\x1b[31mKernel panic - not syncing: Fatal exception" in caught.value.details
    assert f"kernel console: {machine.console.log}" in caught.value.details
    assert isinstance(machine.death(), GuestPanicked)


def test_rerun_command_runs_the_same_guest(start: Start) -> None:
    machine = start(console=b"again\n", then="reset")
    machine.resume()
    with pytest.raises(GuestExited) as caught:
        machine.console.expect_exact("never")
    machine.close()
    (line,) = (line for line in caught.value.details if line.startswith("run this guest again: "))
    script = line.removeprefix("run this guest again: ")
    assert script == str(machine.logs / "rerun.sh")
    output = subprocess.run([script], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)
    assert b"again\n" in output.stdout


def test_reset_without_panic(start: Start) -> None:
    machine = start(then="reset")
    machine.resume()
    with pytest.raises(GuestExited, match=r"^the guest reset itself \(waiting for 'never' on"):
        machine.console.expect_exact("never")


def test_qemu_that_refuses(start: Start, temporary_files: Path) -> None:
    with pytest.raises(GuestExited, match=r"unable to find CPU model 'nope' \(starting QEMU\)"):
        start(QemuConfig(Hardware(cpu="nope")))
    assert list(temporary_files.iterdir()) == []


def test_qemu_that_does_not_start_in_time(tmp_path: Path, temporary_files: Path) -> None:
    with pytest.raises(GuestHung, match="starting QEMU"):
        Machine.start(QemuConfig(), logs=tmp_path / "logs", timeout=0)
    assert list(temporary_files.iterdir()) == []


def test_ram_file_and_state(start: Start, tmp_path: Path) -> None:
    ram = tmp_path / "ram"
    template = start(QemuConfig(Hardware(memory="96M"), ram_file=ram))
    assert ram.stat().st_size == 96 << 20
    template.close()
    state = tmp_path / "state"
    state.touch()
    clone = start(QemuConfig(Hardware(memory="96M"), ram_file=ram, ram_share=False, state=state))
    assert clone.state_fd >= 0
    assert clone.qmp.execute("query-status")["status"] == "inmigrate"


@pytest.mark.parametrize("cpus", [1, 2])
def test_test_device_is_16_mib_prefetchable(start: Start, cpus: int) -> None:
    machine = start(QemuConfig(Hardware(cpus=cpus)))
    (bus,) = machine.qmp.execute("query-pci")
    (device,) = (device for device in bus["devices"] if device["qdev_id"] == "testdevice")
    (bar,) = (region for region in device["regions"] if region["bar"] == 0)
    assert (bar["size"], bar["prefetch"]) == (16 << 20, True)
