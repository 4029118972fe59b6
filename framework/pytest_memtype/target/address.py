"""Addresses of targets, ``--target ssh://user@host:port?console=...``: the machine and the way to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pytest_memtype.errors import UsageError
from pytest_memtype.ssh.connection import Address
from pytest_memtype.target import QEMU

_EXAMPLE = (
    "write it like ssh://root@host:22?identity=FILE&host-key=FILE&console=/dev/ttyUSB0&config=FILE.toml"
)
_KNOWN = ("identity", "host-key", "console", "config")


@dataclass(frozen=True)
class TargetAddress:
    """The address of a target, with its keys and files.

    :param ssh: User, host and port.
    :param identity: File with the private key that the target lets in.
    :param host_key: A file with the target's public host key, or that key itself.
    :param console: A serial device, or ``socket://host:port``; None for no console.
    :param config: The file that names the memory that tests may use; None where there is none yet.
    """

    ssh: Address
    identity: Path
    host_key: str
    console: str | None = None
    config: Path | None = None

    def __str__(self) -> str:
        return str(self.ssh)

    @property
    def url(self) -> str:
        """The address with both keys, as :func:`parse_target` takes it."""
        whom = Address(self.ssh.host, self.ssh.port, quote(self.ssh.user, safe=""))
        return f"{whom}?identity={quote(str(self.identity))}&host-key={quote(self.host_key)}"


def parse_target(
    text: str, *, console: str | None = None, config: Path | None = None
) -> TargetAddress | None:
    """Read the value of ``--target``; None for guests in QEMU.

    :param text: The value.
    :param console: Value of ``--console``, which overrides the one in ``text``; None to keep that.
    :param config: Value of ``--target-config``, likewise.
    :raises UsageError: the text is no address of a target, or lacks a key.
    """
    if text == QEMU:
        return None
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise UsageError(f"--target {text!r}: {error}; {_EXAMPLE}") from None
    if parts.scheme != "ssh":
        raise UsageError(f"--target {text!r}: neither {QEMU} nor an ssh:// address; {_EXAMPLE}")
    said = _parameters(parts.query, text)
    for needed in ("identity", "host-key"):
        if not said.get(needed):
            raise UsageError(
                f"--target {text!r}: {needed}= is missing, and nothing in ~/.ssh is looked at; {_EXAMPLE}"
            )
    named = said.get("config")
    return TargetAddress(
        _whom(parts, text),
        identity=Path(said["identity"]),
        host_key=said["host-key"],
        console=console or said.get("console"),
        config=config or (Path(named) if named else None),
    )


def _whom(parts: SplitResult, text: str) -> Address:
    try:
        port = 22 if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port:
        raise UsageError(f"--target {text!r}: the port is no number from 1 to 65535; {_EXAMPLE}")
    if not parts.hostname or parts.path not in ("", "/") or parts.fragment:
        raise UsageError(f"--target {text!r}: no host, or more than a host; {_EXAMPLE}")
    if parts.password is not None:
        raise UsageError(f"--target {text!r}: passwords are never used; name a key with identity=")
    try:
        # The resolver does this, too, but doesn't report it as an error of the connection.
        parts.hostname.encode("idna")
    except UnicodeError as error:
        raise UsageError(f"--target {text!r}: {parts.hostname!r} is no host name: {error}") from None
    return Address(parts.hostname, port, _plain(parts.username or "root", text))


def _parameters(query: str, text: str) -> dict[str, str]:
    said: dict[str, str] = {}
    for each in filter(None, query.split("&")):
        name, _, value = each.partition("=")
        if name not in _KNOWN:
            raise UsageError(f"--target {text!r}: {name!r} is not known; there are {', '.join(_KNOWN)}")
        # Not parse_qs(), which makes blanks of the plus signs in a key.
        said[name] = _plain(value, text)
    return said


def _plain(value: str, text: str) -> str:
    plain = unquote(value)
    if not plain.isprintable():
        raise UsageError(f"--target {text!r}: {value!r} has a character that can't be printed")
    return plain
