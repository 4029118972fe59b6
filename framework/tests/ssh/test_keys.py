"""Keys; that a guest's sshd takes them is seen in test_connection.py."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pytest_memtype.errors import UsageError
from pytest_memtype.ssh.keys import identity, key_of, new_private_key, public_key, public_line


def test_each_key_is_another() -> None:
    assert key_of(new_private_key()) != key_of(new_private_key())


def test_public_line_is_read_back() -> None:
    key = key_of(new_private_key())
    assert public_key(public_line(key), where="here").asbytes() == key.asbytes()
    assert public_line(key).startswith("ssh-ed25519 AAAA")


def test_identity_is_read_from_a_file(tmp_path: Path) -> None:
    text = new_private_key()
    (tmp_path / "identity").write_text(text)
    assert identity(tmp_path / "identity") == key_of(text)


# An RSA key whose numbers are negative.
NEGATIVE = base64.b64encode((7).to_bytes(4, "big") + b"ssh-rsa" + b"\xff" * 20).decode()


@pytest.mark.parametrize(
    "text", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-ed25519 not-base64!", f"ssh-rsa {NEGATIVE}"]
)
def test_what_is_no_public_key_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="option host-key: not a public key"):
        public_key(text, where="option host-key")


@pytest.mark.parametrize("kind", ["ssh-dss", "sk-ssh-ed25519@openssh.com"])
def test_a_type_of_key_that_ssh_knows_and_we_do_not(kind: str) -> None:
    # RFC 4253, 6.6: the blob begins with the type, a string with its length.
    blob = base64.b64encode(len(kind).to_bytes(4, "big") + kind.encode() + bytes(8)).decode()
    with pytest.raises(UsageError, match=f"host-key=: keys of type '{kind}' can't be used; give") as raised:
        public_key(f"{kind} {blob}", where="host-key=")
    assert "\n" not in raised.value.message


def string(data: bytes) -> bytes:
    """As RFC 4251, 5, has it."""
    return len(data).to_bytes(4, "big") + data


def pem(key: PrivateKeyTypes, how: PrivateFormat = PrivateFormat.PKCS8) -> str:
    return key.private_bytes(Encoding.PEM, how, NoEncryption()).decode()


def of_a_security_key() -> str:
    """As ssh-keygen -t ed25519-sk writes it: OpenSSH, PROTOCOL.key and PROTOCOL.u2f."""
    public = string(b"sk-ssh-ed25519@openssh.com") + string(bytes(32)) + string(b"ssh:")
    private = bytes(8) + public + b"\x01" + string(b"handle") + string(b"") + string(b"comment")
    private += bytes(range(1, 1 + -len(private) % 8))
    blob = b"openssh-key-v1\0" + string(b"none") * 2 + string(b"") + (1).to_bytes(4, "big")
    text = base64.encodebytes(blob + string(public) + string(private)).decode()
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "text",
    [
        of_a_security_key(),
        pem(ed448.Ed448PrivateKey.generate()),
        pem(ec.generate_private_key(ec.SECP256K1()), PrivateFormat.TraditionalOpenSSL),
    ],
    ids=["sk-ssh-ed25519", "ed448", "secp256k1"],
)
def test_an_identity_of_a_type_that_can_not_be_used(tmp_path: Path, text: str) -> None:
    (tmp_path / "identity").write_text(text)
    with pytest.raises(UsageError, match="its type of key can't be used; give an ed25519") as raised:
        identity(tmp_path / "identity")
    assert "\n" not in raised.value.message


def test_a_certificate_without_its_key(tmp_path: Path) -> None:
    """paramiko looks for the key beside it."""
    (tmp_path / "identity-cert.pub").write_text("ssh-ed25519-cert-v01@openssh.com AAAA\n")
    with pytest.raises(UsageError, match=r"the identity is not a private key: .*No such file"):
        identity(tmp_path / "identity-cert.pub")


def test_what_is_no_identity_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the identity: .*absent: can't be read \(No such file"):
        identity(tmp_path / "absent")
    (tmp_path / "text").write_text("no key\n")
    with pytest.raises(UsageError, match="text: the identity is not a private key"):
        identity(tmp_path / "text")


def test_passphrase_is_named(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_ssh_private_key(new_private_key().encode(), None)
    protected = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "protected").write_bytes(protected)
    with pytest.raises(UsageError, match="protected: the identity is protected by a passphrase"):
        identity(tmp_path / "protected")
