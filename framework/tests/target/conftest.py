"""A machine that somebody has started by hand: with the script of docs/on-real-hardware.md."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hand_started import BOOT, CONFIG, SCRIPT, HandStarted

from pytest_memtype.distribution.system import distribution, own_kernel
from pytest_memtype.errors import HostError
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.machine.process import Process
from pytest_memtype.machine.wait import deadline_after, poll
from pytest_memtype.progress import silent
from pytest_memtype.target.target import Target


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HandStarted]:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not on this host")
    # So that the script, which has a time limit here, finds them.
    kernel = bundle(own_kernel("debian:bookworm", progress=silent))
    distribution("debian:bookworm", kernel, progress=silent)
    folder = tmp_path_factory.mktemp("machine")
    ports = [_free_port(), _free_port()]
    command = ["env", f"PYTHON={sys.executable}", str(SCRIPT), str(folder), *map(str, ports)]
    process = Process(command, output=folder / "output")
    try:
        _wait_for_sshd(process, folder)
        made = HandStarted(folder, *ports)
        made.run("cut -f 1 /proc/sys/kernel/printk > /run/printk")
        yield made
    finally:
        process.close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "machine.toml"
    path.write_text(f"shell = true\nlease = 8\n{CONFIG}")
    return path


@pytest.fixture
def target(machine: HandStarted, config: Path, tmp_path: Path) -> Iterator[Callable[..., Target]]:
    """Makes targets: ``target(port=)``. They are closed with the test."""
    made: list[Target] = []

    def make(*, port: int | None = None, dry_run: Callable[[str], None] | None = None) -> Target:
        address = machine.address(port=port, config=config)
        made.append(Target(address, logs=tmp_path / "logs", progress=silent, dry_run=dry_run))
        return made[-1]

    yield make
    for each in made:
        each.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait_for_sshd(process: Process, folder: Path) -> None:
    deadline = deadline_after(BOOT)
    log = folder / "console.log"
    while not (log.exists() and b"sshd listens" in log.read_bytes()):
        if poll([process.pidfd], (), min(deadline, deadline_after(0.2))):
            raise HostError(f"the machine ended: {(folder / 'output').read_text()}")
        if deadline_after(0) > deadline:
            raise HostError(f"no sshd in {BOOT:.0f} s: {log.read_text(errors='replace')[-2000:]}")
