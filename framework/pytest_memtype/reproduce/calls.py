"""The steps of a part as calls of the public interface, which can be made, and can be written as a test."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.process import Process
from pytest_memtype.reproduce.plan import Part
from pytest_memtype.reproduce.setting import PAGE
from pytest_memtype.reproduce.step import MAPS, Step
from pytest_memtype.x86.memtype import MemType

_NAME_LENGTH: Final = 15
"""Of a process, as the kernel cuts it."""


@dataclass(frozen=True)
class Name:
    """A variable of the calls.

    :param pages: The part of a region, in pages; None for all of it.
    """

    name: str
    pages: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.name if self.pages is None else f"{self.name}[{self.pages[0]}:{self.pages[1]}]"

    def value(self, variables: Mapping[str, Any]) -> Any:
        """The value of the variable, or of its part."""
        whole = variables[self.name]
        return whole if self.pages is None else whole[self.pages[0] : self.pages[1]]


Argument: TypeAlias = Name | MemType | int | str | bool


@dataclass(frozen=True)
class Call:
    """A call of a method.

    :param result: The variable that gets the result; empty for none.
    :param on: The variable whose method it is; empty for a function of this file.
    :param arguments: By place.
    :param options: By name.
    :param attribute: What of the result the variable gets; empty for all.
    :param may_fail: May the system call be refused?
    """

    result: str
    on: str
    method: str
    arguments: tuple[Argument, ...] = ()
    options: tuple[tuple[str, Argument], ...] = ()
    attribute: str = ""
    may_fail: bool = False

    def __str__(self) -> str:
        given = [*map(_shown, self.arguments), *(f"{name}={_shown(value)}" for name, value in self.options)]
        function = f"{self.on}.{self.method}" if self.on else self.method
        call = f"{function}({', '.join(given)})" + (f".{self.attribute}" if self.attribute else "")
        return f"{self.result} = {call}" if self.result else call

    def make(self, variables: dict[str, Any]) -> None:
        """Make the call in a guest.

        :param variables: The variables by name; the result is added.
        """
        function = getattr(variables[self.on], self.method) if self.on else _HELPERS[self.method]
        arguments = [each.value(variables) if isinstance(each, Name) else each for each in self.arguments]
        options = {
            name: each.value(variables) if isinstance(each, Name) else each for name, each in self.options
        }
        with contextlib.suppress(OSError) if self.may_fail else contextlib.nullcontext():
            result = function(*arguments, **options)
            if self.result:
                variables[self.result] = getattr(result, self.attribute) if self.attribute else result


def _shown(value: Argument) -> str:
    if isinstance(value, MemType):
        return f"MemType.{value.name}"
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value) if isinstance(value, Name | bool) else json.dumps(value)
    return f"{value:#x}" if value >= PAGE else str(value)


def fork_without_memory(guest: Guest, process: Process) -> None:
    """Fork while the kernel gets no page for a page table: each of those that fork() wants, in turn."""
    for after in range(40):
        with guest.faults.fail("pte_alloc_one", task=process, after=after):
            try:
                child = process.fork(f"child-{after}")
            except OSError:
                continue
        child.exit()
        return


_HELPERS: Final[dict[str, Callable[..., None]]] = {"fork_without_memory": fork_without_memory}


def helpers(calls: Sequence[Call]) -> list[str]:
    """The text of the functions of this file that calls need."""
    used = dict.fromkeys(call.method for call in calls if not call.on)
    return [inspect.getsource(_HELPERS[name]) for name in used]


def calls_of(part: Part) -> list[Call]:
    """The calls that make a part's messages, from the variable ``guest`` on."""
    return [*_beginning(part), *_steps(part), *_requests(part)]


def _beginning(part: Part) -> Iterator[Call]:
    if part.board is not None:
        used = [cell for each in part.steps if each.verb in MAPS for cell in (each.first_cell, each.end_cell)]
        if used:
            start, size = part.board.bytes_of(min(used), max(used))
            yield Call("memory", "guest", "region", (start, size))
    actors = {each.actor for each in part.steps} | {"process" for _ in part.requests}
    if "driver" in actors:
        yield Call("driver", "guest", "driver", ("driver",))
    if actors & {"process", "child"}:
        yield Call("process", "guest", "process", (_process_name(part),))


def _process_name(part: Part) -> str:
    """The name of the report's process, where it can be a name."""
    names = (each.process for each in part.complaints if each.process)
    name = next(names, "process")
    safe = "".join(each for each in name if each.isascii() and (each.isalnum() or each in "-_. "))
    return safe.strip()[:_NAME_LENGTH] or "process"


def _steps(part: Part) -> Iterator[Call]:
    if part.board is None:
        return
    pages = _Pages(part)
    for number, step in enumerate(part.steps):
        yield _call(step, number, pages)


@dataclass(frozen=True)
class _Pages:
    """Cells of a part in pages."""

    part: Part

    def between(self, first: int, end: int) -> int:
        """The pages from one cell up to another."""
        assert self.part.board is not None
        return self.part.board.bytes_of(first, end)[1] // PAGE

    def of(self, step: Step) -> tuple[int, int]:
        """The pages of a step: of the region ``memory``, or of the mapping that it is about."""
        if step.target is None:
            base = min(each.first_cell for each in self.part.steps if each.verb in MAPS)
        else:
            base = self._first(step.target)
        begin = base + step.first_cell if step.target is not None else step.first_cell
        size = step.end_cell - step.first_cell
        return self.between(base, begin), self.between(base, begin + size)

    def _first(self, number: int) -> int:
        """The first cell of the board that the mapping of a step has."""
        step = self.part.steps[number]
        return step.first_cell if step.target is None else self._first(step.target) + step.first_cell


def _call(step: Step, number: int, pages: _Pages) -> Call:
    verb, who = step.verb, step.actor
    first, end = pages.of(step) if verb not in ("exit", "fork", "fork_without_memory", "release") else (0, 0)
    private: tuple[tuple[str, Argument], ...] = (("private", True),) if step.private else ()
    result = f"mapping_{number + 1}"
    mapping = Name(f"mapping_{(step.target or 0) + 1}")
    part: tuple[tuple[str, Argument], ...] = (("offset", first), ("pages", end - first))
    match verb:
        case "reserve_wc":
            return Call(result, who, verb, (Name("memory", (first, end)),), attribute="mapping")
        case "ioremap" | "memremap" | "set_memory" | "mmap":
            assert step.memtype is not None
            arguments = (Name("memory", (first, end)), step.memtype)
            return Call(result, who, verb, arguments, private, attribute="mapping")
        case "release":
            return Call("", who, verb, (mapping,))
        case "munmap":
            return Call("", who, verb, (mapping,), part)
        case "mprotect":
            return Call("", who, verb, (mapping, "r"), part)
        case "mremap":
            return Call(result, who, verb, (mapping,), (*part, ("move", True)), may_fail=True)
        case "write":
            return Call("", who, verb, (mapping, first))
        case "fork":
            return Call("child", "process", verb, ("child",), may_fail=True)
        case "fork_without_memory":
            return Call("", "", verb, (Name("guest"), Name("process")))
    return Call("", who, verb)


def _requests(part: Part) -> Iterator[Call]:
    for each in part.requests:
        yield Call("", "process", "mtrr_add", (each.base, each.size, each.memtype))
