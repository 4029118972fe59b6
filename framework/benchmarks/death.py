"""How long a guest's end takes to become an error of the test, in each way it can end.

From the moment it is caused (SIGKILL, QMP ``quit``) or the guest is told to cause it (a panic, powering
off), with the test waiting for an answer, to the raised exception. Beside it, what the answer to a command of
the same guest takes, which is as slow as the host is.

    python framework/benchmarks/death.py
"""

from __future__ import annotations

import functools
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable

from memtype_support.benchmark import bench, finish, milliseconds, show

from pytest_memtype.errors import GuestError, GuestExited, GuestPanicked
from pytest_memtype.guest.guest import Guest

ROUNDS = 20

#: Keeps the test waiting until the guest is gone.
WAITING = "while :; do :; done"


def sigkill(guest: Guest) -> float:
    moment: list[float] = []

    def kill() -> None:
        moment.append(time.perf_counter())
        os.kill(guest.machine.process.pid, signal.SIGKILL)

    return caused_from_outside(guest, kill, moment)


def told_to_quit(guest: Guest) -> float:
    """QEMU ends by itself, with status 0 and nothing on the console."""
    start = time.perf_counter()
    guest.qmp.execute("quit")
    return until_raised(lambda: guest.shell(WAITING), GuestExited, start)


def panic(guest: Guest) -> float:
    start = time.perf_counter()
    return until_raised(lambda: guest.shell("echo c > /proc/sysrq-trigger"), GuestPanicked, start)


def power_off(guest: Guest) -> float:
    start = time.perf_counter()
    return until_raised(lambda: guest.shell("poweroff -f"), GuestExited, start)


def caused_from_outside(guest: Guest, cause: Callable[[], None], moment: list[float]) -> float:
    # Long enough for the wait to have begun; the time is taken when the cause comes.
    timer = threading.Timer(0.02, cause)
    timer.start()
    until_raised(lambda: guest.shell(WAITING), GuestExited, 0)
    raised = time.perf_counter()
    timer.join()
    return (raised - moment[0]) * 1000


def until_raised(action: Callable[[], object], error: type[GuestError], start: float) -> float:
    try:
        action()
    except error:
        return (time.perf_counter() - start) * 1000
    raise AssertionError("the guest lives on")


ENDS: dict[str, Callable[[Guest], float]] = {
    "SIGKILL of QEMU": sigkill,
    "kernel panic": panic,
    "silent exit: power off": power_off,
    "silent exit: QMP quit": told_to_quit,
}


def main() -> None:
    took: dict[str, list[float]] = {name: [] for name in ENDS}
    answers: list[float] = []
    with bench() as on:
        for _ in range(ROUNDS):
            for name, end in ENDS.items():
                guest = on.clone()
                with guest.machine:
                    answers.append(milliseconds(functools.partial(guest.shell, "true")))
                    took[name].append(end(guest))
    show(
        "From a guest's end to the error, milliseconds",
        ("", "median", "worst", "rounds"),
        [
            (name, statistics.median(each), max(each), len(each))
            for name, each in (*took.items(), ("an answer", answers))
        ],
    )
    worst = max(max(each) for each in took.values())
    silent = [*took["silent exit: power off"], *took["silent exit: QMP quit"]]
    finish(
        {
            "sigkill_worst_ms": max(took["SIGKILL of QEMU"]),
            "panic_worst_ms": max(took["kernel panic"]),
            "silent_exit_worst_ms": max(silent),
            "worst_ms": worst,
            "answer_ms": statistics.median(answers),
            "worst_to_answer": worst / statistics.median(answers),
        }
    )


if __name__ == "__main__":
    main()
