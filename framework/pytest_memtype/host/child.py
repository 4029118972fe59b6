"""Programs started by this process: how they die with it, and how their end is reported."""

from __future__ import annotations

import contextlib
import os
import signal


def dying_with_us(*options: str, by: str = "KILL") -> list[str]:
    """The start of a command that the kernel kills when the thread that started it ends.

    :param *options: Further options of setpriv, such as ``--reuid=1000``. Options that change the user have
        to be here and not in the command: a process that becomes another user loses the signal it asked for
        (Linux 6.1, commit_creds).
    :param by: The signal, by setpriv's name for it: TERM lets a program that writes to the cache end well.
    """
    # Not preexec_fn, which is unsafe in a process with threads, and this one has some. The shell covers the
    # moment before setpriv asked for its signal: a command whose parent is gone by then must not start.
    return [
        *("setpriv", *options, "--pdeathsig", by, "--"),
        *("sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid())),
    ]


def describe_status(status: int) -> str:
    """The words for the end of a process: ``ended with status 1``, ``was killed by SIGKILL``.

    :param status: The status of :class:`subprocess.Popen`: the number of a signal is negative.
    """
    if status >= 0:
        return f"ended with status {status}"
    name = f"signal {-status}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-status).name
    return f"was killed by {name}"
