import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_memtype.errors import HostError
from pytest_memtype.host.child import describe_status, dying_with_us
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.machine.process import ChildProcess

#: Starts a child on a thread that ends at once, and says its process id.
PARENT = """
import sys, threading
from pathlib import Path
from pytest_memtype.machine.process import ChildProcess
launcher = Path(sys.argv[2]) if sys.argv[2:] else None
def start():
    print(ChildProcess(["sleep", "1000"], output=Path(sys.argv[1]), launcher=launcher).pid, flush=True)
thread = threading.Thread(target=start)
thread.start()
thread.join()
print("joined", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module", params=["started", "forked"])
def launcher(request: pytest.FixtureRequest) -> Path | None:
    return bundle("debian:bookworm").launcher if request.param == "forked" else None


def ended(pidfd: int, seconds: float) -> bool:
    return bool(select.select([pidfd], [], [], seconds)[0])


def test_output_and_status(tmp_path: Path, launcher: Path | None) -> None:
    command = ["sh", "-c", "echo out; echo error >&2; exit 3"]
    process = ChildProcess(command, output=tmp_path / "log", launcher=launcher)
    assert ended(process.pidfd, 60)
    assert process.status == 3
    assert (tmp_path / "log").read_text() == "out\nerror\n"
    process.close()


def test_close_kills_and_reaps(tmp_path: Path, launcher: Path | None) -> None:
    process = ChildProcess(["sleep", "1000"], output=tmp_path / "log", launcher=launcher)
    assert process.status is None
    # Ctrl-C in a terminal goes to the whole session's foreground group, and must not go to it.
    assert os.getsid(process.pid) != os.getsid(0)
    process.close()
    assert process.status == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    process.close()


def test_outlives_the_thread_that_started_it_but_not_the_process(
    tmp_path: Path, launcher: Path | None
) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log"), *([str(launcher)] if launcher else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        assert parent.stdout.readline() == "joined\n"
        assert not ended(pidfd, 0)
        parent.kill()
        assert ended(pidfd, 60)
        os.close(pidfd)


def test_does_not_start_for_a_parent_that_is_gone(tmp_path: Path) -> None:
    touch = [*dying_with_us(), "touch", str(tmp_path / "started")]
    # A shell in between, as init is when this process was killed right after fork().
    subprocess.run(["sh", "-c", '"$@"; true', "sh", *touch], check=True, timeout=60)
    assert not (tmp_path / "started").exists()
    subprocess.run(touch, check=True, timeout=60)
    assert (tmp_path / "started").exists()


def test_missing_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "setpriv").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        HostError, match=r"^qemu-system-x86_64 is not on this host; install .* qemu-system-x86$"
    ):
        ChildProcess(["qemu-system-x86_64"], output=tmp_path / "log")


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "ended with status 0"),
        (1, "ended with status 1"),
        (-9, "was killed by SIGKILL"),
        (-11, "was killed by SIGSEGV"),
        (-200, "was killed by signal 200"),
    ],
)
def test_describe_status(status: int, text: str) -> None:
    assert describe_status(status) == text
