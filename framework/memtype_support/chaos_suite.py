"""The suite that a chaos run disturbs, and the conftest.py beside it, as texts.

Each test stops at its points and asks whoever disturbs it, who answers when the fault has been made.
"""

from __future__ import annotations

#: How many tests there are, and how often each stops.
TESTS, POINTS = 8, 4

SUITE = f"""
import pytest
from pytest_memtype import MemType

pytestmark = pytest.mark.hardware(memory="96M")
TYPES = (MemType.WC, MemType.UC_MINUS, MemType.UC, MemType.WC)


@pytest.mark.parametrize("number", range({TESTS}))
def test_maps(guest, point, number):
    bar = guest.mmio(pages=4)
    point(0)
    guest.driver("drm").ioremap(bar, TYPES[number % 4])
    point(1)
    process = guest.process("X")
    process.mmap(bar, TYPES[number % 2], via="sysfs")
    point(2)
    guest.driver("fbdev").ioremap(bar, TYPES[number // 2 % 4])
    guest.memtype_list(bar)
    point(3)
    process.exit()
    guest.memtype_list(bar)
"""

CONFTEST = """
import json, os, socket
import pytest

PLACE = os.environ["CHAOS"]


@pytest.fixture
def point(request, guest):
    def ask(number):
        machine = guest.machine
        told = {
            "test": request.node.callspec.params["number"],
            "point": number,
            "worker": os.getpid(),
            "qemu": machine.process.pid,
            "ram": str(machine.config.ram_file or ""),
        }
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(PLACE + "/line")
            line.sendall(json.dumps(told).encode() + b"\\n")
            answer = json.loads(line.makefile().readline())
        if answer["shell"]:
            guest.shell(answer["shell"])

    return ask


def pytest_runtest_logreport(report):
    # Where pytest talks to the user, which is told of the tests of all workers.
    if "PYTEST_XDIST_WORKER" not in os.environ:
        entry = {"test": report.nodeid, "when": report.when, "outcome": report.outcome}
        with open(PLACE + "/outcomes", "a") as file:
            file.write(json.dumps({**entry, "text": report.longreprtext}) + "\\n")
"""
