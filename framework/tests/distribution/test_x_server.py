"""What is read from a guest about Xorg; Xorg itself is what testcases/distribution is about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_memtype import Guest
from pytest_memtype.distribution.x_server import DeviceFile, XServer, run, start
from pytest_memtype.errors import GuestError
from pytest_memtype.guest.results import ShellResult

# Of a real one: Linux 6.1, Xorg 21.1 with modesetting.
MAPS = """\
7f7b4eeb0000-7f7b4eeb4000 rw-s 1007d0000 00:05 410                       /dev/dri/card0
7f7b4f000000-7f7b4f001000 rw-p 00000000 00:05 411                        /dev/zero
7f7b50000000-7f7b50010000 rw-s 000a0000 00:05 3                          /dev/mem
7f7b51000000-7f7b51010000 r-xp 00000000 fe:00 9250                       /usr/lib/xorg/Xorg
7f7b52000000-7f7b52010000 rw-s 00000000 00:01 1                          /memfd:x (deleted)
7ffd00000000-7ffd00010000 rw-p 00000000 00:00 0                          [stack]
"""


def test_device_files() -> None:
    def shell(command: str) -> ShellResult:
        assert command == "cat /proc/253/maps"
        return ShellResult(0, MAPS)

    server = XServer(cast("Any", SimpleNamespace(shell=shell)), 253)
    assert server.device_files() == (
        DeviceFile("/dev/dri/card0", 0x1007D0000, 16 << 10),
        DeviceFile("/dev/mem", 0xA0000, 64 << 10),
    )


def test_command_that_fails(guest: Guest) -> None:
    assert run(guest, "echo all is well") == "all is well"
    with pytest.raises(GuestError, match="status 3 of 'echo no; exit 3' in the guest") as caught:
        run(guest, "echo no; exit 3")
    assert caught.value.details == ("no",)


def test_guest_without_xorg(guest: Guest) -> None:
    with pytest.raises(GuestError, match=r"status \d+ of .* in the guest"):
        start(guest, "modesetting")
