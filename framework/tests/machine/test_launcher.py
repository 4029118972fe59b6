"""Processes that a launcher has forked; what they share with all others is in ``test_process.py``."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.machine.process import ChildProcess

#: Says what it was started with. Where its heap is shows whether it was forked: the kernel puts it elsewhere
#: in every program that it starts (Linux, Documentation/admin-guide/sysctl/kernel.rst, randomize_va_space).
TELL = """
import json, os, resource, sys
print(json.dumps({
    "parent": os.getppid(),
    "folder": os.getcwd(),
    "variables": dict(os.environ),
    "arguments": sys.argv[1:],
    "input": sys.stdin.read(),
    "files": {
        name: os.path.realpath(f"/proc/self/fd/{name}")
        for name in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{name}")
    },
    "limit": resource.getrlimit(resource.RLIMIT_CORE)[0],
    "mask": os.umask(0),
    "shown": open("/proc/self/cmdline").read(),
    "heap": next(line.split("-")[0] for line in open("/proc/self/maps") if "[heap]" in line),
}))
"""


@pytest.fixture(scope="module")
def library() -> Path:
    return bundle("debian:bookworm").launcher


def told(
    folder: Path, library: Path, *arguments: str, program: str = sys.executable, pass_fds: Sequence[int] = ()
) -> dict[str, Any]:
    """What a process says of itself."""
    output = folder / "output"
    output.unlink(missing_ok=True)
    process = ChildProcess(
        [program, "-c", TELL, *arguments], pass_fds=pass_fds, output=output, launcher=library
    )
    os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
    status = process.status
    process.close()
    assert status == 0, output.read_text()
    content = json.loads(output.read_text())
    assert isinstance(content, dict)
    return content


def test_it_is_a_child_as_any(tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = told(tmp_path, library)
    # What changed since the launcher was started counts.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OF_LATE", "a value")
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (4096, before[1]))
    try:
        mask = os.umask(0o027)
        second = told(tmp_path, library, "an argument", "")
    finally:
        os.umask(mask)
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert second["heap"] == first["heap"], "it wasn't forked"
    assert second["parent"] == os.getpid()
    assert second["folder"] == str(tmp_path)
    assert second["variables"] == dict(os.environ)
    assert second["arguments"] == ["an argument", ""]
    assert second["input"] == ""
    assert second["limit"] == 4096
    assert second["mask"] == 0o027
    shown = "\0".join([sys.executable, "-c", TELL, "an argument", "", ""])
    assert second["shown"].rstrip("\0") == shown.rstrip("\0")


#: Hands over files whose numbers are those that the launcher has received others under, its lowest.
NUMBERS = """
import os, sys
from pathlib import Path
from pytest_memtype.machine.process import ChildProcess
folder, library, tell = sys.argv[1:]
numbers = [*range(10, 2, -1), 700]
opened = os.open(folder, os.O_RDONLY)
for number in numbers:
    if number != opened:
        os.dup2(opened, number)
process = ChildProcess(
    [sys.executable, "-c", tell], pass_fds=numbers, output=Path(folder, "output"), launcher=Path(library)
)
os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
print(process.status, type(process._started).__name__)
"""


def test_files_keep_their_numbers(tmp_path: Path, library: Path) -> None:
    command = [sys.executable, "-c", NUMBERS, str(tmp_path), str(library), TELL]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("0 Child\n", "")
    output = str(tmp_path / "output")
    files = {int(number): path for number, path in json.loads(Path(output).read_text())["files"].items()}
    handed = dict.fromkeys([*range(3, 11), 700], str(tmp_path))
    assert files == {0: os.devnull, 1: output, 2: output, **handed}


def test_nothing_is_left_open(tmp_path: Path, library: Path) -> None:
    told(tmp_path, library)
    before = open_files()
    for _ in range(5):
        told(tmp_path, library)
    assert open_files() == before


def test_a_launcher_that_is_gone_is_done_without(tmp_path: Path, library: Path) -> None:
    program = tmp_path / "python"
    shutil.copy(Path(sys.executable).resolve(), program)
    heaps = [told(tmp_path, library, program=str(program))["heap"] for _ in range(2)]
    assert heaps[0] == heaps[1]
    (waiting,) = [pid for pid in children() if command_of(pid).startswith(f"{program}\0--version")]
    os.kill(waiting, signal.SIGKILL)
    heaps += [told(tmp_path, library, program=str(program))["heap"] for _ in range(2)]
    assert len(set(heaps)) == 3
    assert waiting not in children()


def test_a_launcher_that_gives_no_answer_is_done_without(tmp_path: Path, library: Path) -> None:
    program = tmp_path / "python"
    shutil.copy(Path(sys.executable).resolve(), program)
    heaps = [told(tmp_path, library, program=str(program))["heap"]]
    (waiting,) = [pid for pid in children() if command_of(pid).startswith(f"{program}\0--version")]
    os.kill(waiting, signal.SIGSTOP)
    heaps += [told(tmp_path, library, program=str(program))["heap"] for _ in range(2)]
    assert len(set(heaps)) == 3
    # And it has started nothing later, when nobody waited any more.
    assert not [pid for pid in children() if command_of(pid).startswith(str(program))]


def test_one_that_somebody_else_has_waited_for(tmp_path: Path, library: Path) -> None:
    process = ChildProcess(["sh", "-c", "exit 3"], output=tmp_path / "output", launcher=library)
    assert os.waitpid(process.pid, 0)[0] == process.pid
    # As subprocess says it.
    assert process.status == 0
    process.close()


def test_a_script_is_started_as_ever(tmp_path: Path, library: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    heaps = [told(tmp_path, library, program=str(script))["heap"] for _ in range(2)]
    assert heaps[0] != heaps[1]


@pytest.mark.parametrize("content", [None, b"", b"no library"])
def test_a_library_that_is_none_is_done_without(tmp_path: Path, content: bytes | None) -> None:
    program, library = tmp_path / "python", tmp_path / "library"
    shutil.copy(Path(sys.executable).resolve(), program)
    if content is not None:
        library.write_bytes(content)
    heaps = [told(tmp_path, library, program=str(program))["heap"] for _ in range(2)]
    assert heaps[0] != heaps[1]
    assert not [pid for pid in children() if command_of(pid).startswith(str(program))]


def test_a_request_that_is_too_long_is_refused(tmp_path: Path, library: Path) -> None:
    """It fits into no message of a socket, and Linux starts no program with such an argument either."""
    program = tmp_path / "python"
    shutil.copy(Path(sys.executable).resolve(), program)
    with pytest.raises(OSError, match="Argument list too long"):
        told(tmp_path, library, "a" * 300_000, program=str(program))


def open_files() -> set[str]:
    return {file.name for file in Path("/proc/self/fd").iterdir() if file.is_symlink()}


def children() -> list[int]:
    """Of this process."""
    found = Path("/proc/self/task").glob("*/children")
    return [int(pid) for file in found for pid in file.read_text().split()]


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()
