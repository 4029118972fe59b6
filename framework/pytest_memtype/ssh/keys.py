"""Keys for SSH. New ones live in memory, or in a private folder, and nowhere else."""

from __future__ import annotations

import io
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pytest_memtype.console.text import sanitize
from pytest_memtype.errors import UsageError
from pytest_memtype.host.files import WRITTEN_BY_HAND, opened

_COMMENT = "memtype"


def new_private_key() -> str:
    """A new ed25519 key, as ssh and sshd read a private key from a file."""
    made = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return made.decode()


def key_of(text: str) -> paramiko.PKey:
    """The key from the text that :func:`new_private_key` made."""
    return paramiko.Ed25519Key.from_private_key(io.StringIO(text))


def public_line(key: paramiko.PKey) -> str:
    """The public half of a key, as a line of ``authorized_keys``."""
    return f"{key.get_name()} {key.get_base64()} {_COMMENT}"


def public_key(text: str, *, where: str) -> paramiko.PKey:
    """A public key from ``ssh-ed25519 AAAA...``, as in ``/etc/ssh/ssh_host_ed25519_key.pub``.

    :param text: The text, a line of a ``.pub`` file.
    :param where: The source of the text, for the message of an error.
    :raises UsageError: the text is no public key.
    """
    try:
        line = paramiko.pkey.PublicBlob.from_string(text)
        return paramiko.PKey.from_type_string(line.key_type, line.key_blob)
    except paramiko.pkey.UnknownKeyType:
        raise UsageError(
            f"{where}: keys of type {line.key_type!r} can't be used; give its ed25519, ecdsa or rsa key"
        ) from None
    except (ValueError, OverflowError, paramiko.SSHException) as error:
        raise UsageError(
            f"{where}: not a public key ({sanitize(str(error).encode())}); it looks like "
            "'ssh-ed25519 AAAA...', the line of the target's /etc/ssh/ssh_host_ed25519_key.pub"
        ) from None


def identity(path: Path) -> paramiko.PKey:
    """The private key in a file that the user named; it has no passphrase.

    :param path: The file.
    :raises UsageError: the file can't be read, holds no private key, or one with a passphrase or of a type
        that can't be used.
    """
    try:
        # A pipe would be waited for.
        with opened(path, most=WRITTEN_BY_HAND):
            key = paramiko.PKey.from_path(path)
            # Of a curve that it doesn't know paramiko makes a key without a name (5.1).
            key.get_name()
            return key
    except UsageError as error:
        raise UsageError(f"the identity: {error.message}") from None
    except (TypeError, paramiko.PasswordRequiredException):
        # cryptography says TypeError for a passphrase that isn't given.
        raise UsageError(
            f"{path}: the identity is protected by a passphrase; make one without for this target"
        ) from None
    except (UnsupportedAlgorithm, paramiko.pkey.UnknownKeyType, AttributeError):
        raise UsageError(
            f"{path}: its type of key can't be used; give an ed25519, ecdsa or rsa key, and none of a "
            "security key"
        ) from None
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise UsageError(f"{path}: the identity is not a private key: {error}") from None
