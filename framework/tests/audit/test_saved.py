"""Files that are no saved guest are refused in one line. Those of a real guest are in test_command.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype.audit.saved import audit_files
from pytest_memtype.errors import UsageError
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
