"""The factor of all deadlines; it is read when the module is loaded, so in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main

SAYS = """
from pytest_memtype.machine.timeouts import BOOT, EXIT, HOTPLUG, LAUNCH, SUSPEND
print(BOOT, EXIT, LAUNCH, SUSPEND, HOTPLUG)
"""


@pytest.mark.parametrize(
    ("patience", "said"),
    [
        ("20", "2400.0 100.0 100.0 1200.0 1200.0"),
        ("1.5", "180.0 7.5 7.5 90.0 90.0"),
        ("1000", "120000.0 5000.0 5000.0 60000.0 60000.0"),
        # Shorter deadlines would make faults of a busy host.
        ("0.1", "120.0 5.0 5.0 60.0 60.0"),
        ("-1", "120.0 5.0 5.0 60.0 60.0"),
        ("", "120.0 5.0 5.0 60.0 60.0"),
        # What is wrong with these the command says; to import is no error.
        ("much", "120.0 5.0 5.0 60.0 60.0"),
        ("nan", "120.0 5.0 5.0 60.0 60.0"),
        ("inf", "120.0 5.0 5.0 60.0 60.0"),
        ("1001", "120.0 5.0 5.0 60.0 60.0"),
    ],
)
def test_factor(patience: str, said: str) -> None:
    environment = {**os.environ, "MEMTYPE_PATIENCE": patience, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", SAYS], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == said


ALL = """
import json
from pytest_memtype.machine import timeouts
from pytest_memtype.ssh import connection
from pytest_memtype.target import machine, target
places = (timeouts, connection, machine, target)
names = {name for name in vars(timeouts) if name[0] != "_" and name.isupper()}
print(json.dumps([{name: vars(place)[name] for name in names if name in vars(place)} for place in places]))
"""


def test_it_is_the_factor_of_every_deadline_also_for_machines_over_ssh() -> None:
    def deadlines(patience: str) -> list[dict[str, float]]:
        environment = {**os.environ, "MEMTYPE_PATIENCE": patience, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", ALL]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True)
        return list(json.loads(done.stdout))

    plain = deadlines("1")
    assert "CONNECT" in plain[1]
    assert "UNDOING" in plain[2]
    assert {"GREETING", "UNDOING"} <= plain[3].keys()
    for slow, place in zip(deadlines("20"), plain, strict=True):
        assert slow == pytest.approx({name: 20 * each for name, each in place.items()})


@pytest.mark.parametrize("patience", ["much", "nan", "inf", "1001", "1e9"])
def test_a_factor_that_is_none_is_one_line(
    monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester, patience: str
) -> None:
    monkeypatch.setenv("MEMTYPE_PATIENCE", patience)
    line = f"memtype: MEMTYPE_PATIENCE='{patience}' in the environment is no factor from 1 to 1000"
    done = CliRunner().invoke(main, ["layouts"])
    assert (done.exit_code, done.output) == (2, f"{line}\n")
    run = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    assert line in run.stderr.str()
    assert "Traceback" not in run.stderr.str()


def test_a_factor_that_is_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_PATIENCE", "20")
    assert CliRunner().invoke(main, ["layouts"]).exit_code == 0
