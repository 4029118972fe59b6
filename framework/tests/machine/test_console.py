from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_memtype.console.text import panic_line, sanitize
from pytest_memtype.errors import GuestFlooded, GuestHung, GuestPanicked
from pytest_memtype.machine import console as console_module
from pytest_memtype.machine.machine import Machine

Start = Callable[..., Machine]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"[    0.1] plain\r\n\ttext\n", "[    0.1] plain\n\ttext\n"),
        (b"\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        (b"ok\rfail", "ok\\rfail"),
        ("\u202egnp.exe \u2028 \x9b".encode(), "\\u202egnp.exe \\u2028 \\x9b"),
        (b"caf\xc3\xa9 \xff\xc3", "caf\u00e9 \\xff\\xc3"),
    ],
)
def test_sanitize(data: bytes, text: str) -> None:
    assert sanitize(data) == text


@settings(deadline=None)
@given(st.binary())
def test_sanitized_text_is_harmless(data: bytes) -> None:
    assert all(character.isprintable() or character in "\n\t" for character in sanitize(data))


def test_panic_line() -> None:
    # kernel/panic.c, panic(): pr_emerg("Kernel panic - not syncing: %s\n", buf).
    text = "[  1.0] fine\n[  2.0] Kernel panic - not syncing: VFS\n[  2.1] CPU: 0"
    assert panic_line(text) == "Kernel panic - not syncing: VFS"
    # A healthy kernel prints its command line, and this in its watchdog's help.
    assert panic_line("Command line: panic=-1 oops=panic\nwatchdog: kernel panic on hang is off") is None


def test_expect_and_log(start: Start) -> None:
    machine = start(console=b"one\r\ntwo\r\n", then="halt")
    machine.resume()
    machine.console.expect("one\r\n(two)\r\n")
    assert machine.console.log.read_bytes() == b"one\r\ntwo\r\n"
    assert machine.console.tail(1) == ["two"]


def test_read_while_something_else_is_waited_for(start: Start) -> None:
    machine = start(console=b"boot\n", agent=b"ready", then="halt")
    machine.resume()
    machine.agent_port.expect_exact("ready")
    machine.console.drain()
    assert machine.console.tail(9) == ["boot"]
    machine.console.expect_exact("boot\n")


def test_flood(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "FLOOD", 1 << 14)
    machine = start(then="flood")
    machine.resume()
    with pytest.raises(GuestFlooded, match=r"printed more than 16K on its console; see .*console\.log"):
        machine.agent_port.expect_exact("never")


def test_panic_that_does_not_restart_is_no_hang(start: Start) -> None:
    machine = start(console=b"Kernel panic - not syncing: stuck\n", agent=b"x", then="halt")
    machine.resume()
    machine.agent_port.expect_exact("x")
    with pytest.raises(GuestPanicked, match="Kernel panic - not syncing: stuck"):
        machine.agent_port.expect_exact("never", timeout=0)


def test_mention_of_a_panic_is_no_panic(start: Start) -> None:
    machine = start(console=b"panic=-1\n", agent=b"x", then="halt")
    machine.resume()
    machine.agent_port.expect_exact("x")
    with pytest.raises(GuestHung):
        machine.agent_port.expect_exact("never", timeout=0)
