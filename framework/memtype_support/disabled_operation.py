"""A pytest plugin: in each reproducer of a bug the operation that its facts call the core does nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_memtype import Driver, Guest, KernelAnswer, Mapping, MemType, Outcome, Process, Region, Verdict
from pytest_memtype.plugin.bugs import marker_of
from pytest_memtype.x86.size import parse_size


def _request(operation: str) -> Callable[..., Outcome]:
    """In place of a request for a mapping: the kernel isn't asked."""

    def request(self: Driver | Process, region: Region, memtype: MemType, **_options: Any) -> Outcome:
        return Outcome(
            operation=operation,
            actor=self.name,
            region=region,
            requested_or_none=memtype,
            verdict_or_none=Verdict(accepted=True, rule=None, errno=0, conflict=None, hazards=()),
            kernel=KernelAnswer(asked=False, accepted=False, errno=0, log=()),
            granted_pages=(),
            effective_pages=(),
            mapping=None,
        )

    return request


def _succeeds(*_arguments: Any, **_options: Any) -> int:
    return 0


def _nothing(*_arguments: Any, **_options: Any) -> None:
    pass


def _where_it_would_be(_self: Guest, size: str) -> Region:
    """Where :meth:`Guest.plug_memory` puts the first piece."""
    return Region(1 << 32, parse_size(size) >> 12)


def _stays(_self: Process, mapping: Mapping, **_options: Any) -> Mapping:
    return mapping


def _nobody(self: Process, _name: str) -> Process:
    return self


_IDLE: dict[str, tuple[type, Callable[..., Any]]] = {
    "Driver.ioremap": (Driver, _request("ioremap")),
    "Driver.memremap": (Driver, _request("memremap")),
    "Driver.set_memory": (Driver, _request("set_memory")),
    "Driver.zap": (Driver, _nothing),
    "Guest.plug_memory": (Guest, _where_it_would_be),
    "Process.fork": (Process, _nobody),
    "Process.mmap": (Process, _request("mmap")),
    "Process.mprotect": (Process, _succeeds),
    "Process.mremap": (Process, _stays),
    "Process.munmap": (Process, _succeeds),
    "Process.write": (Process, _nothing),
}
"""What stands for each operation: it answers as if it had been done, or not been asked for."""


@pytest.fixture(autouse=True)
def _disabled(request: pytest.FixtureRequest, guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    :param guest: Made before, so that its own doings are none of the test's.
    """
    bug = marker_of(request.node)
    if bug is None:
        return
    owner, idle = _IDLE[bug.core]
    monkeypatch.setattr(owner, bug.core.partition(".")[2], idle)
    assert guest.machine.alive
