"""What can go wrong during a run, with real guests: it is said, it harms no other test, nothing is left."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from memtype_support import mounts
from memtype_support.empty_cache import empty_cache
from memtype_support.processes import qemus_of

from pytest_memtype.host.private_folder import PREFIX

#: In the order of the file, and without a trial of accelerators, which an empty cache would cause.
OPTIONS = ("-p", "no:cacheprovider", "-p", "no:randomly", "--accel", "tcg")

GOOD = """
from pytest_memtype import MemType

def map_twice(guest):
    bar = guest.mmio(pages=1)
    first = guest.driver("drm").ioremap(bar, MemType.WC)
    second = guest.driver("fbdev").ioremap(bar, MemType.UC_MINUS)
    assert first.accepted and second.verdict.rule == "alias" and second.granted is MemType.WC

def test_before(guest):
    map_twice(guest)

def test_after(guest):
    map_twice(guest)
"""


@pytest.fixture(autouse=True)
def temporary_files(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of the pytests below, shared with nobody."""
    path = pytester.path / "temporary"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    return path


def with_bad_test(body: str, *, imports: str = "") -> str:
    """Three tests, the second of which goes wrong."""
    head, tail = GOOD.split("def test_after")
    indented = body.strip().replace("\n", "\n    ")
    return f"{imports}\n{head}def test_bad(guest):\n    {indented}\n\ndef test_after{tail}"


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess(*OPTIONS, *arguments)


