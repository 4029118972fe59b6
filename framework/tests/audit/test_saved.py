"""Files that are no saved guest are refused in one line. Those of a real guest are in test_command.py."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest

from pytest_memtype.audit.any_qemu import _saved
from pytest_memtype.audit.saved import audit_files, ranges_of
from pytest_memtype.errors import UsageError
from pytest_memtype.machine.qemu_versions import QEMU
from pytest_memtype.machine.qmp import connected, qmp_of_another
from pytest_memtype.x86.effective import Vendor


@pytest.mark.parametrize(
    ("ram", "state", "message"),
    [
        (None, b"QEVM", r"ram: can't be read \(No such file or directory\)"),
        (b"", None, r"state: can't be read \(No such file or directory\)"),
        (bytes(4096), b"", "state: "),
        (bytes(4096), b"nonsense", "state: "),
        # The magic of a migration stream, which then ends.
        (bytes(4096), b"QEVM\x00\x00\x00\x03", "state: |can't be learned"),
    ],
)
def test_what_is_no_saved_guest(tmp_path: Path, ram: bytes | None, state: bytes | None, message: str) -> None:
    files = {"ram": ram, "state": state}
    for name, contents in files.items():
        if contents is not None:
            (tmp_path / name).write_bytes(contents)
    with pytest.raises(UsageError, match=message):
        audit_files(tmp_path / "ram", tmp_path / "state", vendor=Vendor.AMD, physical_bits=40)


MIB = 1 << 20
I440FX = b"QEVM...\x130000:00:00.0/I440FX..."


@pytest.mark.parametrize(
    ("state", "size", "split"),
    [
        (b"QEVM", 2815, None),
        (b"QEVM", 2816, 2048),
        (I440FX, 3583, None),
        (I440FX, 3584, 3072),
        (I440FX, 8192, 3072),
    ],
)
def test_where_ram_is_split(state: bytes, size: int, split: int | None) -> None:
    """QEMU 7.2, hw/i386/pc_q35.c, pc_q35_init(), and hw/i386/pc_piix.c, pc_init1()."""
    in_mib = [(0, size, 0)] if split is None else [(0, split, 0), (4096, size - split, split)]
    found = ranges_of(state, size * MIB)
    assert [(each.start, each.size, each.offset) for each in found] == [
        tuple(number * MIB for number in each) for each in in_mib
    ]


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_the_machine_is_known_by_its_state(tmp_path: Path, machine: str) -> None:
    path = tmp_path / "qmp"
    # It greets on standard output once it listens.
    common = ("-nodefaults", "-display", "none", "-S", "-qmp", "stdio")
    control_socket = ("-qmp", f"unix:{path},server=on,wait=off")
    with subprocess.Popen(
        [QEMU, *common, *control_socket, "-machine", machine, "-accel", "tcg", "-m", "16M"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as qemu:
        try:
            assert qemu.stdout is not None
            assert qemu.stdout.readline()
            with contextlib.closing(qmp_of_another(connected(path), path)) as control:
                assert (len(ranges_of(_saved(control), 3000 * MIB)) == 1) is (machine == "pc")
        finally:
            qemu.kill()
