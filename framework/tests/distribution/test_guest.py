"""A Debian guest, seen from inside: what it is, and that it is a guest like the others."""

from __future__ import annotations

import errno
import re
import socket
import time

import pytest

from pytest_memtype import Guest, MemType

pytestmark = pytest.mark.distribution("debian:bookworm")


def said(guest: Guest, command: str) -> str:
    done = guest.shell(command)
    assert done.status == 0, done.output
    return done.output.strip()


def test_it_runs_a_distribution_with_a_users_kernel(guest: Guest) -> None:
    assert said(guest, "cat /proc/1/comm") == "systemd"
    assert said(guest, "systemctl is-system-running") == "running"
    assert re.fullmatch(r"[0-9.]+(?:-[0-9]+|\+deb[0-9]+)-amd64", guest.release)
    # Not in a cloud kernel.
    assert said(guest, f"find /usr/lib/modules/{guest.release} -name 'bochs.ko*' | wc -l") == "1"


def test_no_driver_has_the_test_device(guest: Guest) -> None:
    """bochs would: it drives every device 1234:1111 (Linux, drivers/gpu/drm/tiny/bochs.c)."""
    device = next(line for line in said(guest, "lspci -n").splitlines() if "0380: 1234:1111" in line)
    address = device.split()[0]
    assert guest.shell(f"modprobe bochs; ls -l /sys/bus/pci/devices/0000:{address}/driver").status != 0
    assert said(guest, f"cat /sys/bus/pci/devices/0000:{address}/driver_override") == "none"
    outcome = guest.driver("drm").ioremap(guest.mmio(4), MemType.WC)
    assert outcome.accepted


def test_its_state_is_in_memory_alone(guest: Guest) -> None:
    assert "overlay on / type overlay" in said(guest, "mount")
    assert said(guest, "cat /sys/block/vd*/ro").split() == ["1", "1"]
    assert said(guest, "stat -c '%U %a' /") == "root 755"


def test_nobody_else_is_reached(guest: Guest) -> None:
    """The network ends at this host (QEMU, -netdev user,restrict=on): without, 10.0.2.2 is its loopback."""
    # The second word is the destination, 0 for the default route.
    assert all(line.split()[1] != "00000000" for line in said(guest, "cat /proc/net/route").splitlines())
    connect = "timeout 5 bash -c 'exec 3<> /dev/tcp/{}/{}'"
    guest.ssh()
    assert guest.shell(connect.format("127.0.0.1", 22)).status == 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert guest.shell(connect.format("10.0.2.2", server.getsockname()[1])).status != 0
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_nothing_goes_off_when_a_clone_wakes_up(guest: Guest) -> None:
    assert "0 timers listed" in said(guest, "systemctl list-timers --no-pager")
    # A clone has the time of day of its start, not of its template's.
    assert abs(int(said(guest, "date +%s")) - time.time()) < 60
    assert said(guest, "systemctl list-jobs --no-legend") == ""


def test_clones_differ_in_their_random_numbers(guest: Guest, guest_factory: object) -> None:
    assert callable(guest_factory)
    read = "head -c 16 /dev/urandom | base64"
    assert said(guest, read) != said(guest_factory(), read)


def test_template_lets_nobody_in(guest: Guest) -> None:
    """The key of its boot is gone; a clone lets in whom its agent is told to."""
    assert guest.shell("ls /root/.ssh/authorized_keys").status != 0
    assert guest.ssh().run("id -u").output == "0\n"


def test_a_driver_s_function_fails_and_is_counted(guest: Guest) -> None:
    """Drivers' operations run in the agent, and init is systemd here."""
    bar, driver = guest.mmio(1), guest.driver("drm")
    with guest.faults.fail("memtype_reserve", returns=-errno.ENOMEM) as fault:
        assert driver.ioremap(bar, MemType.WC).kernel.rejected
        assert fault.counts.failed == 1
    with guest.kernel.count("memtype_reserve") as counted:
        assert driver.ioremap(bar, MemType.WC).accepted
        assert counted.counts.calls == 1


def test_a_process_of_another_user_execs(guest: Guest) -> None:
    """The program is a file that was brought there, in a folder of root's."""
    process = guest.process("P", uid=1000)
    process.exec()
    assert process.mmap(guest.mmio(1), MemType.WC).accepted
