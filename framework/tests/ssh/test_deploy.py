"""Why a kernel refuses a module. That a real one says so is seen in test_connection.py."""

from __future__ import annotations

import os
from errno import EEXIST, EINVAL, EKEYREJECTED, ENOENT, ENOEXEC, ENOKEY, ENOMEM, EPERM

import pytest

from pytest_memtype.errors import ModuleNotLoaded
from pytest_memtype.ssh.deploy import explain_refusal

# What /sys/kernel/security/lockdown holds (Linux, security/lockdown/lockdown.c, lockdown_read()).
OPEN, INTEGRITY = "[none] integrity confidentiality\n", "none [integrity] confidentiality\n"


def agent_says(code: int, kernel_says: str) -> ModuleNotLoaded:
    """What :meth:`Agent.greet` makes of the greeting of guests/agent/system.c, system_load_module()."""
    also = f" (the kernel says: {kernel_says})" if kernel_says else ""
    return ModuleNotLoaded(
        f"the agent can't start: can't load the module /run/memtype.ko: {os.strerror(code)}{also}",
        errno=code,
        kernel_says=kernel_says,
    )


@pytest.mark.parametrize(
    ("code", "kernel_says", "policy", "expected"),
    [
        (EPERM, "Lockdown: agent: unsigned module loading is restricted", INTEGRITY, "lockdown is integrity"),
        (EPERM, "", OPEN, "lets nobody load modules"),
        (EKEYREJECTED, "Loading of unsigned module is rejected", f"{OPEN}Y\n", "signature policy"),
        (ENOKEY, "", f"{OPEN}N\n", "signature policy"),
        (ENOEXEC, "memtype: version magic 'a' should be 'b'", OPEN, "built for another kernel"),
        (ENOEXEC, "memtype: disagrees about version of symbol module_layout", OPEN, "have other versions"),
        (EINVAL, "memtype: Unknown symbol misc_register (err -22)", OPEN, "have other versions"),
        (EINVAL, "memtype: allowed: 0x0-0x1 are not whole pages", OPEN, "does not take the memory"),
        (EPERM, "memtype: allowed: there is RAM in 0x0-0xfff", INTEGRITY, "does not take the memory"),
        (EINVAL, "", OPEN, "Invalid argument"),
        (ENOENT, "memtype: Unknown symbol foo (err -2)", OPEN, "Unknown symbol foo"),
        (EEXIST, "", OPEN, "another run uses this machine"),
        (ENOMEM, "", OPEN, "Cannot allocate memory"),
    ],
)
def test_each_cause_is_told(code: int, kernel_says: str, policy: str, expected: str) -> None:
    line = explain_refusal(agent_says(code, kernel_says), policy=policy, release="6.1.0-56-amd64")
    assert expected in line
    assert "\n" not in line
