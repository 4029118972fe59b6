"""Attempts on this machine, each in a process of its own: what goes wrong there ends one attempt only."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pytest_memtype.bisect.attempt import UNKNOWN, Attempt
from pytest_memtype.host.child import dying_with_us
from pytest_memtype.host.private_folder import temporary_folder
from pytest_memtype.kernels import mirror

# Seconds for a cold fetch and build, and three tries of a test.
_ATTEMPT = 3600.0

# Seconds in which an interrupted attempt may put away its guests and what it builds.
_GRACE = 5.0


@dataclass(frozen=True)
class _Apart:
    """An attempt that is being made.

    :param spec: The kernel.
    :param folder: For the answer, and for the output where several attempts would mix theirs.
    :param process: The process that makes it.
    """

    spec: str
    folder: Path
    process: subprocess.Popen[bytes]


def try_apart(specs: Sequence[str], test: str) -> Generator[tuple[str, Attempt]]:
    """Try a test on kernels, all of them at once; gives each spec with its attempt as it is done.

    One attempt's output is shown as it comes, that of several when each is done.

    :param specs: The kernels' specs.
    :param test: pytest's node id, without a kernel.
    """
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        folders = [stack.enter_context(temporary_folder("attempt")) for _ in specs]
        running: list[_Apart] = []
        stack.callback(_stop, running)
        for spec, folder in zip(specs, folders, strict=True):
            running.append(_start(spec, test, folder, mixed=len(specs) > 1))
            pidfd = os.pidfd_open(running[-1].process.pid)
            stack.callback(os.close, pidfd)
            selector.register(pidfd, selectors.EVENT_READ, running[-1])
        end = time.monotonic() + _ATTEMPT
        while selector.get_map():
            done = selector.select(max(0.0, end - time.monotonic()))
            for key, _ in done:
                selector.unregister(key.fileobj)
                yield key.data.spec, _answer(key.data)
            if not done:
                for key in selector.get_map().values():
                    reason = f"not done in {_ATTEMPT / 60:.0f} minutes"
                    yield key.data.spec, Attempt(UNKNOWN, (UNKNOWN,), reason, trouble=True)
                return


def _start(spec: str, test: str, folder: Path, *, mixed: bool) -> _Apart:
    # As Ctrl-C, so that it puts away what it has started if this process is killed.
    command = [*dying_with_us(by="INT"), sys.executable, "-m", "pytest_memtype.bisect.attempt"]
    command += [spec, test, str(folder / "attempt.json")]
    with (folder / "output").open("wb") if mixed else nullcontext(sys.stderr) as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **mirror.environment()},
        )
    return _Apart(spec, folder, process)


def _answer(apart: _Apart) -> Attempt:
    output = apart.folder / "output"
    if output.exists():
        with output.open(errors="replace") as text:
            shutil.copyfileobj(text, sys.stderr)
    try:
        return msgspec.json.decode((apart.folder / "attempt.json").read_bytes(), type=Attempt)
    except (OSError, ValueError):
        return Attempt(UNKNOWN, (UNKNOWN,), "the attempt ended without an answer", trouble=True)


def _stop(running: Sequence[_Apart]) -> None:
    """End those that still run, as Ctrl-C does, so that they put away what they have started."""
    for each in running:
        each.process.send_signal(signal.SIGINT)
    end = time.monotonic() + _GRACE
    for each in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            each.process.wait(max(0.0, end - time.monotonic()))
        each.process.kill()
        each.process.wait()
