"""The factor of all deadlines; it is read when the module is loaded, so in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SAYS = "from pytest_memtype.machine.timeouts import BOOT, EXIT; print(BOOT, EXIT)"


@pytest.mark.parametrize(
    ("patience", "said"),
    [
        ("20", "2400.0 100.0"),
        ("1.5", "180.0 7.5"),
        # Shorter deadlines would make faults of a busy host.
        ("0.1", "120.0 5.0"),
        ("-1", "120.0 5.0"),
        ("much", "120.0 5.0"),
        ("", "120.0 5.0"),
        ("nan", "120.0 5.0"),
    ],
)
def test_factor(patience: str, said: str) -> None:
    environment = {**os.environ, "MEMTYPE_PATIENCE": patience, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", SAYS], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == said
