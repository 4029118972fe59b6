"""``memtype audit``, of a QEMU that somebody else started, and of saved files."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from click.testing import CliRunner, Result
from memtype_support.system_ram import ram_pages

from pytest_memtype import Guest, MemType
from pytest_memtype.audit import any_qemu
from pytest_memtype.audit.ram import Entries, Frames, ProcessRam
from pytest_memtype.cli import main
from pytest_memtype.machine.qemu_versions import this_qemu
from pytest_memtype.machine.qmp import Qmp, connected, qmp_of_another
from pytest_memtype.machine.vcpu_registers import save_devices

SVG = "{http://www.w3.org/2000/svg}"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


@pytest.fixture
def foreign(guest: Guest, tmp_path: Path) -> Iterator[Path]:
    """The QMP socket of a QEMU that this package doesn't know of: it runs a copy of a booted guest."""
    ours = guest.machine.config
    if ours.state is None or ours.ram_file is None:
        pytest.skip("this guest was booted and not restored")
    path = tmp_path / "qmp"
    # fmt: off
    command = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-cpu", "qemu64",
        "-machine", "q35,memory-backend=ram", "-m", "256M", "-accel", "tcg",
        "-object", f"memory-backend-file,id=ram,size=256M,share=off,mem-path={ours.ram_file}",
        "-device", "bochs-display,id=testdevice", "-serial", "null", "-serial", "null",
        "-qmp", f"unix:{path},server=on,wait=off", "-incoming", "defer",
        # It greets there once it listens.
        "-qmp", "stdio",
    ]
    # fmt: on
    with ours.state.open("rb") as state:
        qemu = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[state.fileno()]
        )
        uri = this_qemu().state_uri(state.fileno())
    try:
        assert qemu.stdout is not None
        assert qemu.stdout.readline(), "QEMU didn't start"
        control = qmp_of_another(connected(path), path)
        capabilities = [{"capability": "x-ignore-shared", "state": True}]
        control.execute("migrate-set-capabilities", {"capabilities": capabilities})
        control.execute("migrate-incoming", {"uri": uri})
        while control.execute("query-status")["status"] == "inmigrate":
            assert qemu.poll() is None, "QEMU couldn't restore the guest"
        control.execute("cont")
        control.close()
        yield path
    finally:
        qemu.kill()
        qemu.communicate()


def test_a_qemu_of_somebody_elses(guest: Guest, foreign: Path, tmp_path: Path) -> None:
    picture = tmp_path / "memory.svg"
    result = run("--qmp", foreign, "--json", "--svg", picture)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [each for each in found["findings"] if each["kind"] == "conflict"] == []
    assert found["unfollowed"] == []
    # It has as much RAM as the guest that it is a copy of.
    assert found["figures"]["pages"] >= ram_pages(guest)
    root = Xml.fromstring(picture.read_bytes())
    lanes = {each.text for each in root.iter(f"{SVG}text")}
    assert {"UC", "WC", "WT", "WP", "WB", "conflicts"} <= lanes
    # It goes on as it was, and whoever comes next finds it so.
    control = qmp_of_another(connected(foreign), foreign)
    assert control.execute("query-status")["running"] is True
    control.execute("stop")
    control.close()
    assert "0 conflicts" in run("--qmp", foreign).output
    control = qmp_of_another(connected(foreign), foreign)
    assert control.execute("query-status")["running"] is False
    control.close()


