"""Connections to the sshd of a real Debian guest, and what becomes of them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from errno import EINVAL, EKEYREJECTED, ENOEXEC, EPERM
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, cast

import paramiko
import pytest
from paramiko import common
from paramiko.common import AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from pytest_memtype import Guest
from pytest_memtype.errors import (
    GuestError,
    GuestExited,
    ModuleNotLoaded,
    ModuleRefused,
    SshDiskFull,
    SshError,
    SshHostKeyChanged,
    SshKeyRefused,
    SshLost,
    SshRefused,
)
from pytest_memtype.guest import ssh
from pytest_memtype.machine.network import LOOPBACK, close_port, open_port
from pytest_memtype.ssh.connection import Address, Connection, Finished
from pytest_memtype.ssh.deploy import deploy, refusal, undeploy
from pytest_memtype.ssh.keys import key_of, new_private_key, public_key

pytestmark = pytest.mark.distribution("debian:bookworm")

# What serves a connection has another name from OpenSSH 9.8 on.
CUT = "pkill -KILL -f 'sshd(-session)?: root'"
FOLDERS = "ls -d /run/memtype-* /dev/shm/memtype-* 2> /dev/null | wc -l"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """What stands for the agent and its module."""
    agent, module = tmp_path / "agent", tmp_path / "memtype.ko"
    agent.write_bytes(b"#!/bin/sh\necho agent\n")
    module.write_bytes(bytes(1 << 20))
    return agent, module


def test_commands_and_files(guest: Guest) -> None:
    connection = guest.ssh()
    done = connection.run("echo out; echo err >&2; exit 3")
    assert (done.status, sorted(done.output.split())) == (3, ["err", "out"])
    assert connection.run("wc -c", data=bytes(3_000_000)).output.strip() == "3000000"
    content = bytes(range(256)) * 1000
    connection.upload(content, PurePosixPath("/run/file"), mode=0o640)
    assert guest.shell("stat -c '%a %s' /run/file").output.strip() == "640 256000"
    assert connection.run("base64 -w0 /run/file | wc -c").output.strip() == str(4 * -(-len(content) // 3))
    assert guest.shell("ls /run/file.unfinished").status != 0


def test_nothing_of_the_users_is_used(guest: Guest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither looked at nor written to: a home without .ssh is one afterwards."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "no-agent"))
    assert guest.ssh().run("true").status == 0
    assert list(tmp_path.iterdir()) == []
    assert (
        guest.ssh().run("sshd -T | grep -i ^passwordauthentication").output == "passwordauthentication no\n"
    )


def test_only_loopback_leads_there(guest: Guest) -> None:
    guest.ssh()
    said = guest.machine.qmp.execute("human-monitor-command", {"command-line": "info usernet"})
    forwards = [line.split() for line in said.splitlines() if "HOST_FORWARD" in line]
    assert forwards
    assert {words[2] for words in forwards} == {LOOPBACK}


def test_wrong_key(guest: Guest) -> None:
    host_key = public_key(guest.shell(f"cat {ssh.HOST_KEY}").output, where="the guest")
    address = Address(LOOPBACK, open_port(guest.machine, 22))
    with pytest.raises(SshKeyRefused, match=r"doesn't let the key SHA256:.* in; add its public half"):
        Connection(address, identity=key_of(new_private_key()), host_key=host_key)


def test_changed_host_key(guest: Guest) -> None:
    guest.ssh()
    address = Address(LOOPBACK, open_port(guest.machine, 22))
    with pytest.raises(SshHostKeyChanged, match=r"its host key is SHA256:.*, not the expected SHA256:"):
        Connection(address, identity=ssh.own_key(), host_key=key_of(new_private_key()))


def test_nobody_listens(guest: Guest) -> None:
    opened = open_port(guest.machine, 22)
    close_port(guest.machine, opened)
    with pytest.raises(SshRefused, match=rf"127\.0\.0\.1:{opened}: can't be reached \(Connection refused\)"):
        Connection(Address(LOOPBACK, opened), identity=ssh.own_key(), host_key=key_of(new_private_key()))


def reach(server: socket.socket) -> None:
    """What listens there is taken for an sshd."""
    address = Address(LOOPBACK, server.getsockname()[1])
    Connection(address, identity=ssh.own_key(), host_key=key_of(new_private_key()), timeout=60)


def test_what_does_not_speak_ssh() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        thread = threading.Thread(target=lambda: server.accept()[0].close())
        thread.start()
        with pytest.raises((SshRefused, SshLost)):
            reach(server)
        thread.join()


def test_what_the_other_side_sends_moves_no_cursor() -> None:
    """Its banner is quoted in the message."""
    with socket.create_server((LOOPBACK, 0)) as server:

        def answer() -> None:
            with server.accept()[0] as accepted:
                accepted.sendall(b"\x1b[2J\x1b]0;mine\x07\n" * 200)
                accepted.recv(1 << 16)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SshRefused, match="doesn't speak SSH") as raised:
            reach(server)
        thread.join()
    assert "mine" in raised.value.message
    assert raised.value.message.isprintable()


def packet(payload: bytes) -> bytes:
    """A packet before any key is agreed on: RFC 4253, 6."""
    padding = 16 - (5 + len(payload)) % 8
    length = (1 + len(payload) + padding).to_bytes(4, "big")
    return length + bytes([padding]) + payload + bytes(padding)


NOT_UTF_8 = (1).to_bytes(4, "big") + b"\xff"


@pytest.mark.parametrize(
    "payload",
    [
        bytes([common.MSG_KEXINIT]) + bytes(16) + NOT_UTF_8 * 10 + bytes(5),
        bytes([common.MSG_DISCONNECT]) + bytes(4) + NOT_UTF_8 * 2,
    ],
    ids=["names of algorithms", "reason"],
)
def test_what_makes_no_sense_is_no_ssh(payload: bytes) -> None:
    with socket.create_server((LOOPBACK, 0)) as server:

        def answer() -> None:
            with server.accept()[0] as accepted:
                accepted.sendall(b"SSH-2.0-memtype\r\n" + packet(payload))
                # Until the other side closes.
                while accepted.recv(1 << 16):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SshRefused, match="makes no sense") as raised:
            reach(server)
        thread.join()
    assert "\n" not in raised.value.message


def while_running(guest: Guest, connection: Connection, act: Callable[[], object]) -> GuestError:
    """What a command ends with when ``act`` is done in the middle of it."""

    def act_then() -> None:
        guest.shell("until pgrep -x -f 'sleep 600' > /dev/null; do :; done")
        act()

    acting = threading.Thread(target=act_then)
    acting.start()
    try:
        with pytest.raises(GuestError) as caught:
            connection.run("sleep 600")
        return caught.value
    finally:
        acting.join()


def test_connection_cut_in_the_middle(guest: Guest) -> None:
    connection = guest.ssh()
    error = while_running(guest, connection, lambda: guest.shell(CUT))
    assert isinstance(error, SshLost)
    # The command may run before we are told that it does.
    assert re.search("the connection was lost while (starting|running) sleep 600", error.message)
    assert "\n" not in error.message
    with pytest.raises(SshLost):
        connection.run("true")
    assert guest.ssh().run("true").status == 0


def test_upload_cut_in_the_middle_leaves_nothing(guest: Guest) -> None:
    """To the other side a broken connection is the end of the file."""
    connection = guest.ssh()
    cut = f"until [ -s /run/file.unfinished ]; do :; done; {CUT}"
    cutting = threading.Thread(target=guest.shell, args=(cut,))
    cutting.start()
    with pytest.raises(SshLost, match="the connection was lost while"):
        connection.upload(bytes(32 << 20), PurePosixPath("/run/file"))
    cutting.join()
    # What sshd started ends by itself, at the latest when the guest's clock has gone on by 20 s.
    gone = "for turn in $(seq 200); do [ -e /run/file.unfinished ] || exit 0; sleep 0.1; done; exit 1"
    assert guest.shell(gone).status == 0
    assert guest.shell("ls /run/file").status != 0


def test_guest_that_dies_is_what_is_told(guest: Guest) -> None:
    """Losing the connection is a guest event like the others."""
    connection = guest.ssh()
    error = while_running(guest, connection, lambda: os.kill(guest.machine.process.pid, signal.SIGKILL))
    assert isinstance(error, GuestExited)


@pytest.mark.parametrize("command", ["sleep 600", "yes"])
def test_command_that_is_not_done_in_time(guest: Guest, command: str) -> None:
    """One that never says anything, and one that never stops."""
    with pytest.raises(SshError, match=f"not done in 1 s: {command}"):
        guest.ssh().run(command, timeout=1)


def test_a_machine_that_does_not_begin_in_time(guest: Guest) -> None:
    """It stands still. QEMU goes on to take what is sent there, so that no connection is lost."""
    connection = guest.ssh()
    guest.qmp.execute("stop")
    with pytest.raises(SshError, match="not done in 1 s: true"):
        connection.run("true", timeout=1)
    guest.qmp.execute("cont")
    assert connection.run("true").status == 0


class LateNonsense(paramiko.ServerInterface):
    """Lets everybody in, and ends with a reason that is no text when it is asked for a channel."""

    def __init__(self) -> None:
        self.transport: Any = None

    def check_auth_publickey(self, *_: object) -> int:
        return AUTH_SUCCESSFUL

    def check_channel_request(self, *_: object) -> int:
        message = paramiko.Message(bytes([common.MSG_DISCONNECT]) + bytes(4) + NOT_UTF_8 * 2)
        self.transport._send_message(message)
        self.transport.close()
        return OPEN_SUCCEEDED


class SilentServer(paramiko.ServerInterface):
    """Lets everybody in, and never says whether it carries a command out."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.ended = threading.Event()

    def check_auth_publickey(self, *_: object) -> int:
        return AUTH_SUCCESSFUL

    def check_channel_request(self, *_: object) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, *_: object) -> bool:
        self.ended.wait()
        return False


