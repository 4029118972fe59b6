"""Which QEMU there is: the host's own, and those that have one thing wrong with them."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from memtype_support import broken_qemu

from pytest_memtype.errors import HostError
from pytest_memtype.host.progress import Remark
from pytest_memtype.machine import qemu_versions
from pytest_memtype.machine.qemu_versions import QEMU, age_warning, ask, this_qemu
from pytest_memtype.machine.vcpu_registers import usable_qemu

#: What the one line says for each thing that is wrong.
SAYS = {
    "status 127": "ended with status 127 and printed: nothing",
    "no version": "ended with status 0 and printed: nothing",
    "too old": "is QEMU 5.2.0; 7.2 is the oldest that works",
    "two versions": "over QMP and 'QEMU emulator version 5.2.0' for --version",
    "no bochs-display": "lacks bochs-display",
    "no description": "the device state doesn't describe itself",
    "no guest": "'nosuch' is not a valid device model name",
    "text for JSON": "it printed: hello",
}


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, so that nothing is known of any QEMU."""
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_this_one_says_what_it_is_once(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu_versions._known.cache_clear()
    known = this_qemu()
    program = shutil.which(QEMU)
    assert program == known.program
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert known.banner == said.splitlines()[0]
    assert known.release in known.banner
    assert known.types >= qemu_versions.REQUIRED
    # Another process reads what this one has kept.
    qemu_versions._known.cache_clear()
    monkeypatch.setattr(qemu_versions, "ask", lambda program: pytest.fail(f"{program} was asked again"))
    assert this_qemu() == known
    (kept,) = (own_cache / "qemu").iterdir()
    assert json.loads(kept.read_text())["banner"] == known.banner


def test_one_that_does_not_wait_for_its_reader_is_heard_out(tmp_path: Path) -> None:
    """It drops what a pipe has no room for, as QEMU does that is told to quit."""
    program = tmp_path / QEMU
    real = shutil.which(QEMU)
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, subprocess, sys\n"
        f"said = subprocess.run([{real!r}, *sys.argv[1:]], stdin=0, stdout=subprocess.PIPE).stdout\n"
        "os.set_blocking(1, False)\n"
        "while said:\n"
        "    try:\n"
        "        said = said[os.write(1, said) :]\n"
        "    except BlockingIOError:\n"
        "        break\n"
    )
    program.chmod(0o755)
    assert ask(str(program)).version == this_qemu().version


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"version": [1]}', "[" * 100_000])
def test_a_damaged_answer_is_asked_for_again(own_cache: Path, content: str) -> None:
    qemu_versions._known.cache_clear()
    known = this_qemu()
    (kept,) = (own_cache / "qemu").iterdir()
    kept.write_text(content)
    qemu_versions._known.cache_clear()
    assert this_qemu() == known


@pytest.mark.usefixtures("own_cache")
def test_another_program_under_the_same_name_is_asked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    broken_qemu.make(tmp_path / "bin", "newer")
    assert this_qemu().release == "99.1.0"
    # As an upgrade does it.
    (tmp_path / "bin" / QEMU).unlink()
    broken_qemu.make(tmp_path / "bin", "too old")
    with pytest.raises(HostError, match=r"5\.2\.0"):
        this_qemu()


def test_what_it_said_before_an_upgrade_is_dropped(own_cache: Path, tmp_path: Path) -> None:
    own, other = own_cache / "qemu", shutil.which(QEMU)
    own.mkdir(parents=True)
    assert other is not None
    for name, program in {"other": other, "gone": str(tmp_path / "gone")}.items():
        said = qemu_versions.Qemu(program, "QEMU emulator version 9.0.0", (9, 0, 0), frozenset(), True)
        (own / f"{name}.json").write_bytes(msgspec.json.encode(said))
    (own / "damaged.json").write_text("[" * 100_000)
    upgraded = broken_qemu.make(tmp_path / "bin", "newer")
    # An upgrade changes the hash by which a program's answer is kept.
    for identity in ("before", "after"):
        assert qemu_versions._known(str(upgraded), identity).release == "99.1.0"
    assert {path.name for path in own.iterdir()} == {"other.json", "after.json"}


