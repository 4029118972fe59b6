"""A program in a guest that maps and unmaps a page, again and again: not the agent's, so it is observed."""

from __future__ import annotations

import base64
import gzip
import subprocess
from pathlib import Path

from pytest_memtype import Guest

_SOURCE = Path(__file__).with_name("map_again.c")
_PROGRAM = "/tmp/map_again"
_COMPILE = (
    *("clang", "-Os", "-static", "-nostdlib", "-fno-asynchronous-unwind-tables", "-fno-stack-protector"),
    *("-Wall", "-Werror", "-Wl,-n", "-Wl,--build-id=none", "-s"),
)


def install_mapper(guest: Guest, folder: Path) -> str:
    """Build ``map_again.c`` and type it into the guest.

    :param folder: Of this host.
    :return: Its path in the guest.
    """
    built = folder / "map_again"
    subprocess.run([*_COMPILE, "-o", str(built), str(_SOURCE)], check=True)
    text = base64.b64encode(gzip.compress(built.read_bytes(), 9)).decode()
    done = guest.shell(f"echo {text} | base64 -d | gunzip > {_PROGRAM} && chmod +x {_PROGRAM}")
    assert (done.status, done.output) == (0, "")
    return _PROGRAM
