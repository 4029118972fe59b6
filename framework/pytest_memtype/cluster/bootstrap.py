"""The part that runs inside a Dask worker. It travels by value: nothing of this package has to be there.

It unpacks what the client sent, once per machine, and hands each request to a process of its own, the server
(:mod:`pytest_memtype.cluster.server`). So the Dask worker never imports what it was sent, and a test that
dies takes no worker with it. Nothing but the standard library and distributed is used here.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import grp
import hashlib
import io
import json
import os
import pwd
import select
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import types
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

LARGEST_OUTPUT: Final = 96 << 20
"""Bytes. The suite's records, reports and logs of one kernel, all failed, are a tenth of that."""

_KEPT: Final = 12
"""Number of unpacked things that stay on a machine; the least recently used ones go."""

_TAIL: Final = 2000
"""Bytes of a server's output that an answer quotes."""


def work(request: dict[str, Any], luggage: dict[str, Any]) -> bytes:
    """Carry out a request, and return lines of JSON, compressed. It raises nothing: errors are such a line.

    :param request: The request for the server, with ``seconds`` that it may take, and ``resources`` that the
        worker has from then on, if it is able.
    :param luggage: Zip files by the names of their hashes.
    """
    try:
        lines = _work(request, luggage)
    except Exception as error:
        # An exception would reach the client as a pickle.
        lines = [_line(unable=f"{type(error).__name__}: {error}")]
    return zlib.compress(b"\n".join(lines), 1)


def _work(request: dict[str, Any], luggage: dict[str, Any]) -> list[bytes]:
    if request.get("ask") == "kept":
        return _kept(request)
    worker = _this_worker()
    needed = ["qemu", "kvm"] if request.get("accelerator") == "kvm" else ["qemu"]
    missing = [name for name in needed if worker is not None and not worker.state.total_resources.get(name)]
    if missing:
        # Dask would keep the tasks for a worker that has it, as long as that takes.
        own = " ".join(f"{name}=1" for name in needed)
        return [_line(unable=f"it declares no resource {missing[0]}: start it with --resources '{own}'")]
    folder = _cache() / "cluster"
    for place in (*reversed(folder.parents), folder):
        place.mkdir(mode=0o700, exist_ok=True)
    _require_ours(folder)
    unpacked = {name: str(_unpacked(folder, name, data)) for name, data in luggage.items()}
    server = _server(unpacked[request["package"]])
    lines = server.ask({**request, "unpacked": unpacked}, wanted=_wanted(worker))
    if worker is not None and "resources" in request:
        able = any(b'"able"' in line for line in lines)
        given = {name: amount if able else 0 for name, amount in request["resources"].items()}
        given = {name: worker.state.total_resources["qemu"] if given[name] else 0 for name in given}
        asyncio.run_coroutine_threadsafe(worker.set_resources(**given), worker.loop.asyncio_loop).result(
            timeout=30
        )
    if worker is not None and any(b'"kept"' in line for line in lines):
        lines.append(_line(worker=worker.address))
    return lines


def _kept(request: dict[str, Any]) -> list[bytes]:
    """The logs of a test that passed on this machine, as :mod:`pytest_memtype.run.kept_logs` keeps them.

    It takes neither the package nor QEMU, so an answer comes at once.
    """
    folder = _cache() / "evidence"
    try:
        _require_ours(folder)
        with (folder / request["run"] / request["name"]).open("rb") as file:
            content: bytes = file.read(LARGEST_OUTPUT)
    except FileNotFoundError:
        return [_line(lacks=request["name"], why="it has them no more")]
    return content.split(b"\n")


def _line(**content: Any) -> bytes:
    return json.dumps(content).encode()


def _this_worker() -> Any:
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:  # The function was called directly.
        return None


def _wanted(worker: Any) -> Any:
    """A function that tells whether the client still waits for the task that this thread works on."""
    if worker is None:
        return lambda: True
    key = worker.get_current_task()

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state == "executing"

    return wanted


def _cache() -> Path:
    named = os.environ.get("MEMTYPE_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memtype"


def _require_ours(folder: Path) -> None:
    """Check that nobody else could have put something into a folder whose contents are run.

    This is :mod:`pytest_memtype.host.trust` for a machine that doesn't have it yet.

    :param folder: The folder, whose path holds no link below it.
    :raises PermissionError: somebody else could.
    """
    for place in (folder.resolve(), *folder.resolve().parents):
        status = place.stat()
        mode = status.st_mode
        above = place != folder.resolve()
        if status.st_uid not in (os.geteuid(), 0):
            raise PermissionError(f"{place} belongs to user {status.st_uid}; set MEMTYPE_CACHE to another")
        if above and mode & stat.S_ISVTX:
            continue
        try:
            members = set(grp.getgrgid(status.st_gid).gr_mem) - {pwd.getpwuid(os.geteuid()).pw_name}
            private = status.st_gid == pwd.getpwuid(os.geteuid()).pw_gid and not members
        except KeyError:
            private = False
        if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not private):
            raise PermissionError(f"{place}: others can write to it; chmod go-w it, or set MEMTYPE_CACHE")


