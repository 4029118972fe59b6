from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_memtype.bisect.apart import _answer, _Apart, try_apart
from pytest_memtype.bisect.attempt import PASSED, UNKNOWN, Attempt
from pytest_memtype.kernels.bundle import resolve

TEST = """
import os
from pathlib import Path

# Blocks where the pipe is there: nobody writes to it.
if Path("pipe").exists():
    Path("pipe").read_bytes()

def test_it(guest): pass
"""


#: Starts an attempt, and says its process id.
PARENT = """
import sys
from pathlib import Path
from pytest_memtype.bisect.apart import _start
print(_start(sys.argv[1], sys.argv[2], Path.cwd(), mixed=True).process.pid, flush=True)
sys.stdin.read()
"""


def attempts_of_this_process() -> int:
    """How many there are, those included that have ended and that nobody has waited for."""
    tasks = Path("/proc/self/task").iterdir()
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    # The shell that removes temporary folders is a child too; an ended process has no command line.
    commands = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    return sum(not command or b"bisect.attempt" in command for command in commands)


def test_an_attempt_that_dies_is_trouble_of_the_host(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        made = _answer(_Apart("debian:6.1", tmp_path, process))
    assert made == Attempt(UNKNOWN, (UNKNOWN,), "the attempt ended without an answer", trouble=True)


def test_several_at_once(pytester: pytest.Pytester, capfd: pytest.CaptureFixture[str]) -> None:
    """A kernel that isn't there doesn't harm the attempt beside it."""
    file = pytester.makepyfile(test_apart=TEST)
    real = resolve("debian:bookworm")
    made = dict(try_apart(["tree:/nothing", real], f"{file}::test_it"))
    assert made[real] == Attempt(PASSED, (PASSED, PASSED))
    assert made["tree:/nothing"].answer == UNKNOWN
    assert "/nothing" in made["tree:/nothing"].reason
    assert "1 passed" in capfd.readouterr().err


def test_those_that_are_not_waited_for_are_stopped(pytester: pytest.Pytester) -> None:
    file = pytester.makepyfile(test_apart=TEST)
    os.mkfifo("pipe")
    attempts = try_apart([resolve("debian:bookworm"), "tree:/nothing"], f"{file}::test_it")
    assert next(attempts)[0] == "tree:/nothing"
    assert attempts_of_this_process() == 2
    attempts.close()
    assert attempts_of_this_process() == 0


def test_one_does_not_outlive_the_bisection(pytester: pytest.Pytester) -> None:
    file = pytester.makepyfile(test_apart=TEST)
    os.mkfifo("pipe")
    command = [sys.executable, "-c", PARENT, resolve("debian:bookworm"), f"{file}::test_it"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        # Once it reads, it has installed no handler that would take the signal.
        with Path("pipe").open("wb"):
            parent.kill()
            assert select.select([pidfd], [], [], 60)[0]
        os.close(pidfd)
