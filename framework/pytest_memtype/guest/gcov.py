"""The counters of a guest's kernel that was built with GCOV, as debugfs has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_memtype.errors import AgentError
from pytest_memtype.guest.protocol import plain
from pytest_memtype.guest.strict import integer

_FOLDER = "/sys/kernel/debug/gcov"

# The names, an empty line, and the files one after the other: each says where it ends. One gzip for all of
# them, as counters are mostly 0, and a program takes TCG 20 ms to start.
READ = (
    f"[ -d {_FOLDER} ] || mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null; cd {_FOLDER} || exit 1; "
    "names=$(find . -name '*.gcda' | sort); echo \"$names\"; echo; "
    "cat $names | busybox gzip | busybox base64; echo 0 > reset"
)
"""The shell command that prints the counters, and begins to count anew."""


@dataclass(frozen=True)
class GuestCounters:
    """The counters of a guest's kernel.

    :param names: The names of the files, paths of the build tree without the first slash.
    :param packed: Their contents one after the other, compressed by gzip, as base64.
    """

    names: tuple[str, ...]
    packed: str


def decode_counters(content: dict[str, Any]) -> GuestCounters:
    """The counters, from the agent's answer to the command.

    :param content: The answer.
    :raises AgentError: the kernel has none.
    """
    output = plain(content["output"])
    names, _, packed = output.partition("\n\n")
    if integer(content["status"]) or not packed:
        raise AgentError(f"the kernel's counters can't be read: {' '.join(output.split()) or 'it has none'}")
    return GuestCounters(tuple(each.removeprefix("./") for each in names.split()), "".join(packed.split()))