def test_all_of_ram_is_looked_through_while_the_guest_runs(
    guest: Guest, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it stands still, only tables are read, and those that may be roots."""
    looked_at = {True: 0, False: 0}
    running = True
    execute = Qmp.execute

    class Counted(ProcessRam):
        def read(self, frames: Frames) -> Entries:
            looked_at[running] += len(frames)
            return super().read(frames)

        def column(self, frames: Frames, slot: int) -> Entries:
            looked_at[running] += len(frames)
            return super().column(frames, slot)

    def executed(qmp: Qmp, command: str, *arguments: Any, **options: Any) -> Any:
        nonlocal running
        answer = execute(qmp, command, *arguments, **options)
        running = execute(qmp, "query-status")["running"]
        return answer

    monkeypatch.setattr(any_qemu, "ProcessRam", Counted)
    monkeypatch.setattr(Qmp, "execute", executed)
    assert "0 conflicts" in run("--qmp", foreign).output
    assert looked_at[True] >= ram_pages(guest)
    assert 0 < looked_at[False] < looked_at[True] / 10


def test_saved_files(guest: Guest, tmp_path: Path) -> None:
    ram = guest.ram(pages=1)
    mapping = guest.process("X").mmap(ram, MemType.WB).mapping
    assert mapping is not None
    guest.driver("agp").set_memory(ram, MemType.WC)
    guest.qmp.execute("stop")
    memory, state = tmp_path / "ram", tmp_path / "state"
    memory.write_bytes(guest.machine.memory.read(0, guest.hardware.memory_bytes))
    # It doesn't describe itself: the QEMU that is installed says how to read it.
    state.write_bytes(save_devices(guest.machine))
    picture = tmp_path / "memory.svg"
    result = run("--ram", memory, "--state", state, "--svg", picture)
    assert result.exit_code == 1, result.output
    assert "1 conflicts" in result.output
    assert f"{ram.start:x}-{ram.end - 1:x}" in result.output
    titles = [each.text or "" for each in Xml.fromstring(picture.read_bytes()).iter(f"{SVG}title")]
    assert sum("conflict (FATAL)" in each for each in titles) == 1


def test_the_program_of_another_user_is_not_run(tmp_path: Path) -> None:
    """Who listens on a socket says which program that is."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    program = tmp_path / "qemu"
    shutil.copy("/bin/sleep", program)
    os.chown(program, 65534, -1)
    with listening_at(tmp_path / "qmp"), subprocess.Popen([program, "600"]) as theirs:
        result = run("--qmp", tmp_path / "qmp", "--pid", theirs.pid)
        theirs.kill()
    assert result.exit_code == 2
    assert "belongs to user 65534 and is not run as another" in result.output


@pytest.mark.timeout(60)
def test_who_takes_no_connection_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a QEMU that is stopped, once others wait for it."""
    monkeypatch.setattr(any_qemu, "connected", functools.partial(connected, timeout=0.5))
    path = tmp_path / "qmp"
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(path))
        listening.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(path))
        result = run("--qmp", path)
    assert result.exit_code == 2
    assert f"no QEMU answers at {path}: it takes no connection in" in result.output


#: Another program takes the place of the one that runs, and of a library of it, for whoever enters.
LURE = """
sleep 600 &
until [ "$(readlink "/proc/$!/exe" | grep -c sleep)" = 1 ]; do :; done
echo "$!"
for replaced in /usr/bin/sleep /bin/sleep; do mount --bind "$1" "$replaced"; done
echo laid
wait
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter and write to, with a socket ``qmp``; those of pytest are root's."""
    with tempfile.TemporaryDirectory(prefix="memtype-open-") as name, listening_at(Path(name) / "qmp"):
        Path(name).chmod(0o777)
        yield Path(name)


@contextlib.contextmanager
def listening_at(path: Path) -> Iterator[None]:
    """Somebody who takes connections and says nothing."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield


def test_a_mount_namespace_of_another_user_is_not_entered(open_folder: Path) -> None:
    """A program is root's by its file, and another in the namespace that a plain user made for himself."""
    if os.geteuid() != 0:
        pytest.skip("only root would enter it")
    ran = open_folder / "ran"
    evil = open_folder / "evil"
    evil.write_text(f'#!/bin/sh\ncat /proc/self/uid_map >"{ran}"; id -u >>"{ran}"\n')
    evil.chmod(0o755)
    # fmt: off
    command = [
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
        "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", LURE, "sh", str(evil),
    ]
    # fmt: on
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as theirs:
        assert theirs.stdout is not None
        assert theirs.stderr is not None
        try:
            pid = theirs.stdout.readline().strip()
            if not pid or theirs.stdout.readline() != "laid\n":
                pytest.skip(f"no namespaces for plain users here: {theirs.stderr.read()}")
            result = run("--qmp", open_folder / "qmp", "--pid", pid)
        finally:
            os.killpg(theirs.pid, signal.SIGKILL)
    assert not ran.exists(), f"it ran as user {ran.read_text()}"
    assert result.exit_code == 3
    assert "user namespace of its own" in result.output
    assert "\n" not in result.output.strip()


#: Stands for QEMU: it says who runs it, and leaves.
WHO = """
#include <stdio.h>
#include <unistd.h>
int main(int count, char **arguments)
{
	if (count == 1)
		return pause();
	printf("user %d %d group %d %d\\n", getuid(), geteuid(), getgid(), getegid());
	return 0;
}
"""


@pytest.mark.parametrize("namespace", [False, True], ids=["one namespace", "another mount namespace"])
def test_the_program_is_run_as_the_user_of_its_process(open_folder: Path, *, namespace: bool) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    program = open_folder / "qemu"
    # The compiler that ./hil test installs.
    subprocess.run(["clang", "-x", "c", "-", "-o", program], input=WHO, text=True, check=True)
    # As libvirt starts it.
    command = ["unshare", "--mount"] if namespace else []
    command += ["setpriv", "--reuid=65534", "--regid=65533", "--clear-groups", str(program)]
    with subprocess.Popen(command) as theirs:
        exe = Path(f"/proc/{theirs.pid}/exe")
        while exe.readlink() != program:
            assert theirs.poll() is None
        try:
            result = run("--qmp", open_folder / "qmp", "--pid", theirs.pid)
        finally:
            theirs.kill()
    assert result.exit_code == 3, result.output
    assert "user 65534 65534 group 65533 65533" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a guest"),
        (("--qmp", "nowhere"), "no QEMU answers at nowhere"),
        (("--ram", "nowhere"), "name a guest"),
        (("--ram", "nowhere", "--state", "nowhere"), "nowhere: can't be read"),
        (("--ram", __file__, "--state", __file__), "doesn't begin with QEVM|doesn't describe itself"),
        (("--qmp", "vm.sock", "--vendor", "GenuineIntel"), "--vendor is for saved files; the CPU at vm.sock"),
        (("--qmp", "vm.sock", "--physical-bits", 40), "--physical-bits is for saved files; the CPU at"),
        (("--ram", __file__, "--state", __file__, "--vendor", ""), "no table of effective memory types"),
        (("--ram", __file__, "--state", __file__, "--vendor", "Cyrix"), "no table of effective memory types"),
        (("--ram", __file__, "--state", __file__, "--physical-bits", 20), "has 32 to 52"),
    ],
)
def test_what_cannot_be_audited(arguments: tuple[object, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert re.search(message, result.output)
    assert "Traceback" not in result.output