@contextlib.contextmanager
def connected(server: LateNonsense | SilentServer) -> Iterator[Connection]:
    """A connection to a server of this process."""
    host_key = key_of(new_private_key())

    def serve(listening: socket.socket) -> None:
        server.transport = paramiko.Transport(listening.accept()[0])
        server.transport.add_server_key(host_key)
        server.transport.start_server(server=server)

    with socket.create_server((LOOPBACK, 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        address = Address(LOOPBACK, listening.getsockname()[1])
        with Connection(address, identity=ssh.own_key(), host_key=host_key) as connection:
            yield connection
        thread.join()


def test_a_command_that_is_answered_with_nonsense() -> None:
    with (
        connected(LateNonsense()) as connection,
        pytest.raises(SshLost, match="the connection was lost while starting true"),
    ):
        connection.run("true", timeout=20)


def test_a_command_that_is_never_answered() -> None:
    server = SilentServer()
    with connected(server) as connection, pytest.raises(SshError, match="not done in 1 s: true"):
        connection.run("true", timeout=1)
    server.ended.set()


def test_what_a_command_printed_is_told_with_its_failure() -> None:
    """Of a build the last line says only that make has failed."""
    connection = cast(Connection, SimpleNamespace(address=Address("lab")))
    lines = [*(f"line {number}" for number in range(40)), "a.c:7: error: no such thing", "make: Error 2"]
    error = Connection.failed(connection, "building", Finished(2, "\n".join(lines) + "\n"))
    assert error.message == "ssh://root@lab:22: building failed: make: Error 2"
    assert error.details == tuple(lines[-20:])
    assert Connection.failed(connection, "building", Finished(2, "one line\n")).details == ()
    assert Connection.failed(connection, "building", Finished(2, "")).message.endswith("exit status 2")


def test_disk_full(guest: Guest, files: tuple[Path, Path]) -> None:
    connection = guest.ssh()
    before = guest.shell(FOLDERS).output
    used = int(connection.run("df --output=used /run | tail -n 1").output)
    # Room for the agent, and not for a module of 1 MiB.
    assert connection.run(f"mount -o remount,size={used + 300}k /run").status == 0
    with pytest.raises(SshDiskFull, match=r"its disk is full \(writing /run/memtype-.*/memtype\.ko\); free"):
        deploy(connection, agent=files[0], module=files[1])
    assert guest.shell(FOLDERS).output == before


def test_deployed_and_withdrawn(guest: Guest, files: tuple[Path, Path]) -> None:
    connection = guest.ssh()
    before = guest.shell(FOLDERS).output
    deployed = deploy(connection, agent=files[0], module=files[1])
    assert connection.run(f"stat -c %a {deployed.folder}").output == "700\n"
    assert connection.run(str(deployed.agent)).output == "agent\n"
    undeploy(connection, deployed)
    assert guest.shell(FOLDERS).output == before


# How kmod's insmod puts an errno: tools/insmod.c, mod_strerror().
INSMOD = {
    "Operation not permitted": EPERM,
    "Key was rejected by service": EKEYREJECTED,
    "Invalid module format": ENOEXEC,
    "Invalid parameters": EINVAL,
}


def refused(guest: Guest, *, before: str) -> str:
    """What is said of the agent's own module, which no key has signed, when it is to be loaded once more.

    :param before: Shell lines that change the kernel's policy, or the copy of the module here.
    """
    connection = guest.ssh()
    copied = connection.run(f"mkdir /run/copy && cd /run/copy && cp /run/memtype-*/memtype.ko . && {before}")
    assert copied.status == 0, copied.output
    loaded = connection.run("insmod /run/copy/memtype.ko")
    assert loaded.status != 0
    said = connection.run("dmesg | tail -n 1 | sed 's/^[^]]*] //'").output.strip()
    code = next(code for text, code in INSMOD.items() if text in loaded.output)
    error = refusal(connection, ModuleNotLoaded(loaded.output.strip(), errno=code, kernel_says=said))
    assert isinstance(error, ModuleRefused)
    assert "\n" not in error.message
    return error.message


def test_module_refused_by_signature_policy(guest: Guest) -> None:
    said = refused(guest, before="echo 1 > /sys/module/module/parameters/sig_enforce")
    assert "its signature policy wants a signed one" in said


def test_module_refused_by_lockdown(guest: Guest) -> None:
    said = refused(guest, before="echo integrity > /sys/kernel/security/lockdown")
    assert "lockdown is integrity" in said


def test_module_of_another_kernel(guest: Guest) -> None:
    # Debian's kernels have CONFIG_MODVERSIONS, and so look at the version magic behind the release only
    # (Linux 6.1, kernel/module/version.c, same_magic()): "SMP preempt mod_unload modversions".
    said = refused(guest, before="sed -i 's/vermagic=\\([^ ]*\\) SMP/vermagic=\\1 UMP/' memtype.ko")
    assert "it was built for another kernel (version magic)" in said


def test_module_of_the_same_release_with_other_symbols(guest: Guest) -> None:
    # A section __versions is of pairs, 8 bytes of CRC and 56 of name (include/linux/module.h,
    # modversion_info). By another name it is loaded beside the agent's.
    spoil = (
        "LC_ALL=C sed -i 's/..\\(..\\x00\\x00\\x00\\x00misc_register\\x00\\)/XX\\1/; "
        "s/memtype\\x00/nemtype\\x00/g' memtype.ko"
    )
    said = refused(guest, before=spoil)
    assert "nemtype: Unknown symbol misc_register (err -22)" in said
    assert "give the headers of the very kernel" in said
