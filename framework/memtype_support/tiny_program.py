"""Programs in a guest that are not the agent's, so that what they do is observed and not asked for."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pytest_memtype import Guest

_COMPILE = (
    *("clang", "-Os", "-static", "-nostdlib", "-fno-asynchronous-unwind-tables", "-fno-stack-protector"),
    *("-Wall", "-Werror", "-Wl,-n", "-Wl,--build-id=none", "-s"),
)


def install_program(guest: Guest, folder: Path, name: str) -> str:
    """Build a program of this folder and bring it into the guest.

    :param folder: Of this host, for what is built.
    :param name: Of its source, without ``.c``.
    :return: Its path in the guest.
    """
    subprocess.run(
        [*_COMPILE, "-o", str(folder / name), str(Path(__file__).with_name(f"{name}.c"))], check=True
    )
    path = guest.put(str(folder / name), f"/tmp/{name}")
    done = guest.shell(f"chmod +x {path}")
    assert (done.status, done.output) == (0, "")
    return path
