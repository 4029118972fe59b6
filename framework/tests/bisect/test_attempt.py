from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_memtype.bisect.attempt import FAILED, PASSED, UNKNOWN, Attempt, attempt, find_test
from pytest_memtype.bisect.attempt import NodeSelector as Name
from pytest_memtype.errors import UsageError

KERNEL = "debian:6.1.0-1-cloud-amd64"


@pytest.mark.parametrize(
    ("wanted", "name", "meant"),
    [
        ("test_it", f"test_it[{KERNEL}]", True),
        ("test_it", f"test_it[{KERNEL}-tail]", True),
        ("test_it[tail]", f"test_it[tail-{KERNEL}]", True),
        ("test_it[tail]", f"test_it[{KERNEL}-head]", False),
        ("test_it", f"test_it_too[{KERNEL}]", False),
        ("TestIt::test", f"TestIt::test[{KERNEL}]", True),
    ],
)
def test_which_test_is_meant(wanted: str, name: str, meant: bool) -> None:
    assert Name(Path("/test.py"), wanted).means(Path("/test.py"), name, KERNEL) is meant
    assert not Name(Path("/test.py"), wanted).means(Path("/other.py"), name, KERNEL)


@pytest.mark.parametrize("test", ["nothing.py::test", "testcases/test_ram.py", "testcases/test_ram.py::"])
def test_no_test(test: str) -> None:
    with pytest.raises(UsageError, match="no test"):
        find_test(test)


def test_a_test_of_the_suite() -> None:
    assert find_test("testcases/test_ram.py::test_it").file.name == "test_ram.py"


FLAKY = """
import os, signal, pytest
from pathlib import Path

def test_flaky(guest):
    count = Path(__file__).with_suffix(".count")
    tries = int(count.read_text()) if count.exists() else 0
    count.write_text(str(tries + 1))
    assert tries != 1

def test_good(guest): pass
def test_bad(guest): assert False
def test_skipped(guest):
    pytest.skip("not here \\udc80")
def test_panics(guest): guest.shell("echo c > /proc/sysrq-trigger")
def test_hangs(guest):
    guest._agent.timeout = 1
    guest.shell("while :; do :; done")
def test_killed(guest):
    os.kill(guest.machine.process.pid, signal.SIGKILL)
    guest.shell("true")

@pytest.fixture
def broken(guest): guest.shell("echo c > /proc/sysrq-trigger")
def test_before_the_test(broken): pass
"""


def test_attempts(pytester: pytest.Pytester) -> None:
    """Two tries have to agree, a third one decides; what is skipped isn't known.

    A kernel that dies in the test fails it; one that dies before it, or a QEMU that ends, says nothing.
    """
    from pytest_memtype.kernels.bundle import resolve

    file = pytester.makepyfile(test_attempts=FLAKY)
    made = {
        name: attempt(resolve("debian:bookworm"), find_test(f"{file}::test_{name}"))
        for name in ("good", "bad", "flaky", "skipped", "panics", "hangs", "killed", "before_the_test")
    }
    assert made["good"] == Attempt(PASSED, (PASSED, PASSED))
    assert made["bad"] == Attempt(FAILED, (FAILED, FAILED))
    assert made["flaky"] == Attempt(PASSED, (PASSED, FAILED, PASSED))
    assert made["flaky"].flaky
    assert made["skipped"].answer == UNKNOWN
    # A file of JSON takes it.
    assert r"not here \udc80" in made["skipped"].reason
    for name, why in (("panics", "GuestPanicked: .*sysrq"), ("hangs", "GuestHung: the guest gave no answer")):
        assert made[name].answer == FAILED
        assert made[name].tries == (FAILED, FAILED)
        assert re.search(why, made[name].reason)
        assert not made[name].trouble
    for name, why in (("killed", "GuestExited"), ("before_the_test", "GuestPanicked")):
        assert made[name].answer == UNKNOWN
        assert why in made[name].reason
        assert made[name].trouble
