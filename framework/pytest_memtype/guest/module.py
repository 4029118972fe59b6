"""A kernel module of the user's own, loaded into a guest."""

from __future__ import annotations

import errno
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_memtype.console.reports import ConsoleReport, find_reports
from pytest_memtype.errors import GuestPanicked, ModuleRefusedToLoad, ModuleStays, UsageError
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.observation import Observation
from pytest_memtype.guest.outcome import TrackedMapping
from pytest_memtype.guest.protocol import plain
from pytest_memtype.guest.strict import integer
from pytest_memtype.guest.transfer import put_file

#: The folder of modules in a guest.
FOLDER: Final = "/run/memtype-modules"

#: A value of a module's parameter. True and False are Y and N, a list is written with commas.
Value = str | int | bool | Sequence[str | int]

_PARAMETER: Final = re.compile(r"[A-Za-z_]\w*")
_SYMBOL: Final = re.compile(r"^([0-9a-f]+) \S (\S+)\t\[", re.MULTILINE)


@dataclass(frozen=True)
class BuiltModule:
    """A module of the user's that is ready to be loaded into guests of one kernel.

    :param name: Its name as the kernel has it.
    :param source: The folder, file or name that the user gave.
    :param files: The files to load one after the other: the modules that it depends on, and itself.
    :param line: Tells file and line of a place in it, see :meth:`Module.line`.
    """

    name: str
    source: str
    files: tuple[Path, ...]
    line: Callable[[str], str | None]


