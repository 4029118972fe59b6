"""The QEMU of this host, and the differences between versions of QEMU.

What this package does differently for a version of QEMU is decided by :class:`Qemu`, from what the program
says of itself and never from the number of its version:

=================== ===== =============================================================================
feature             since why it matters
=================== ===== =============================================================================
``file:`` migration 8.2   ``fd:`` of a file is deprecated from 9.1 on, and refused by 11.1
=================== ===== =============================================================================

What differs besides is settled for every version alike:

- ``-qmp`` in the place of ``-mon``, which warns that it is deprecated (11.1);
- the extended TSEG has 16 MiB, made 64 by 11.1 (:data:`pytest_memtype.machine.qemu_command.EXTENDED_TSEG`);
- CMPXCHG16B is hidden from guests, which TCG gets wrong up to 7.2;
- the description at the end of a saved state is found without its first member, which is another from 10.0 on
  (:mod:`pytest_memtype.machine.device_state`).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from pytest_memtype.errors import HostError, reason
from pytest_memtype.host.child import describe_status
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.machine.timeouts import START

QEMU: Final = "qemu-system-x86_64"

#: The oldest version that everything works with; Debian 11 has 5.2.
OLDEST: Final = (7, 2)

#: The versions that the whole suite has run on (docs/hosts.md).
TESTED: Final = ((7, 2), (10, 0), (11, 1))

#: Types of devices, objects, machines and accelerators that every guest needs.
REQUIRED: Final = frozenset({"bochs-display", "memory-backend-file", "memory-backend-memfd", "pc-q35", "tcg"})

_INSTALL: Final = "install the package qemu-system-x86"
_SECONDS: Final = START
# Raise it when answers of earlier versions of this code can't be used.
_FORMAT: Final = 1


@dataclass(frozen=True)
class Qemu:
    """A QEMU program, as it describes itself.

    :param program: Path of the program.
    :param banner: The first line of ``--version``.
    :param version: Major, minor and micro number.
    :param types: Names of everything that its options take: devices, objects, ``pc-q35``, accelerators.
    :param file_migration: Whether ``migrate`` knows ``file:``.
    """

    program: str
    banner: str
    version: tuple[int, int, int]
    types: frozenset[str]
    file_migration: bool

    @property
    def release(self) -> str:
        """The version as text, ``10.0.13``."""
        return ".".join(map(str, self.version))

    @property
    def newer_than_tested(self) -> bool:
        """Whether the version is newer than all that the suite has run on."""
        return self.version[:2] > TESTED[-1]

    def state_uri(self, descriptor: int) -> str:
        """The URI by which ``migrate-incoming`` finds a file that QEMU has inherited as ``descriptor``."""
        # exec:cat costs 6 ms of the 70 that a clone takes.
        return f"file:/proc/self/fd/{descriptor}" if self.file_migration else f"fd:{descriptor}"


def this_qemu() -> Qemu:
    """The QEMU of this host. Its description is kept in the cache for as long as its file stays the same.

    :raises HostError: QEMU isn't installed, can't be started, is too old, or lacks what guests need.
    """
    program = shutil.which(QEMU)
    if program is None:
        raise HostError(f"{QEMU} is not on this host; {_INSTALL}")
    return _known(program, _stat_hash(program)) if _is_elf(program) else ask_once(program)


def tested_versions() -> str:
    """The versions of QEMU that were tested, as text."""
    return ", ".join(".".join(map(str, version)) for version in TESTED)


def age_warning(qemu: Qemu) -> str:
    """The warning, for the head of a run, about a version that is newer than all tested; empty for others."""
    if not qemu.newer_than_tested:
        return ""
    newest = ".".join(map(str, TESTED[-1]))
    return f"QEMU {qemu.release} is newer than the newest that was tested, {newest}"


def ask(program: str) -> Qemu:
    """Ask a QEMU program to describe itself. This starts it twice, without a guest.

    :param program: Path of the program.
    :raises HostError: the program can't be started, doesn't answer in time, is too old, or lacks what guests
        need.
    """
    banner = _banner(program)
    # One machine type for all questions; none has devices of its own.
    command = [program, "-M", "none", "-nodefaults", "-no-user-config", "-display", "none", "-qmp", "stdio"]
    questions = [
        {"execute": "qmp_capabilities"},
        {"execute": "query-qmp-schema"},
        {"execute": "qom-list-types", "arguments": {"implements": "device"}},
        {"execute": "qom-list-types", "arguments": {"implements": "accel"}},
        {"execute": "query-machines"},
        {"execute": "quit"},
    ]
    done = _run(command, "".join(json.dumps(question) + "\n" for question in questions))
    try:
        greeting, answers = _messages(done.stdout)
        numbers = greeting["QMP"]["version"]["qemu"]
        version = (int(numbers["major"]), int(numbers["minor"]), int(numbers["micro"]))
        schema, devices, accelerators, machines = (answer["return"] for answer in answers[1:5])
        enumerations = [set(entity["values"]) for entity in schema if entity["meta-type"] == "enum"]
        types = {
            *(str(device["name"]) for device in devices),
            *(str(each["name"]).removesuffix("-accel") for each in accelerators),
            *_union(values for values in enumerations if "memory-backend-file" in values),
            *(["pc-q35"] if any(each.get("alias") == "q35" for each in machines) else []),
        }
        # Its names are the URIs' schemes; they are an enumeration from 8.2 on, which brought "file", too.
        file_migration = any({"exec", "file", "rdma"} <= values for values in enumerations)
    except (ValueError, KeyError, TypeError, IndexError):
        said = _last_line(done.stderr) or _last_line(done.stdout) or "nothing"
        raise HostError(
            f"{program} {describe_status(done.returncode)} before it had said what it can do; it printed: "
            f"{said}; {_INSTALL} again"
        ) from None
    return _checked(Qemu(program, banner, version, frozenset(types), file_migration))


def _checked(qemu: Qemu) -> Qemu:
    """A QEMU that guests can use: the one that is given.

    :param qemu: The QEMU, by its description of itself.
    :raises HostError: the QEMU is too old, contradicts itself, or lacks what guests need.
    """
    if qemu.version[:2] < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise HostError(f"{qemu.program} is QEMU {qemu.release}; {oldest} is the oldest that works")
    if qemu.release not in qemu.banner:
        raise HostError(
            f"{qemu.program} says {qemu.release} over QMP and {qemu.banner!r} for --version; {_INSTALL} again"
        )
    missing = sorted(REQUIRED - qemu.types)
    if missing:
        raise HostError(
            f"{qemu.program} (QEMU {qemu.release}) lacks {', '.join(missing)}; {_INSTALL}, or build it whole"
        )
    return qemu


def _banner(program: str) -> str:
    done = _run([program, "--version"], "")
    banner = next(iter(done.stdout.splitlines()), "").strip()
    if done.returncode != 0 or not banner:
        said = _last_line(done.stderr) or banner or "nothing"
        raise HostError(
            f"{program} --version {describe_status(done.returncode)} and printed: {said}; {_INSTALL} again"
        )
    return banner


def _run(command: Sequence[str], typed: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, and kill what it has left running.

    A file takes what it prints. QEMU doesn't wait at its end for who reads a pipe late: its answers are
    longer than a pipe holds, and some were missing on a busy host (seen once, with 10.0.13).
    """
    shown = f"{command[0]} {command[1]}"
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as printed:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise HostError(f"{shown}: can't be started ({reason(error)}); {_INSTALL} again") from None
        try:
            _, errors = process.communicate(typed, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise HostError(f"{shown}: no answer in {_SECONDS:.0f} s; {_INSTALL} again") from None
        finally:
            # A script may leave children that have its pipes open.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        printed.seek(0)
        return subprocess.CompletedProcess(command, process.returncode, printed.read(), errors)


def _messages(output: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The greeting of QMP in QEMU's output, and the answers to the questions in order."""
    greeting, *rest = (json.loads(line) for line in output.splitlines())
    return greeting, [message for message in rest if "return" in message or "error" in message]


def _union(sets: Iterable[set[str]]) -> set[str]:
    return set().union(*sets)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    # The output of an unknown program may hold anything.
    return "".join(letter if letter.isprintable() else "?" for letter in lines[-1][:200]) if lines else ""


@functools.cache
def _known(program: str, identity: str) -> Qemu:
    kept = cache_directory() / "qemu" / f"{identity}.json"
    # Whatever is wrong with the file, asking again makes a better one.
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return _checked(msgspec.json.decode(kept.read_bytes(), type=Qemu))
    qemu = ask(program)
    # A full disk costs the next run the questions, not this one its tests. Several processes may write.
    with contextlib.suppress(OSError):
        kept.parent.mkdir(exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(msgspec.json.encode(qemu, order="deterministic"))
        unfinished.replace(kept)
        _forget_others(program, kept)
    return qemu


def _forget_others(program: str, kept: Path) -> None:
    """Remove the descriptions of the program before its upgrade, and of programs that are gone.

    :param program: Path of the program.
    :param kept: The file with the present description, which stays.
    :raises OSError: a file can't be read or removed.
    """
    for path in kept.parent.glob("*.json"):
        try:
            about = msgspec.json.decode(path.read_bytes(), type=Qemu).program
        except (ValueError, RecursionError):
            about = ""
        if path != kept and (about == program or not Path(about).is_file()):
            path.unlink(missing_ok=True)


def identity(program: str) -> str:
    """The hash that tells a program from any other: what is kept for it is valid for no other.

    A script's file stays the same when the QEMU behind it is another, so it is started and asked.

    :param program: Path of the program.
    :raises HostError: the program isn't there; a script fails, or what it starts can't be used.
    """
    if _is_elf(program):
        return _stat_hash(program)
    said = msgspec.json.encode(ask_once(program), order="deterministic")
    return hashlib.sha256(_stat_hash(program).encode() + said).hexdigest()[:16]


def _is_elf(program: str) -> bool:
    # A program that may be started but not read is asked each time, too.
    with contextlib.suppress(OSError), Path(program).open("rb") as file:
        return file.read(4) == b"\x7fELF"
    return False


def ask_once(program: str) -> Qemu:
    """Ask a program as :func:`ask` does, once in a process for as long as its file stays the same.

    :param program: Path of the program.
    :raises HostError: the file isn't there, or :func:`ask` raises it.
    """
    return _asked(program, _stat_hash(program))


@functools.cache
def _asked(program: str, _stat: str) -> Qemu:
    return ask(program)


def _stat_hash(program: str) -> str:
    try:
        status = Path(program).stat()
    except OSError as error:
        raise HostError(f"{reason(error)}; {_INSTALL} again") from None
    numbers = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return hashlib.sha256(f"{_FORMAT} {program} {numbers}".encode()).hexdigest()[:16]