@pytest.mark.usefixtures("own_cache")
def test_another_program_behind_the_same_script_is_asked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = broken_qemu.make(tmp_path / "inner", "newer")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / QEMU
    script.write_text(f'#!/bin/sh\nexec {inner} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    assert this_qemu().release == "99.1.0"
    inner.write_text(inner.read_text().replace("99", "98"))
    # As the next process asks.
    for known in (qemu_versions._known, qemu_versions._asked):
        known.cache_clear()
    assert this_qemu().release == "98.1.0"


def test_none_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="not on this host; install the package qemu-system-x86"):
        this_qemu()


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("wrong", [*SAYS])
def test_what_is_wrong_is_one_line(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = broken_qemu.make(tmp_path / "bin", wrong)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    with pytest.raises(HostError) as raised:
        usable_qemu()
    message = str(raised.value)
    assert SAYS[wrong] in message
    assert str(program) in message
    assert "\n" not in message


@pytest.mark.usefixtures("own_cache")
def test_one_that_is_confined_is_used_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_qemu.make(tmp_path / "bin", "confined")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    said: list[str] = []
    usable_qemu(progress=said.append)
    (remark,) = said
    assert isinstance(remark, Remark)
    assert remark.startswith("nothing can be cloned, so that each guest boots: QEMU (process ")
    assert "can't open backing store" in remark
    assert "\n" not in remark


@pytest.mark.usefixtures("own_cache")
def test_a_host_without_memory_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused to this process, and QEMU has its own."""

    def forbidden(*_: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "memfd_create", forbidden)
    said: list[str] = []
    usable_qemu(progress=said.append)
    assert [line.partition(": ")[0] for line in said] == ["nothing can be cloned, so that each guest boots"]
    assert "memfd_create" in said[0]


def test_one_that_hangs_is_given_up_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = broken_qemu.make(tmp_path, "no answer")
    program.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! >{tmp_path}/child\nwait\n")
    monkeypatch.setattr(qemu_versions, "_SECONDS", 1.0)
    with pytest.raises(HostError, match="no answer in 1 s"):
        ask(str(program))
    child = int((tmp_path / "child").read_text())
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(child)
        # Readable when it is dead, whoever has to collect it.
        assert select.select([pidfd], [], [], 30)[0]
        os.close(pidfd)


@pytest.mark.parametrize(("version", "warns"), [((7, 2, 22), False), ((8, 2, 2), False), ((99, 0, 0), True)])
def test_a_newer_one_is_told(version: tuple[int, int, int], *, warns: bool) -> None:
    warning = age_warning(dataclasses.replace(this_qemu(), version=version))
    assert bool(warning) == warns
    assert warns == ("99.0.0 is newer than the newest that was tested" in warning)


@pytest.mark.parametrize("command", ["memtype run", "pytest"])
@pytest.mark.parametrize(
    "wrong", ["status 127", "no version", "too old", "no bochs-display", "no description"]
)
def test_a_run_ends_at_once_with_one_line(command: str, wrong: str, own_cache: Path, tmp_path: Path) -> None:
    """Status 3, and nothing was fetched: there isn't even an index."""
    program = broken_qemu.make(tmp_path / "bin", wrong)
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_it.py").write_text("def test_it(guest): ...\ndef test_again(guest): ...\n")
    (tests / "pytest.ini").write_text("[pytest]\n")
    arguments = {
        "memtype run": ["-c", "from pytest_memtype.cli import main; main()", "run", "test_it.py"],
        "pytest": ["-m", "pytest", "-q"],
    }[command]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tests,
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 3, output
    assert "Traceback" not in output
    told = [line for line in output.splitlines() if str(program) in line]
    assert len(told) == 1
    assert SAYS[wrong] in told[0]
    assert not (own_cache / "index").exists()
    if command == "memtype run":
        assert output.splitlines() == told
