"""What ``--target`` takes."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from pytest_memtype.errors import UsageError
from pytest_memtype.host.progress import silent
from pytest_memtype.ssh.connection import Address
from pytest_memtype.ssh.keys import new_private_key
from pytest_memtype.target.address import TargetAddress, parse_target
from pytest_memtype.target.target import Target

KEYS = "identity=/k/id&host-key=/k/host.pub"


def test_qemu_is_no_target() -> None:
    assert parse_target("qemu") is None


def test_everything_in_the_address() -> None:
    address = parse_target(f"ssh://joe@lab:2222?{KEYS}&console=/dev/ttyUSB0&config=lab.toml")
    assert address == TargetAddress(
        Address("lab", 2222, "joe"),
        identity=Path("/k/id"),
        host_key="/k/host.pub",
        console="/dev/ttyUSB0",
        config=Path("lab.toml"),
    )


def test_what_is_left_out() -> None:
    address = parse_target(f"ssh://lab?{KEYS}")
    assert address is not None
    assert address.ssh == Address("lab", 22, "root")
    assert (address.console, address.config) == (None, None)


def test_options_go_before_the_address() -> None:
    address = parse_target(
        f"ssh://[::1]?{KEYS}&console=/dev/ttyS0&config=a.toml",
        console="socket://127.0.0.1:7",
        config=Path("b.toml"),
    )
    assert address is not None
    assert (address.ssh.host, address.console, address.config) == (
        "::1",
        "socket://127.0.0.1:7",
        Path("b.toml"),
    )


def test_a_host_key_may_have_plus_signs_and_an_escaped_blank() -> None:
    address = parse_target("ssh://lab?identity=k&host-key=ssh-ed25519%20AAAA+b/c=")
    assert address is not None
    assert address.host_key == "ssh-ed25519 AAAA+b/c="


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("http://lab", "neither qemu nor an ssh:// address"),
        (f"ssh://?{KEYS}", "no host"),
        (f"ssh://lab/path?{KEYS}", "more than a host"),
        (f"ssh://lab:port?{KEYS}", "port is no number"),
        (f"ssh://lab:0?{KEYS}", "port is no number from 1"),
        (f"ssh://[::1?{KEYS}", "Invalid IPv6 URL"),
        (f"ssh://a..b?{KEYS}", r"'a\.\.b' is no host name"),
        (f"ssh://{'a' * 64}.lab?{KEYS}", "is no host name"),
        (f"ssh://ro%00ot@lab?{KEYS}", "'ro%00ot' has a character that can't be printed"),
        ("ssh://lab?identity=k%00&host-key=k", "'k%00' has a character that can't be printed"),
        ("ssh://lab?identity=k&host-key=k%0A", "'k%0A' has a character that can't be printed"),
        (f"ssh://root:secret@lab?{KEYS}", "passwords are never used"),
        ("ssh://lab?identity=k", "host-key= is missing"),
        ("ssh://lab?host-key=k", "identity= is missing"),
        (f"ssh://lab?{KEYS}&colour=red", "'colour' is not known"),
    ],
)
def test_one_line_says_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as raised:
        parse_target(text)
    assert "\n" not in str(raised.value)


def test_a_host_key_in_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "identity").write_text(new_private_key())
    (tmp_path / "host-key").write_bytes(b"\xff\xfe\x00 \x80 \x9b2J")
    address = TargetAddress(Address("lab"), tmp_path / "identity", str(tmp_path / "host-key"))
    with pytest.raises(UsageError, match=r"host-key: not a public key \(.*\); it looks like") as raised:
        Target(address, logs=tmp_path, progress=silent)
    assert raised.value.message.isprintable()


def test_it_is_written_as_it_was_read() -> None:
    """Whatever the names have in them; the rerun command is pasted into a shell."""
    address = TargetAddress(
        Address("::1", 2222, "a@b"),
        identity=Path("/my keys/id&é%"),
        host_key="ssh-ed25519 AAAA+b/c= joe's",
    )
    assert parse_target(address.url) == address
    assert parse_target(shlex.split(f"--target {shlex.quote(address.url)}")[1]) == address


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "why"), [("pipe", "is a pipe"), ("/dev/zero", "is a device"), ("nothing", "can't be read")]
)
def test_a_host_key_in_what_is_no_file_is_not_waited_for(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "identity").write_text(new_private_key())
    os.mkfifo(tmp_path / "pipe")
    address = TargetAddress(Address("lab"), tmp_path / "identity", str(tmp_path / name))
    with pytest.raises(UsageError, match=f"host-key=.*: it is no public key, and .*{why}") as raised:
        Target(address, logs=tmp_path, progress=silent)
    assert "\n" not in raised.value.message
