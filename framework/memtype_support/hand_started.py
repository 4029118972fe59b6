"""A machine that somebody has started by hand, what is left on it, and what lies between."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from pytest_memtype.distribution.system import distribution, own_kernel
from pytest_memtype.errors import HostError, MemtypeError
from pytest_memtype.host import resources
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.machine.process import ChildProcess
from pytest_memtype.machine.wait import deadline_after, poll
from pytest_memtype.ssh import keys
from pytest_memtype.ssh.connection import Address, Connection
from pytest_memtype.target.address import TargetAddress

SCRIPT = resources.testcases().parent / "docs" / "target-in-qemu.sh"

#: Where ivshmem's 16 MiB are: SeaBIOS puts the only prefetchable BAR there.
MEMORY = 0xFD000000
CONFIG = f'[[memory]]\naddress = {MEMORY:#x}\nsize = "16M"\nwhat = "ivshmem"\n'

_BOOT = 240.0

# What a run may leave, or forget to put back.
_LOOK = """
grep '^memtype ' /proc/modules
ps -e -o args | grep '[a]gent --port'
ls -d /run/memtype-* /dev/shm/memtype-* /var/tmp/memtype-* /tmp/memtype-* 2> /dev/null
grep -v uncachable /proc/mtrr
[ "$(cut -f 1 /proc/sys/kernel/printk)" = "$(cat /run/printk)" ] || cat /proc/sys/kernel/printk
"""


def one_line(error: MemtypeError) -> str:
    assert len(error.message.splitlines()) == 1
    return error.message


@contextlib.contextmanager
def hand_started(folder: Path) -> Iterator[HandStarted]:
    """A machine that runs until the end of the block, with what it needs in ``folder``."""
    # So that the script, which has a time limit here, finds them.
    kernel = bundle(own_kernel("debian:bookworm", progress=silent))
    distribution("debian:bookworm", kernel, progress=silent)
    with _reserved_port() as ssh_port, _reserved_port() as console_port:
        # As people write it: .venv/bin/python.
        command = ["env", f"PYTHON={os.path.relpath(sys.executable)}", str(SCRIPT), str(folder)]
        process = ChildProcess([*command, str(ssh_port), str(console_port)], output=folder / "output")
        try:
            _wait_for_sshd(process, folder)
            made = HandStarted(folder, ssh_port, console_port)
            made.run("cut -f 1 /proc/sys/kernel/printk > /run/printk")
            yield made
        finally:
            process.close()


@contextlib.contextmanager
def _reserved_port() -> Iterator[int]:
    """A port that the operating system gives to nobody else, and QEMU may listen on.

    A second socket may bind a port when both have SO_REUSEADDR, as QEMU's have, and none listens yet; to
    one that leaves the choice open it is never given (Linux, net/ipv4/inet_connection_sock.c).
    """
    with socket.socket() as reserving:
        reserving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserving.bind(("127.0.0.1", 0))
        yield int(reserving.getsockname()[1])


def _wait_for_sshd(process: ChildProcess, folder: Path) -> None:
    deadline = deadline_after(_BOOT)
    log = folder / "console.log"
    while not (log.exists() and b"sshd listens" in log.read_bytes()):
        if poll([process.pidfd], (), min(deadline, deadline_after(0.2))):
            raise HostError(f"the machine ended: {(folder / 'output').read_text()}")
        if deadline_after(0) > deadline:
            raise HostError(f"no sshd in {_BOOT:.0f} s: {log.read_text(errors='replace')[-2000:]}")


@dataclass
class HandStarted:
    """A machine.

    :param folder: The script's.
    """

    folder: Path
    ssh_port: int
    console_port: int

    def address(self, *, port: int | None = None, config: Path | None = None) -> TargetAddress:
        return TargetAddress(
            Address("127.0.0.1", port or self.ssh_port),
            identity=self.folder / "identity",
            host_key=str(self.folder / "host_key.pub"),
            console=f"socket://127.0.0.1:{self.console_port}",
            config=config,
        )

    @property
    def url(self) -> str:
        identity, host_key = quote(str(self.folder / "identity")), quote(str(self.folder / "host_key.pub"))
        return f"ssh://root@127.0.0.1:{self.ssh_port}?identity={identity}&host-key={host_key}"

    def run(self, command: str) -> str:
        """Run a command there, over a connection that has nothing to do with what is tested."""
        host_key = keys.public_key((self.folder / "host_key.pub").read_text().strip(), where="the script")
        identity = keys.identity(self.folder / "identity")
        with Connection(Address("127.0.0.1", self.ssh_port), identity=identity, host_key=host_key) as second:
            return second.run(command).output

    def left(self, *, within: int = 0) -> str:
        """What there is of ours, when it has had so many seconds to go."""
        return self.run(
            f'look() {{ {_LOOK} }}; n=0; while [ -n "$(look)" ] && [ $n -lt {within} ]; do '
            "sleep 1; n=$((n+1)); done; look"
        )


@dataclass
class Wire:
    """What lies between us and a port of this host: it can be cut, or swallow everything."""

    port: int
    silent: threading.Event = field(default_factory=threading.Event)
    _ends: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.near: int = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._server.accept()
                theirs = socket.create_connection(("127.0.0.1", self.port))
                self._ends += [ours, theirs]
                for source, sink in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._move, args=(source, sink), daemon=True).start()

    def _move(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if not self.silent.is_set():
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
