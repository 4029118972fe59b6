"""Observations: mappings that others have made in a guest, seen by probes.

The guest's module watches ``memtype_reserve()`` and ``memtype_free()`` with kprobes, and starts from the
kernel's own list. See docs/observation.md for mappings that pass neither.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from pytest_memtype.guest.outcome import TrackedMapping, decode_verdict
from pytest_memtype.guest.protocol import plain
from pytest_memtype.guest.region import Region
from pytest_memtype.guest.strict import error_number, flag, integer, mapping_kind, region_of
from pytest_memtype.x86.memtype import MemType

_MODULE = re.compile(r" \[(\w+)\]$")


@dataclass(frozen=True)
class Observation:
    """A mapping that a driver or process other than the test's own made, or tried to make.

    :param start: Guest-physical address of its first byte.
    :param pages: How many pages of 4 KiB.
    :param requested: The type that was asked for; None when that is not known.
    :param granted: The type the kernel reserved for it; None when the kernel refused.
    :param errno: The kernel's answer: positive, 0 when it reserved.
    :param kind: ``"kernel"`` or ``"user"``.
    :param caller: Caller of ioremap or the like, as the kernel prints it: ``function+0x3b/0x60 [module]``.
        None for a mapping made before the probes were there.
    :param task: Name of the task it ran in; None for such a mapping.
    :param pid: Process id of that task; 0 for such a mapping.
    :param handler: The function of the file's operations that the task was in mmap() of, as the kernel prints
        it: ``function [module]``; None outside of mmap(). A driver that reserves a type by the last thing
        that its function does isn't on the stack any more, and from 6.16 on Linux maps for some of them.
    :param rule: The verifier's rule that a mapping of ``requested`` breaks; None when it breaks none.
    :param conflict: The mapping in the way; None where the rule has none.
    :param line: File and line in a module that the test has loaded: of the call, or of ``handler`` where the
        caller isn't the module's; None for others.
    """

    start: int
    pages: int
    requested: MemType | None
    granted: MemType | None
    errno: int
    kind: str
    caller: str | None
    task: str | None
    pid: int
    rule: str | None
    conflict: TrackedMapping | None
    handler: str | None = None
    line: str | None = None

    @property
    def region(self) -> Region:
        return Region(self.start, self.pages)

    @property
    def seeded(self) -> bool:
        """Was it mapped before the probes were there?"""
        return self.caller is None

    @property
    def module(self) -> str | None:
        """Name of the module that called, or else of the one whose file is mapped; None for the kernel."""
        for place in (self.caller, self.handler):
            match = _MODULE.search(place or "")
            if match:
                return match[1]
        return None

    def __str__(self) -> str:
        who = "before the module" if self.seeded else f"{self.caller}, {self.task}:{self.pid}"
        if self.line is not None:
            by = "" if f"[{self.module}]" in (self.caller or "") else f" for {self.handler}"
            who = f"{self.line}: {self.caller}{by}, {self.task}:{self.pid}"
        requested = "?" if self.requested is None else self.requested
        granted = os.strerror(self.errno) if self.granted is None else self.granted
        broken = "" if self.rule is None else f", {self.rule}"
        conflict = "" if self.conflict is None else f" with {self.conflict}"
        return f"{who}: {requested} -> {granted} {self.region}{broken}{conflict}"

    __repr__ = __str__


@dataclass(frozen=True)
class Probe:
    """A probe of the guest's module on a function of the kernel.

    :param function: Name of the function.
    :param errno: Why it could not be attached: positive, 0 when it was.
    :param armed: Is it called? Tried out for each question, because an attached probe may be switched off.
    """

    function: str
    errno: int
    armed: bool

    def __str__(self) -> str:
        if self.armed:
            return f"{self.function}: works"
        why = f"can't be attached: {os.strerror(self.errno)}" if self.errno else "attached, but switched off"
        return f"{self.function}: {why}"


@dataclass(frozen=True)
class ObservationStatus:
    """How far the observation of a guest can be relied on.

    :param probes: The module's probes. Without working ones, mappings made after it was loaded are not seen.
    :param missed: Number of calls that were not seen or not counted: records and verdicts may be wrong.
    :param dropped: Number of observations that are counted in the records, but had no room in the list.
    """

    probes: tuple[Probe, ...]
    missed: int
    dropped: int

    @property
    def works(self) -> bool:
        return bool(self.probes) and all(probe.armed for probe in self.probes)

    @property
    def complete(self) -> bool:
        """Was everything seen?"""
        return self.works and not self.missed and not self.dropped


def decode_status(content: dict[str, Any]) -> ObservationStatus:
    """The status in a reply of the agent."""
    return ObservationStatus(
        probes=tuple(
            Probe(plain(each["function"]), error_number(each["errno"]), flag(each["armed"]))
            for each in content["probes"]
        ),
        missed=integer(content["missed"]),
        dropped=integer(content["dropped"]),
    )


def decode_observation(content: dict[str, Any]) -> Observation:
    """An observation in a reply of the agent."""
    verdict = decode_verdict(content["verdict"])
    seeded, errno = flag(content["seeded"]), error_number(content["errno"])
    region = region_of(content["start"], content["pages"])
    return Observation(
        start=region.start,
        pages=region.pages,
        requested=None if seeded else MemType(integer(content["requested"])),
        granted=None if errno else MemType(integer(content["granted"])),
        errno=errno,
        kind=mapping_kind(content["kind"]),
        caller=None if seeded else plain(content["caller"]),
        task=None if seeded else plain(content["task"]),
        pid=integer(content["pid"]),
        rule=verdict.rule,
        conflict=verdict.conflict,
        handler=plain(content.get("handler", "")) or None,
    )