class Module:
    """A module of the user's, loaded into a guest.

    ::

        module = guest.load("toy/", parameters={"uc_mmap": 1})
        guest.process("X").mmap(bar, WC, via="/dev/toywc")
        assert module.aliases == ()
        module.unload()

    :ivar name: Its name as the kernel has it.
    :ivar source: The folder, file or name that it was loaded by.
    :ivar parameters: The parameters that it was loaded with.
    :ivar loaded: Whether it is loaded.
    """

    def __init__(
        self,
        built: BuiltModule,
        parameters: Mapping[str, Value],
        *,
        agent: Agent,
        journal: Journal,
        observed: Callable[[Module], Sequence[Observation]],
        tracked: Callable[[], Sequence[TrackedMapping]],
        reports: Callable[[], Sequence[ConsoleReport]],
        changed: Callable[[], None],
    ) -> None:
        self.name = built.name
        self.source = built.source
        self.parameters = dict(parameters)
        self.loaded = False
        self.built = built
        self._agent = agent
        self._journal = journal
        self._observed = observed
        self._tracked = tracked
        self._reports = reports
        self._changed = changed

    def load(self, *, there: frozenset[str] = frozenset()) -> None:
        """Load the module, and those of the kernel's package that it needs.

        :param there: Paths of files that the guest has already.
        :raises ModuleRefusedToLoad: the guest's kernel doesn't take it; the message has the kernel's words.
        :raises GuestPanicked: the kernel panicked meanwhile; the message names the line.
        """
        self._changed()
        for file in self.built.files:
            path = guest_path(file.parent.name, file.name)
            own = file == self.built.files[-1]
            if path not in there:
                put_file(self._agent, file.read_bytes(), path)
            words = " ".join(map(shlex.quote, _words(self.parameters))) if own else ""
            try:
                reply = self._shell(f"insmod {shlex.quote(path)} {words}")
            except GuestPanicked as error:
                raise self._panicked(error) from None
            self._check_loaded(reply, path, own=own)
        self.loaded = True
        self._note("load", {"source": self.source, "parameters": _words(self.parameters)}, 0)

    def unload(self) -> None:
        """Unload the module.

        :raises ModuleStays: it is in use, as while a process has its device mapped; or it is gone, and has
            left mappings behind.
        :raises GuestPanicked: the kernel panicked meanwhile.
        """
        self._changed()
        reply = self._shell(
            f"rmmod {self.name}; s=$?; cat /sys/module/{self.name}/refcnt 2>/dev/null; exit $s"
        )
        status, output = _result(reply)
        if status:
            users = output.splitlines()[-1] if output else ""
            why = f"{users} still use it" if users.isdigit() and int(users) else output
            self._note("unload", {"source": self.source}, errno.EBUSY)
            raise ModuleStays(
                f"module {self.source!r} can't be unloaded: {why.strip()} (open or mapped files, other "
                "modules)"
            )
        self.loaded = False
        self._note("unload", {"source": self.source}, 0)
        left = [each for each in self._tracked() if each.observed and each.owner == self.name]
        if left:
            by = {each.start: each.line or each.caller for each in self._observed(self)}
            lines = [
                f"{each.memtype} {each.region} by {by.get(each.region.start, self.name)}" for each in left
            ]
            raise ModuleStays(f"module {self.source!r} is unloaded, and has left mapped: {'; '.join(lines)}")

    @property
    def symbols(self) -> dict[str, int]:
        """The address of each of its functions and variables that the kernel lists, by name."""
        status, output = _result(self._shell(f"grep -F '[{self.name}]' /proc/kallsyms"))
        return {} if status else {name: int(address, 16) for address, name in _SYMBOL.findall(output)}

    @property
    def reports(self) -> tuple[ConsoleReport, ...]:
        """The kernel's reports since the test began that name it: warnings and oopses."""
        mark = f"[{self.name}]"
        return tuple(each for each in self._reports() if any(mark in line for line in each.lines))

    @property
    def aliases(self) -> tuple[Observation, ...]:
        """The mappings that it has made and that break a rule."""
        return tuple(each for each in self._observed(self) if each.rule is not None and not each.errno)

    def line(self, place: str) -> str | None:
        """File and line of a place in it, such as ``toy_probe+0x3b/0x60``; None where it can't be told."""
        return self.built.line(place)

    def __repr__(self) -> str:
        return f"Module({self.source!r})"

    def _shell(self, command: str) -> Reply:
        return self._agent.call("shell", command=command)

    def _check_loaded(self, reply: Reply, path: str, *, own: bool) -> None:
        status, output = _result(reply)
        # Two modules may need the same.
        if not status or (not own and "File exists" in output):
            return
        says = [line for line in reply.log if self.name in line] or list(reply.log)
        why = output.strip().rpartition(": ")[2]
        also = f" (the kernel says: {says[-1].strip()})" if says else ""
        what = (
            f"module {self.source!r}"
            if own
            else f"module {path.rpartition('/')[2]}, which {self.source!r} needs,"
        )
        self._note("load", {"source": self.source, "parameters": _words(self.parameters)}, why)
        raise ModuleRefusedToLoad(f"{what} can't be loaded: {why}{also}")

    def _panicked(self, error: GuestPanicked) -> GuestPanicked:
        reports = find_reports([line.strip() for line in error.details])
        text = "\n".join(error.details)
        where = re.search(rf"RIP: \S+?:(\S+\+0x[0-9a-f]+/0x[0-9a-f]+) \[{self.name}\]", text)
        line = self.line(_after(where[1])) if where else None
        title = reports[0].title if reports else error.message
        place = f", {line}" if line else ""
        return GuestPanicked(
            f"module {self.source!r}: the guest's kernel died as it was loaded: {title}{place}",
            details=error.details,
        )

    def _note(self, verb: str, arguments: dict[str, object], result: object) -> None:
        self._journal.done(verb, actor=self.name, arguments=arguments, result=result, log=())


def guest_path(folder: str, name: str) -> str:
    """The path of a module's file in the guest; the cache's folder names its content."""
    return f"{FOLDER}/{folder}/{name}"


def _after(place: str) -> str:
    # An instruction, not an address to return to: that would be the one behind it.
    name, offset, size = re.split(r"[+/]", place)
    return f"{name}+{int(offset, 16) + 1:#x}/{size}"


def _result(reply: Reply) -> tuple[int, str]:
    return reply.decode(lambda content: (integer(content["status"]), plain(content["output"])))


def _words(parameters: Mapping[str, Value]) -> list[str]:
    words = []
    for name, value in parameters.items():
        if not isinstance(name, str) or not _PARAMETER.fullmatch(name):
            raise UsageError(f"parameters: {name!r} is no name of a module's parameter")
        if isinstance(value, bool):
            text = "Y" if value else "N"
        elif isinstance(value, (str, int)):
            text = str(value)
        else:
            text = ",".join(map(str, value))
        # As the kernel's parser has it: quotation marks keep a value with blanks together.
        words.append(f'{name}="{text}"' if " " in text else f"{name}={text}")
    return words