def records(pytester: pytest.Pytester) -> list[dict[str, object]]:
    (file,) = (pytester.path / ".memtype").glob("runs/*/records.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def nothing_is_left(pytester: pytest.Pytester, temporary_files: Path) -> None:
    assert qemus_of(pytester.path) == []
    assert list(temporary_files.glob(f"{PREFIX}*")) == []


def the_good_tests_passed(pytester: pytest.Pytester) -> None:
    """Their records are those of a run in which nothing went wrong."""
    for name in ("test_before", "test_after"):
        first, second = (each for each in records(pytester) if f"::{name}[" in str(each["test"]))
        assert (first["granted"], second["granted"]) == ("WC", "WC")
        assert first["boot"] == second["boot"] == "clone"


BAD = {
    "qemu-killed": (
        "os.kill(guest.machine.process.pid, signal.SIGKILL)\nmap_twice(guest)",
        # Which of the two it is doing when the news comes is a race.
        r"GuestExited: QEMU \(process \d+\) was killed by SIGKILL "
        r"\((waiting for the answer to 'ioremap'|writing to the agent's port)",
    ),
    "panic": (
        "guest.shell('echo c > /proc/sysrq-trigger')",
        r"GuestPanicked: the guest's kernel panicked \(waiting for the answer to 'shell'.*"
        r"Kernel panic - not syncing: sysrq triggered crash",
    ),
    "power-off": (
        "guest.shell('poweroff -f')",
        r"GuestExited: the guest powered itself off \(waiting for the answer to 'shell'",
    ),
    # The bound of a healthy guest is lowered: a guest under TCG takes a minute to pass it.
    "endless-console": (
        "console.FLOOD = 1 << 18\nguest.shell('cat /dev/zero > /dev/ttyS0')",
        r"GuestFlooded: the guest printed more than 256K on its console; see .*console\.log",
    ),
    "stopped": (
        "guest._agent.timeout = 1\nguest.qmp.execute('stop')\nmap_twice(guest)",
        r"GuestHung: the guest gave no answer for [\d.]+ s \(waiting for the answer to 'ioremap'.*paused",
    ),
    "never-answers": (
        "guest._agent.timeout = 1\nguest.shell('while :; do :; done')",
        r"GuestHung: the guest gave no answer for [\d.]+ s \(waiting for the answer to 'shell'"
        # Said once a second, and so perhaps not yet.
        r"(; the agent lives, and is still busy with it)? on",
    ),
    "next-guest-killed": (
        # The guest that is started ahead of test_after, once it is there.
        "session = guest_session(request)\n"
        "os.kill(session._ahead._next.result().guest.machine.process.pid, signal.SIGKILL)\n"
        "raise RuntimeError('on purpose')",
        r".*RuntimeError: on purpose",
    ),
}

IMPORTS = """
import os, signal
from pytest_memtype.machine import console
from pytest_memtype.plugin.session import session_of

def guest_session(request):
    return session_of(request.config)
"""


@pytest.mark.parametrize("name", BAD)
def test_a_guest_that_goes_wrong_fails_its_own_test_alone(
    pytester: pytest.Pytester, temporary_files: Path, name: str
) -> None:
    body, message = BAD[name]
    source = with_bad_test(body, imports=IMPORTS)
    if "request" in body:
        source = source.replace("test_bad(guest)", "test_bad(guest, request)")
    pytester.makepyfile(source)
    result = run(pytester)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.re_match_lines([f".*{message}"])
    the_good_tests_passed(pytester)
    nothing_is_left(pytester, temporary_files)


def test_a_killed_worker_fails_the_test_it_ran(pytester: pytest.Pytester, temporary_files: Path) -> None:
    body = "os.kill(os.getpid(), signal.SIGKILL)"
    pytester.makepyfile(with_bad_test(body, imports=IMPORTS))
    result = run(pytester, "-n", "2")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.re_match_lines([r".*worker 'gw\d' crashed while running '.*::test_bad\["])
    the_good_tests_passed(pytester)
    nothing_is_left(pytester, temporary_files)


@pytest.mark.parametrize("workers", [0, 2])
def test_killing_pytest_leaves_no_process_and_the_next_run_clears_up(
    pytester: pytest.Pytester, temporary_files: Path, workers: int
) -> None:
    told, tell = os.pipe()
    body = (
        f"os.write({tell}, b'%d\\n' % guest.machine.process.pid)\nguest.console.expect(b'never', timeout=200)"
    )
    pytester.makepyfile(with_bad_test(body, imports=IMPORTS))
    command = [sys.executable, "-m", "pytest", *OPTIONS, "-k", "bad"]
    command += ["-n", str(workers)] if workers else []
    # A worker of pytest-xdist inherits no descriptors; it opens the pipe by its name.
    if workers:
        source = next(pytester.path.glob("test_*.py"))
        path = f"/proc/{os.getpid()}/fd/{tell}"
        source.write_text(source.read_text().replace(f"os.write({tell},", f"os.write(os.open({path!r}, 1),"))
    process = subprocess.Popen(
        command,
        cwd=pytester.path,
        pass_fds=[tell],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert select.select([told], [], [], 120)[0]
        number = int(os.read(told, 100))
        # What is left would be found.
        assert qemus_of(pytester.path) == [number]
        assert list(temporary_files.glob(f"{PREFIX}*"))
        qemu = os.pidfd_open(number)
    finally:
        process.kill()
        process.wait()
    # Readable when the process has ended.
    assert select.select([qemu], [], [], 60)[0]
    for descriptor in (told, tell, qemu):
        os.close(descriptor)
    source = next(pytester.path.glob("test_*.py"))
    source.write_text(GOOD)
    run(pytester).assert_outcomes(passed=2)
    nothing_is_left(pytester, temporary_files)


SMALL = 'import pytest\npytestmark = pytest.mark.hardware(memory="96M")\n'


DAMAGES_ITS_TEMPLATE = """
with guest.machine.config.ram_file.open("r+b") as ram:
    ram.seek(os.lseek(ram.fileno(), 0, os.SEEK_DATA) + 4097)
    (byte,) = ram.read(1)
    ram.seek(-1, os.SEEK_CUR)
    ram.write(bytes([byte ^ 1]))
map_twice(guest)
"""


def test_a_template_that_changes_below_a_guest_fails_its_test_alone(
    pytester: pytest.Pytester, temporary_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = pytester.path / ".cache"
    empty_cache(cache)
    monkeypatch.setenv("MEMTYPE_CACHE", str(cache))
    pytester.makepyfile(SMALL + with_bad_test(DAMAGES_ITS_TEMPLATE, imports=IMPORTS))
    result = run(pytester, "-n0")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.re_match_lines([r".*HostError: \S+/ram: somebody has changed it while a guest ran"])
    # What such a guest answers is no record, and the next has a template that was made again.
    assert not any("::test_bad[" in str(each["test"]) for each in records(pytester))
    after = [each["granted"] for each in records(pytester) if "::test_after[" in str(each["test"])]
    assert after == ["WC", "WC"]
    result.stdout.re_match_lines([r"memtype: a template is damaged, and made again: \S+/ram has changed.*"])
    nothing_is_left(pytester, temporary_files)


def test_two_workers_with_an_empty_cache_make_one_template(
    pytester: pytest.Pytester, temporary_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Hidden: pytest would look for tests in all of the kernels there.
    cache = pytester.path / ".cache"
    empty_cache(cache)
    monkeypatch.setenv("MEMTYPE_CACHE", str(cache))
    pytester.makepyfile(SMALL + GOOD)
    run(pytester, "-n", "2").assert_outcomes(passed=2)
    the_good_tests_passed(pytester)
    assert len(list(cache.glob("templates/*/ready"))) == 1
    nothing_is_left(pytester, temporary_files)


def test_a_disk_that_is_full_is_said_and_changes_no_verdict(
    pytester: pytest.Pytester, temporary_files: Path
) -> None:
    """A template of 96 MiB has used more than the 32 of the disk."""
    mounts.require()
    disk = pytester.path / ".disk"
    empty_cache(disk)
    links = {path.name: path.readlink() for path in disk.iterdir()}
    pytester.makepyfile(SMALL + GOOD)
    script = [f'mount -t tmpfs -o size=32m,mode=755 none "{disk}"']
    script += [f'ln -s "{target}" "{disk}/{name}"' for name, target in links.items()]
    script += [f'"{sys.executable}" -m pytest {" ".join(OPTIONS)} -n0']
    script += [f'find "{disk}/templates" -type f ! -name lock | sed "s/^/left: /"']
    done = subprocess.run(
        [*mounts.OWN_MOUNTS, "sh", "-c", "\n".join(script)],
        cwd=pytester.path,
        env={**os.environ, "MEMTYPE_CACHE": str(disk)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert "left: " not in done.stdout
    found = records(pytester)
    assert [record["granted"] for record in found] == ["WC"] * 4
    for record in found:
        assert str(record["boot"]).startswith(f"boot, because a clone failed: {disk}/templates/")
        assert "disk is full" in str(record["boot"])
    nothing_is_left(pytester, temporary_files)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_first_failure_is_no_interruption(pytester: pytest.Pytester, workers: str) -> None:
    """pytest-xdist stops at a failure by an exception that is a KeyboardInterrupt."""
    pytester.makepyfile("def test_bad():\n    assert False\n\ndef test_worse():\n    assert False\n")
    command = [
        sys.executable,
        "-c",
        "from pytest_memtype.cli import main; main()",
        "run",
        "-x",
        "-n",
        workers,
    ]
    command += ["-p", "no:cacheprovider", "test_the_first_failure_is_no_interruption.py"]
    done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, check=False)
    assert "interrupted" not in done.stderr
    assert done.returncode == 1, done.stdout + done.stderr
