"""Dry runs, ``--dry-run``: every operation is printed, and none carried out.

The answers are those of a machine on which everything succeeds, so a test goes on until it expects something
else. Requests that the target would refuse are refused here, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pytest_memtype.errors import GuestError, NotAllowed, Unavailable
from pytest_memtype.guest.agent import Reply
from pytest_memtype.guest.region import PAGE_SIZE
from pytest_memtype.machine.console import Console
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.port import Port
from pytest_memtype.machine.state import GuestState
from pytest_memtype.target.facts import Facts
from pytest_memtype.target.permission import TargetConfig
from pytest_memtype.x86 import pat
from pytest_memtype.x86.memtype import MemType

#: Requests about memory, which has to be named: guests/module/allowed.c.
_OF_MEMORY: Final = (
    "ioremap",
    "memremap",
    "memremap_pages",
    "vmap",
    "reserve_wc",
    "phys_wc_add",
    "zap",
    "mmap",
)

#: Requests that the agent and its module carry out only in a guest in QEMU: guests/module/allowed.c and
#: guests/agent/operations.c.
_OURS_ONLY: Final = (
    "ram",
    "benchmark",
    "fault",
    "kernel_call",
    "mmap_device",
    "ioctl",
    "free_ram",
    "put",
    "get",
    "refresh",
    "mailbox",
    "fuzz",
    "set_memory",
    "set_pages_array",
)

#: Linux's slots, PAT WB WC UC- UC WB WP UC- WT (arch/x86/mm/pat/memtype.c, pat_bp_init(); 5.10 to 7.3).
_PAT: Final = (
    MemType.WB, MemType.WC, MemType.UC_MINUS, MemType.UC,
    MemType.WB, MemType.WP, MemType.UC_MINUS, MemType.WT,
)  # fmt: skip

_ACCEPTED: Final[dict[str, Any]] = {
    "accepted": True,
    "rule": None,
    "errno": 0,
    "hazards": [],
    "conflict": None,
}


@dataclass
class DryRun:
    """A dry run of a target, which stands in for its agent.

    :param permission: The owner's permission, by which requests are refused.
    :param say: Called with a line for each operation, prints it.
    :param operations: Number of operations so far.
    """

    permission: TargetConfig
    say: Callable[[str], None]
    operations: int = 0
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def answer(self, verb: str, fields: dict[str, str | int]) -> Reply:
        """Print a request and answer it, in place of the agent.

        :param verb: The request.
        :param fields: Its arguments.
        :raises NotAllowed: the target would refuse the request.
        """
        self.operations += 1
        refused = not self._allowed(verb, fields)
        self.say(f"{_text(verb, fields)}{': refused' if refused else ''}")
        if refused:
            raise NotAllowed(verb)
        return Reply(verb=verb, content=self._content(verb, fields), log=())

    def greeting(self, facts: Facts) -> Reply:
        """The greeting that the agent of a target with these facts would send."""
        return Reply(verb="greeting", content={"release": facts.release}, log=())

    def _allowed(self, verb: str, fields: dict[str, str | int]) -> bool:
        if verb == "shell":
            return self.permission.shell
        if verb in _OURS_ONLY:
            return False
        if verb in _OF_MEMORY:
            return self._named(int(fields["start"]), int(fields["pages"]) * PAGE_SIZE)
        if verb == "mtrr_add":
            return self._named(int(fields["base"]), int(fields["size"]))
        # It isn't known which register it would be.
        return verb != "mtrr_delete"

    def _named(self, start: int, size: int) -> bool:
        return size > 0 and any(
            each.start <= start and start + size - 1 <= each.end for each in self.permission.memory
        )

    def _content(self, verb: str, fields: dict[str, str | int]) -> dict[str, Any]:
        if verb in ("process", "fork"):
            return {"pid": 1000 + next(self._numbers)}
        if "memtype" in fields and "pages" in fields:
            return self._outcome(verb, fields)
        plain: dict[str, dict[str, Any]] = {
            "lookup": {"errno": 0, "memtype": int(MemType.UC_MINUS), "in_use": False},
            "tracked": {"records": []},
            "observed": {"observations": []},
            "memtype_list": {"text": ""},
            "mtrr_list": {"text": ""},
            "maps": {"text": ""},
            "shell": {"status": 0, "output": ""},
            "registers": {"cpus": [_registers()]},
        }
        return plain.get(verb, {"errno": 0, "signal": 0, "value": 0, "handle": None, "text": ""})

    def _outcome(self, verb: str, fields: dict[str, str | int]) -> dict[str, Any]:
        slot = _PAT.index(MemType(int(fields["memtype"])))
        start, pages = int(fields["start"]), int(fields["pages"])
        # Present, writable, accessed, dirty; PWT, PCD and PAT are the slot (Intel SDM vol. 3, 4.9.2).
        entry = start | 0x63 | (slot & 1) << 3 | (slot & 2) << 3 | (slot & 4) << 5
        return {
            "verdict": _ACCEPTED,
            "kernel": {"accepted": True, "errno": 0},
            "handle": next(self._numbers),
            "address": 1 << 44 if verb == "mmap" else 0,
            "page_table": {"truncated": False, "runs": [[entry, 12, pages]]},
            "registers": _registers(),
        }


def _registers() -> dict[str, Any]:
    return {
        "cpu": 0,
        "vendor": "GenuineIntel",
        "physical_bits": 52,
        "has_pat": True,
        "has_mtrr": False,
        "pat": pat.encode(_PAT),
        "cr0": 0,
        "cr3": 0,
        "cr4": 0,
    }


def _text(verb: str, fields: dict[str, str | int]) -> str:
    shown = {
        name: hex(value) if name in ("start", "base", "size") and isinstance(value, int) else value
        for name, value in fields.items()
    }
    if "memtype" in shown:
        shown["memtype"] = str(MemType(int(fields["memtype"])))
    return " ".join([verb, *(f"{name}={value}" for name, value in shown.items())])


@dataclass
class DryMachine:
    """A target of a dry run, which nothing is ever sent to."""

    logs: Path
    hardware: Hardware
    activity: GuestState = GuestState.READY
    rerun: str = "memtype run"

    @property
    def agent_port(self) -> Port:
        raise Unavailable("a dry run has no agent")

    @property
    def console(self) -> Console:
        raise Unavailable("a dry run has no console")

    @property
    def alive(self) -> bool:
        return True

    @property
    def state(self) -> GuestState:
        return GuestState.READY

    def death(self) -> GuestError | None:
        return None

    def close(self) -> None:
        """Do nothing: a dry run has started nothing."""