def _unpacked(folder: Path, name: str, data: bytes) -> Path:
    """The folder of a zip file's contents, which is complete if it is there.

    :param folder: The folder of all these folders.
    :param name: The SHA-256 of the file.
    :param data: The file.
    """
    # The whole of it is too wide for a line of memtype cache.
    final = folder / name[:32]
    if hashlib.sha256(data).hexdigest() != name:
        raise ValueError(f"{name[:16]}: what arrived has another hash")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if final.is_dir():
            os.utime(final)
            return final
        for old in folder.glob("*.partial"):
            shutil.rmtree(old, ignore_errors=True)
        others = sorted(
            (each for each in folder.iterdir() if each.is_dir()), key=lambda each: each.stat().st_mtime
        )
        for old in others[: max(0, len(others) - _KEPT)]:
            shutil.rmtree(old, ignore_errors=True)
        partial = folder / f"{final.name}.partial"
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                archive.extractall(partial)
                for each in archive.infolist():
                    if each.external_attr >> 16 & 0o100:
                        (partial / each.filename).chmod(0o755)
            partial.rename(final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return final


class _Server:
    """A process that serves one thread of the worker, and dies with it.

    :param package: The folder that holds the package.
    """

    def __init__(self, package: str) -> None:
        self.package = package
        ours, theirs = os.pipe()
        self._output = ours
        self._said = os.memfd_create("memtype-server")
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "pytest_memtype.cluster.server", str(theirs)]
        try:
            self._process = subprocess.Popen(
                # As host/child.py does it, and says why.
                [
                    *("setpriv", "--pdeathsig", "KILL", "--"),
                    *("sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid())),
                    *command,
                ],
                stdin=subprocess.PIPE,
                stdout=self._said,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs],
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
                # Not the worker's, which may go before.
                cwd="/",
            )
        finally:
            os.close(theirs)

    def ask(self, request: dict[str, Any], *, wanted: Any) -> list[bytes]:
        """Send a request, and return the lines of the answer; the last one says so if the server has ended.

        :param request: The request, with the ``seconds`` that it may take.
        :param wanted: Called each second: whether anybody still waits for the answer.
        """
        assert self._process.stdin is not None
        lines: list[bytes] = []
        with contextlib.suppress(OSError):
            self._process.stdin.write(_line(**request) + b"\n")
            self._process.stdin.flush()
        end = time.monotonic() + request["seconds"]
        # Of a line that doesn't end each byte is copied a few times only.
        size, buffer = 0, bytearray()
        while True:
            if time.monotonic() > end:
                return [*lines, self._end(f"it took more than {request['seconds']:.0f} s")]
            if not wanted():
                return [*lines, self._end("nobody waits for it")]
            if not select.select([self._output], [], [], 1.0)[0]:
                continue
            data = os.read(self._output, 1 << 20)
            if not data:
                return [*lines, self._end("")]
            size += len(data)
            if size > LARGEST_OUTPUT:
                return [*lines, self._end(f"it answered more than {LARGEST_OUTPUT >> 20} MiB")]
            *whole, rest = data.split(b"\n")
            if whole:
                whole[0] = bytes(buffer) + whole[0]
                buffer.clear()
            buffer += rest
            for line in filter(None, whole):
                if line == b"END":
                    return lines
                lines.append(line)

    def _end(self, why: str) -> bytes:
        """End the server; the line that says why."""
        self._kill()
        printed = max(0, os.fstat(self._said).st_size - _TAIL)
        said = os.pread(self._said, _TAIL, printed).decode(errors="replace").strip()
        self.close()
        return _line(died=why or f"its process ended with status {self._process.returncode}: {said}")

    def _kill(self) -> None:
        # Of one that was waited for somebody else may have the number.
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Kill the server, and all that it started."""
        self._kill()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if self._output >= 0:
            os.close(self._output)
            os.close(self._said)
            self._output = -1

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None and self._output >= 0


def _servers() -> dict[int, _Server]:
    # What is unpickled anew for each task has no memory of its own.
    module = sys.modules.setdefault("_memtype_servers", types.ModuleType("_memtype_servers"))
    found: dict[int, _Server] = vars(module).setdefault("servers", {})
    return found


def _server(package: str) -> _Server:
    """The server of this thread, which died with the thread if another one had started it."""
    servers = _servers()
    mine = threading.get_ident()
    if mine not in servers or not servers[mine].alive or servers[mine].package != package:
        if mine in servers:
            servers.pop(mine).close()
        servers[mine] = _Server(package)
    return servers[mine]
