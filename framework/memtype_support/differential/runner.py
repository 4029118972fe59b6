"""A sequence, carried out in a guest; and everything that can be seen after each of its operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from memtype_support.differential import operations as ops
from pytest_memtype import Guest, Mapping, Process, ProcessFault, Region
from pytest_memtype.errors import AgentError
from pytest_memtype.guest.batch import Batch, Pending
from pytest_memtype.guest.kernel_list import ListEntry
from pytest_memtype.guest.outcome import TrackedMapping
from pytest_memtype.guest.registers import Registers
from pytest_memtype.x86.memtype import MemType

_T = TypeVar("_T")

Types = tuple[MemType | None, ...]


@dataclass(frozen=True)
class Live:
    """Which mappings to look at after an operation: numbers of drivers', (process, number) of processes'."""

    kernel: tuple[int, ...]
    user: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Observed:
    """One operation and what was seen after it.

    :param result: What the call returned, or the exception it raised.
    :param listed: None where the kernel keeps no list.
    :param kernel: Page tables; None for a mapping that isn't there.
    """

    result: Any
    tracked: tuple[TrackedMapping, ...]
    listed: tuple[ListEntry, ...] | None
    kernel: dict[int, Types | None]
    user: dict[tuple[str, int], Types | None]


@dataclass
class _Step:
    result: Callable[[], Any]
    tracked: list[Pending[tuple[TrackedMapping, ...]]]
    listed: Pending[tuple[ListEntry, ...]]
    kernel: dict[int, Pending[Types]]
    user: dict[tuple[str, int], Pending[Types]]


@dataclass
class Runner:
    """A guest, just reset.

    :ivar pids: Of every process that there has been.
    """

    guest: Guest
    windows: dict[str, Region]
    registers: Registers
    pids: dict[str, int] = field(default_factory=dict)
    _processes: dict[str, Process] = field(default_factory=dict)
    _mappings: dict[int, Mapping] = field(default_factory=dict)
    _owners: dict[int, str] = field(default_factory=dict)
    _absent: set[str] = field(default_factory=set)

    def run(self, operations: Sequence[tuple[ops.Operation, Live]]) -> list[Observed]:
        """Carry out all of them, then tell what was seen."""
        with self.guest.batch() as batch:
            steps = [self._queue(batch, operation, live) for operation, live in operations]
        return [_observed(step) for step in steps]

    def _queue(self, batch: Batch, operation: ops.Operation, live: Live) -> _Step:
        result = self._perform(batch, operation)
        return _Step(
            result=result,
            tracked=[batch.add(self.guest.tracked, window) for window in self.windows.values()],
            listed=batch.add(self.guest.memtype_list),
            kernel={
                number: batch.add(
                    self.guest.driver(self._owners[number]).page_table,
                    self._mappings[number],
                    self.registers,
                )
                for number in live.kernel
            },
            user={
                (name, number): batch.add(
                    self._processes[name].page_table, self._mappings[number], self.registers
                )
                for name, number in live.user
                if name in self._processes and number in self._mappings
            },
        )

    def _region(self, span: ops.Span) -> Region:
        return self.windows[span.window][span.first : span.first + span.pages]

    def _perform(self, batch: Batch, operation: ops.Operation) -> Callable[[], Any]:
        """Queue an operation. What gives others something to go by is carried out at once."""
        guest = self.guest
        if getattr(operation, "process", None) in self._absent:
            return partial(_refuse, operation)
        if getattr(operation, "mapping", None) not in (None, *self._mappings):
            return partial(_refuse, operation)
        match operation:
            case ops.DriverMap(number, call, driver, span, memtype):
                asked = () if call == "reserve_wc" else (memtype,)
                made = batch.add(getattr(guest.driver(driver), call), self._region(span), *asked)
                self._mappings[number], self._owners[number] = made.mapping, driver
                return made.result
            case ops.Mmap(number, name, span, memtype):
                made = batch.add(
                    self._processes[name].mmap,
                    [*map(self._region, operation.pieces)] if operation.more else self._region(span),
                    memtype,
                    via=operation.via,
                    private=operation.private,
                    protection=operation.protection,
                    part=operation.part,
                )
                self._mappings[number] = made.mapping
                return made.result
            case ops.DriverRelease(driver, mapping):
                return batch.add(guest.driver(driver).release, self._mappings[mapping]).result
            case ops.Munmap(name, mapping, offset, pages):
                process, what = self._processes[name], self._mappings[mapping]
                return batch.add(process.munmap, what, offset=offset, pages=pages).result
            case ops.Mprotect(name, mapping, offset, pages, protection):
                process, what = self._processes[name], self._mappings[mapping]
                return batch.add(process.mprotect, what, protection, offset=offset, pages=pages).result
            case ops.Access(name, mapping, page, write):
                process, what = self._processes[name], self._mappings[mapping]
                access = process.write if write else process.read
                return partial(_ended, batch.add(access, what, page))
            case ops.Mremap(number, name, mapping, offset, pages, new_pages, move):
                batch.flush()
                return self._remap(operation, offset=offset, pages=pages, new_pages=new_pages, move=move)
            case ops.Exit(name, how):
                return batch.add(getattr(self._processes[name], how)).result
            case ops.Exec(name):
                return batch.add(self._processes[name].exec).result
            case ops.Zap(span):
                return batch.add(guest.driver("vfio").zap, self._region(span)).result
            case ops.Verify(span, memtype, kind):
                return batch.add(guest.verify, self._region(span), memtype, kind=kind).result
            case ops.Lookup(span):
                return batch.add(guest.lookup, self._region(span)).result
            case ops.Start(name):
                batch.flush()
                return self._process(name, lambda: guest.process(name))
            case ops.Fork(name, child):
                batch.flush()
                return self._process(child, lambda: self._processes[name].fork(child))
            case ops.SetPolicy(name, value):
                batch.flush()
                setattr(guest.policy, name, value)
                return lambda: None

    def _remap(self, operation: ops.Mremap, **how: Any) -> Callable[[], Any]:
        try:
            what = self._mappings[operation.mapping]
            moved = self._processes[operation.process].mremap(what, **how)
        except (OSError, AgentError) as error:
            return partial(_failed, error)
        if operation.move:
            self._mappings[operation.number] = moved
        return lambda: moved

    def _process(self, name: str, make: Callable[[], Process]) -> Callable[[], Any]:
        try:
            process = make()
        except OSError as error:
            self._absent.add(name)
            return partial(_failed, error)
        self._processes[name] = process
        self.pids[name] = process.pid
        return lambda: process


def _ended(access: Pending[Any]) -> int:
    """0 where no signal came; what the page holds isn't modelled."""
    access.result()
    return 0


def _refuse(operation: ops.Operation) -> Any:
    raise AgentError(f"{operation}: the fork() or mremap() before it failed")


def _observed(step: _Step) -> Observed:
    return Observed(
        result=_outcome(step.result),
        tracked=tuple(record for pending in step.tracked for record in pending.result()),
        listed=_present(step.listed),
        kernel={number: _present(pending) for number, pending in step.kernel.items()},
        user={key: _present(pending) for key, pending in step.user.items()},
    )


def _failed(error: Exception) -> Any:
    raise error


def _outcome(result: Callable[[], Any]) -> Any:
    try:
        return result()
    except (AgentError, OSError, ProcessFault) as error:
        return error


def _present(pending: Pending[_T]) -> _T | None:
    try:
        return pending.result()
    except AgentError:
        return None
