import os
import signal
from collections.abc import Callable

import pexpect
import pytest

from pytest_memtype.errors import GuestExited, GuestHung
from pytest_memtype.machine.machine import Machine

Start = Callable[..., Machine]
BeforeWaiting = Callable[[Machine, Callable[[], object]], None]


def test_both_directions(start: Start) -> None:
    machine = start(agent=b"hello\n", then="echo")
    machine.resume()
    machine.agent_port.expect_exact(b"hello\n")
    machine.agent_port.sendline("from the host")
    machine.agent_port.expect("from the (host)\n")
    assert machine.agent_port.match is not None
    assert machine.agent_port.before == b""


def test_every_byte_value_arrives(start: Start) -> None:
    machine = start(then="echo")
    machine.resume()
    machine.agent_port.send(bytes(range(256)))
    machine.agent_port.expect_exact(bytes(range(256)))
    assert machine.agent_port.before == b""


def test_nothing_is_lost_while_nobody_reads(start: Start) -> None:
    # A unix socket in the FIFO's place takes 278 bytes of this.
    text = b"".join(b"%06d\n" % number for number in range(2000))
    machine = start(console=b"ready", then="echo")
    machine.resume()
    machine.agent_port.send(text)
    machine.console.expect_exact("ready")
    machine.agent_port.expect_exact(text)
    assert (machine.logs / "agent.log").read_bytes() == text


def test_silence_ends_at_the_deadline_and_says_what_was_waited_for(start: Start) -> None:
    machine = start()
    with pytest.raises(GuestHung) as caught:
        machine.agent_port.expect(["done", "fail.*"], timeout=0.01)
    assert caught.value.message == (
        "the guest gave no answer for 0.01 s (waiting for 'done' or 'fail.*' on the agent's port)"
    )


def test_sigkill_while_reading(start: Start, before_waiting: BeforeWaiting) -> None:
    machine = start()
    before_waiting(machine, lambda: os.kill(machine.process.pid, signal.SIGKILL))
    # The default deadline is a minute: with no eye on QEMU this would be GuestHung.
    with pytest.raises(GuestExited, match=r"killed by SIGKILL \(waiting for 'never' on the agent's port\)"):
        machine.agent_port.expect_exact("never")


def test_sigkill_while_writing(start: Start, before_waiting: BeforeWaiting) -> None:
    machine = start()
    before_waiting(machine, lambda: os.kill(machine.process.pid, signal.SIGKILL))
    with pytest.raises(GuestExited, match=r"was killed by SIGKILL \(writing to the agent's port\)"):
        machine.agent_port.send(b"x" * (1 << 20))


def test_guest_that_does_not_read(start: Start) -> None:
    with pytest.raises(GuestHung, match="writing to the agent's port"):
        start().agent_port.send(b"x" * (1 << 20), timeout=0.01)


def test_what_was_written_before_the_end_is_still_read(start: Start) -> None:
    machine = start(agent=b"last words\n", then="reset")
    machine.resume()
    machine.agent_port.expect_exact("last words\n")
    with pytest.raises(GuestExited, match="the guest reset itself"):
        machine.agent_port.expect_exact("more")


def test_end_and_silence_can_be_expected(start: Start) -> None:
    machine = start(then="reset")
    assert machine.agent_port.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=0) == 1
    machine.resume()
    assert machine.agent_port.expect([pexpect.TIMEOUT, pexpect.EOF]) == 1
