"""A connection to another machine: by key alone, to a host key that is known beforehand."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shlex
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Self

import paramiko

from pytest_memtype.console.text import sanitize
from pytest_memtype.errors import (
    GuestError,
    SshDiskFull,
    SshError,
    SshHostKeyChanged,
    SshKeyRefused,
    SshLost,
    SshRefused,
)
from pytest_memtype.machine.timeouts import COMMAND, CONNECT

#: Seconds between two messages that keep an idle connection alive.
KEEPALIVE: Final = 5

#: Seconds without an acknowledgement of sent data, after which the connection is lost.
SILENCE: Final = 30.0

_NO_SPACE = "No space left on device"
_LINES = 20
_PIECE = 1 << 15
# No command of ours prints as much, and none of a test's should.
_MOST_OUTPUT = 64 << 20

# What paramiko's thread meets in a message that makes no sense, it raises to whoever asks next, such as a
# ValueError of a text that isn't UTF-8 (5.1, message.py, get_text()).
_NONSENSE: Final = (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, struct.error)

# Without a handler paramiko prints errors that are raised here anyway on stderr, with a traceback.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Address:
    """The address of an sshd, and the user to log in as.

    :param host: Name or IP address of the machine.
    :param port: Number of its TCP port.
    :param user: Name of the user there.
    """

    host: str
    port: int = 22
    user: str = "root"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{self.user}@{host}:{self.port}"


@dataclass(frozen=True)
class Finished:
    """A command on another machine that ended.

    :param status: The exit status, as a shell has it in ``$?``.
    :param output: The text that it printed on both its outputs, sanitized.
    """

    status: int
    output: str


class Connection:
    """A connection by SSH. One thread at a time may use it, in a ``with`` statement or until :meth:`close`.

    Neither an agent nor anything in ``~/.ssh`` is looked at, and no password is ever sent.

    :param address: The sshd to reach, and the user.
    :param identity: The key that the other side lets in.
    :param host_key: The only host key that the other side may have; it is compared whole.
    :param timeout: Seconds for each step: TCP, keys, authentication.
    :param death: Called when the connection is lost: returns the error that says why the other side ended,
        which is raised in the place of ``SshLost``; None if it didn't end.
    :raises SshRefused: no program listens there, or it doesn't speak SSH, or not as it should.
    :raises SshHostKeyChanged: the other side has another host key.
    :raises SshKeyRefused: the other side doesn't let ``identity`` in.
    :raises SshLost: the other side went away meanwhile.
    """

    def __init__(
        self,
        address: Address,
        *,
        identity: paramiko.PKey,
        host_key: paramiko.PKey,
        timeout: float = CONNECT,
        death: Callable[[], GuestError | None] = lambda: None,
    ) -> None:
        self.address = address
        self._death = death
        self._client = paramiko.SSHClient()
        self._client.set_missing_host_key_policy(paramiko.RejectPolicy())
        name = (
            address.host if address.port == paramiko.config.SSH_PORT else f"[{address.host}]:{address.port}"
        )
        self._client.get_host_keys().add(name, host_key.get_name(), host_key)
        try:
            self._connect(identity, timeout)
        except BaseException:
            self._client.close()
            raise

    def _connect(self, identity: paramiko.PKey, timeout: float) -> None:
        address = self.address
        try:
            reached = socket.create_connection((address.host, address.port), timeout=timeout)
        except OSError as error:
            raise SshRefused(
                f"{address}: can't be reached ({error.strerror or error}); is it up, and does sshd listen?"
            ) from None
        with contextlib.suppress(OSError):
            reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENCE * 1000))
        try:
            self._client.connect(
                address.host,
                address.port,
                address.user,
                pkey=identity,
                sock=reached,
                allow_agent=False,
                look_for_keys=False,
                timeout=timeout,
                banner_timeout=timeout,
                auth_timeout=timeout,
                channel_timeout=timeout,
            )
        except paramiko.BadHostKeyException as error:
            raise SshHostKeyChanged(
                f"{address}: its host key is {error.key.fingerprint}, not the expected "
                f"{error.expected_key.fingerprint}; if the machine was installed anew "
                "give the new one, else somebody is in between"
            ) from None
        except paramiko.AuthenticationException:
            raise SshKeyRefused(
                f"{address}: it doesn't let the key {identity.fingerprint} in; add its public half to "
                f"~{address.user}/.ssh/authorized_keys there"
            ) from None
        except (paramiko.SSHException, EOFError, OSError) as error:
            reached.close()
            if "banner" in str(error) or "protocol version" in str(error):
                raise SshRefused(
                    f"{address}: what listens there doesn't speak SSH ({_reason(error)})"
                ) from None
            raise self._lost("it was made", error) from None
        except _NONSENSE as error:
            reached.close()
            raise SshRefused(
                f"{address}: what listens there makes no sense ({_reason(error)}); is it an sshd?"
            ) from None
        self._transport.set_keepalive(KEEPALIVE)

    @property
    def _transport(self) -> paramiko.Transport:
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            raise self._lost("nothing was asked of it", None)
        return transport

    @property
    def alive(self) -> bool:
        """Whether the connection is there, as far as has been noticed."""
        transport = self._client.get_transport()
        return transport is not None and transport.is_active()

    def start(self, command: str, *, timeout: float = COMMAND) -> paramiko.Channel:
        """Start a command that goes on for long, and talk to it by the channel's ``send`` and ``recv``.

        What it prints on stderr comes by ``recv_stderr``.

        :param command: Shell lines.
        :param timeout: Seconds that the start may take, and later each ``send`` and ``recv``.
        :raises SshLost: the connection is gone.
        :raises SshError: the command wasn't started in time.
        """
        deadline = time.monotonic() + timeout
        try:
            channel = self._transport.open_session(timeout=timeout)
            channel.settimeout(timeout)
            # paramiko waits without end for the answer, or for the end of the channel (3.5, 4.0).
            late = threading.Timer(max(0.01, deadline - time.monotonic()), _close_quietly, [channel])
            late.daemon = True
            late.start()
            try:
                channel.exec_command(command)
            finally:
                late.cancel()
        except (paramiko.SSHException, EOFError, OSError, *_NONSENSE) as error:
            # paramiko has no exception of its own for this.
            if self.alive and time.monotonic() >= deadline:
                raise self._late(command, timeout) from None
            raise self._lost(f"starting {_short(command)}", error) from None
        return channel

    def _answers(self, deadline: float) -> bool:
        # paramiko closes a lost connection's channels before it says that it is lost (3.5, 4.0).
        try:
            self._transport.open_session(timeout=max(0.01, deadline - time.monotonic())).close()
        except (SshLost, paramiko.SSHException, EOFError, OSError, *_NONSENSE):
            return False
        return True

    def run(self, command: str, *, data: bytes = b"", timeout: float = COMMAND) -> Finished:
        """Run shell lines to their end, with ``data`` as their input.

        :param command: Shell lines.
        :param data: The command's standard input.
        :param timeout: Seconds that the command has, in all.
        :raises SshLost: the connection broke meanwhile; whether the command ended is unknown.
        :raises SshError: the command wasn't done in time, and may still go on there; or a signal ended it.
        """
        deadline = time.monotonic() + timeout
        doing = f"running {_short(command)}"
        with contextlib.closing(self.start(command, timeout=timeout)) as channel:
            channel.set_combine_stderr(True)
            try:
                # A command that ends without having read all of its input makes send() fail, and has more to
                # say than that.
                with contextlib.suppress(OSError):
                    for start in range(0, len(data), _PIECE):
                        channel.settimeout(max(0.01, deadline - time.monotonic()))
                        channel.sendall(data[start : start + _PIECE])
                channel.shutdown_write()
                output = _read_all(channel, deadline)
                # The status is sent before the end of the output is (RFC 4254, 6.10), or never.
                channel.status_event.wait(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise self._late(command, timeout) from None
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise self._lost(doing, error) from None
            if channel.exit_status < 0:
                if channel.status_event.is_set() and self._answers(deadline):
                    raise SshError(f"{self.address}: ended by a signal: {_short(command)}")
                raise self._lost(doing, None)
            return Finished(channel.exit_status, sanitize(output))

    def upload(
        self, data: bytes, path: PurePosixPath, *, mode: int = 0o600, timeout: float = COMMAND
    ) -> None:
        """Write a file on the other side. It appears whole or not at all.

        :param data: The contents of the file.
        :param path: The path of the file; its folder exists.
        :param mode: The mode of the file, as ``chmod`` takes it.
        :param timeout: Seconds that all of it may take.
        :raises SshLost: the connection broke meanwhile.
        :raises SshError: the file can't be written for another reason.
        :raises SshDiskFull: there is no room for the file.
        """
        final, unfinished = shlex.quote(str(path)), shlex.quote(f"{path}.unfinished")
        digest = hashlib.sha256(data).hexdigest()
        # A connection that breaks is the end of the input to cat, so the checksum is compared.
        done = self.run(
            f"export LC_ALL=C; umask 077; cat > {unfinished} && "
            f"echo {digest}'  '{unfinished} | sha256sum -c > /dev/null && "
            f"chmod {mode:o} {unfinished} && mv {unfinished} {final} || {{ rm -f {unfinished}; exit 1; }}",
            data=data,
            timeout=timeout,
        )
        if done.status != 0:
            raise self.failed(f"writing {path}", done)

    def failed(self, doing: str, done: Finished) -> SshError:
        """The error that explains a failed command on the other side, with the end of what it printed."""
        lines = done.output.strip().splitlines()
        if _NO_SPACE in done.output:
            return SshDiskFull(f"{self.address}: its disk is full ({doing}); free some space there")
        said = lines[-1] if lines else f"exit status {done.status}"
        # A line alone stands in the message.
        more = tuple(lines[-_LINES:]) if len(lines) > 1 else ()
        return SshError(f"{self.address}: {doing} failed: {said}", details=more)

    def close(self) -> None:
        """End the connection. Calling this again does nothing."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.close()

    def _late(self, command: str, timeout: float) -> SshError:
        return SshError(f"{self.address}: not done in {timeout:g} s: {_short(command)}")

    def _lost(self, doing: str, error: BaseException | None) -> GuestError:
        death = self._death()
        if death is not None:
            return death
        reason = f" ({_reason(error)})" if error else ""
        return SshLost(
            f"{self.address}: the connection was lost while {doing}{reason}; is the machine still up?"
        )


def _read_all(channel: paramiko.Channel, deadline: float) -> bytes:
    """Read the output of a command to its end.

    :param channel: The command's channel.
    :param deadline: The moment of the monotonic clock at which it is given up, also where there is more to
        read all the time.
    :raises TimeoutError: it isn't done then, or has printed more than anybody asks for.
    """
    parts: list[bytes] = []
    left = _MOST_OUTPUT
    while (remaining := deadline - time.monotonic()) > 0 and left > 0:
        channel.settimeout(max(0.01, remaining))
        part = channel.recv(_PIECE)
        if not part:
            return b"".join(parts)
        parts.append(part)
        left -= len(part)
    raise TimeoutError


def _reason(error: BaseException) -> str:
    # It may quote what the other side has sent.
    said = sanitize(str(error).encode(errors="backslashreplace"))
    return " ".join(said.splitlines()) or type(error).__name__


def _close_quietly(channel: paramiko.Channel) -> None:
    """Close a channel, on a thread in which a lost connection has no caller to report to."""
    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        channel.close()


def _short(command: str) -> str:
    first = command.strip().partition("\n")[0]
    return first if len(first) <= 60 else f"{first[:57]}..."
