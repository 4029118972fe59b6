"""Why a kernel refuses a module. That a real one says so is seen in test_connection.py."""

from __future__ import annotations

import pytest

from pytest_memtype.ssh.deploy import explain_refusal

# What /sys/kernel/security/lockdown holds (Linux, security/lockdown/lockdown.c, lockdown_read()).
OPEN, INTEGRITY = "[none] integrity confidentiality\n", "none [integrity] confidentiality\n"


@pytest.mark.parametrize(
    ("said", "policy", "expected"),
    [
        ("can't load: Operation not permitted", INTEGRITY, "lockdown is integrity"),
        ("can't load: Operation not permitted", OPEN, "lets nobody load modules"),
        ("can't load: Key was rejected by service", f"{OPEN}Y\n", "signature policy"),
        ("can't load: Required key not available", f"{OPEN}N\n", "signature policy"),
        ("can't load: Exec format error", OPEN, "built for another kernel"),
        ("can't load: Invalid argument", OPEN, "its symbols have other versions"),
        ("can't load: Cannot allocate memory", OPEN, "Cannot allocate memory"),
    ],
)
def test_each_cause_is_told(said: str, policy: str, expected: str) -> None:
    line = explain_refusal(said, policy=policy, release="6.1.0-56-amd64")
    assert line.startswith("kernel 6.1.0-56-amd64 ")
    assert expected in line
    assert "\n" not in line
