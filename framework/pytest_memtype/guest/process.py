"""A user process in the guest."""

from __future__ import annotations

from typing import Any

from pytest_memtype.errors import UsageError
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.mapping_call import request_mapping
from pytest_memtype.guest.outcome import Mapping, Outcome
from pytest_memtype.guest.page_table import granted_types
from pytest_memtype.guest.proc_mtrr import MTRR_NAMES, MtrrAnswer, decode_mtrr_answer
from pytest_memtype.guest.region import Region
from pytest_memtype.guest.registers import Registers
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.size import parse_size

_VIA: dict[str, tuple[MemType, ...]] = {
    "driver": tuple(MemType),
    "sysfs": (MemType.UC_MINUS, MemType.WC),
    "devmem": (MemType.WB, MemType.UC_MINUS),
}
"""The ways to map, and the types each can ask for."""


class ProcessFault(Exception):
    """The process got a signal instead of the memory.

    :ivar signal: Its number: 11 is SIGSEGV, 7 is SIGBUS.
    """

    def __init__(self, process: str, signal: int) -> None:
        super().__init__(f"process {process} got signal {signal} from the access")
        self.signal = signal


class Process:
    """A real process, whose mappings the verifier tracks for as long as the process has them.

    :ivar name: At most 31 characters.
    :ivar pid: In the guest.
    """

    def __init__(self, name: str, pid: int, agent: Agent, journal: Journal) -> None:
        self.name = name
        self.pid = pid
        self._agent = agent
        self._journal = journal

    def mmap(
        self,
        region: Region,
        memtype: MemType,
        *,
        via: str = "driver",
        private: bool = False,
        protection: str = "rw",
    ) -> Outcome:
        """Map device memory or RAM into the process.

        :param via: ``driver``: the agent's own device, ``remap_pfn_range()`` with any type.
            ``sysfs``: the test device's ``resourceN`` (UC_MINUS) or ``resourceN_wc`` (WC).
            ``devmem``: ``/dev/mem``, WB without and UC_MINUS with O_SYNC.
        :param private: MAP_PRIVATE instead of MAP_SHARED.
        :param protection: ``r``, ``w`` or ``rw``.
        :raises UsageError: the way is not known, or can't ask for the type.
        """
        if via not in _VIA:
            raise UsageError(f"a process can't map via {via!r}; it knows {', '.join(_VIA)}")
        if memtype not in _VIA[via]:
            raise UsageError(
                f"via {via!r} can't ask for {memtype}; it knows {', '.join(map(str, _VIA[via]))}"
            )
        _check_protection(protection)
        return request_mapping(
            self._agent,
            self._journal,
            "mmap",
            actor=self.name,
            region=region,
            memtype=memtype,
            label=f"mmap {via}" + (" private" if private else ""),
            fields={
                "process": self.name,
                "via": via,
                "private": int(private),
                "protection": protection,
            },
        )

    def munmap(self, mapping: Mapping, *, offset: int = 0, pages: int | None = None) -> int:
        """Unmap all of a mapping or a part of it, counted in pages.

        :returns: 0, or the errno.
        """
        result = self._do("munmap", mapping, offset=offset, pages=pages)
        if result == 0:
            self._journal.unmapped(mapping, self.name, offset=offset, pages=pages)
        return result

    def mprotect(
        self, mapping: Mapping, protection: str, *, offset: int = 0, pages: int | None = None
    ) -> int:
        """Change what may be done with a part of a mapping.

        :returns: 0, or the errno.
        """
        _check_protection(protection)
        return self._do("mprotect", mapping, offset=offset, pages=pages, protection=protection)

    def write(self, mapping: Mapping, page: int, value: int = 1) -> None:
        """Write a 32-bit value to the start of a page.

        :raises ProcessFault: the process got a signal.
        """
        if not 0 <= value < 1 << 32:
            raise UsageError(f"write: {value} is not a 32-bit value")
        self._access("write", mapping, page, value=value)

    def read(self, mapping: Mapping, page: int) -> int:
        """The 32-bit value at the start of a page.

        :raises ProcessFault: the process got a signal.
        """
        return self._access("read", mapping, page)

    def page_table(self, mapping: Mapping, registers: Registers) -> tuple[MemType | None, ...]:
        """The type of each page of a mapping, read again."""
        self._check_user(mapping)
        reply = self._agent.call("user_page_table", process=self.name, handle=mapping.handle)
        pages = mapping.region.pages
        return reply.decode(lambda content: granted_types(content["page_table"], registers, pages=pages))

    def fork(self, name: str | None = None) -> Process:
        """Fork; the child has copies of all mappings, under the same handles.

        :param name: The child's; ``NAME-child`` if not given.
        :raises OSError: fork() failed in the guest; ``errno`` says how.
        """
        child = name or f"{self.name}-child"
        reply = self._agent.call("fork", process=self.name, name=child)
        error = reply.decode(lambda content: 0 if "pid" in content else int(content["errno"]))
        if error:
            self._journal.done(
                "fork", actor=self.name, arguments={"name": child}, result=error, log=reply.log
            )
            raise OSError(error, f"fork of process {self.name} failed in the guest")
        self._journal.inherited(self.name, child)
        self._journal.done("fork", actor=self.name, arguments={"name": child}, result=0, log=reply.log)
        return Process(child, reply.decode(lambda content: int(content["pid"])), self._agent, self._journal)

    def mtrr_add(self, base: int | str, size: int | str, memtype: MemType) -> MtrrAnswer:
        """Write a range to ``/proc/mtrr``, as the X server did before there was PAT. It outlives the process,
        and :meth:`Guest.reset`.

        :param base: Address, a number or text with a unit (``"4048M"``), like ``size``. The kernel judges
            them: an MTRR wants a power of two, and a base that is a multiple of it.
        :raises UsageError: there is no MTRR of that type, or base or size is no size.
        """
        if memtype not in MTRR_NAMES.values():
            raise UsageError(f"mtrr_add: an MTRR can't have the type {memtype}")
        try:
            start, length = parse_size(base), parse_size(size)
        except ValueError as error:
            raise UsageError(f"mtrr_add: {error}") from None
        return self._change_mtrr("mtrr_add", base=start, size=length, memtype=int(memtype))

    def mtrr_delete(self, index: int) -> MtrrAnswer:
        """Take one off the count of a register through ``/proc/mtrr``; at zero it is free.

        :param index: The register's number, :attr:`ProcMtrr.index`.
        """
        if index < 0:
            raise UsageError(f"mtrr_delete: there is no register {index}")
        return self._change_mtrr("mtrr_delete", index=index)

    def exit(self) -> None:
        """End the process; returns when its mappings are gone."""
        reply = self._agent.call("exit", process=self.name)
        self._journal.exited(self.name)
        self._journal.done("exit", actor=self.name, arguments={}, result=None, log=reply.log)

    def _do(self, verb: str, mapping: Mapping, *, offset: int, pages: int | None, **fields: str | int) -> int:
        self._check_user(mapping)
        arguments: dict[str, Any] = {"handle": mapping.handle, "offset": offset, **fields}
        if pages is not None:
            arguments["pages"] = pages
        reply = self._agent.call(verb, process=self.name, **arguments)
        result = reply.decode(lambda content: int(content["errno"]))
        self._journal.done(verb, actor=self.name, arguments=arguments, result=result, log=reply.log)
        return result

    def _change_mtrr(self, verb: str, **arguments: int) -> MtrrAnswer:
        reply = self._agent.call(verb, process=self.name, **arguments)
        answer = reply.decode(lambda content: decode_mtrr_answer(content, reply.log))
        self._journal.done(verb, actor=self.name, arguments=arguments, result=answer.errno, log=reply.log)
        return answer

    def _check_user(self, mapping: Mapping) -> None:
        # After fork() a child has its parent's mappings too, so only the kind can be wrong.
        if mapping.kind != "user":
            raise UsageError(f"process {self.name}: the mapping of {mapping.region} is a driver's")

    def _access(self, verb: str, mapping: Mapping, page: int, **fields: int) -> int:
        self._check_user(mapping)
        arguments: dict[str, Any] = {"handle": mapping.handle, "offset": page, "pages": 1, **fields}
        reply: Reply = self._agent.call(verb, process=self.name, **arguments)
        signal, value = reply.decode(lambda content: (int(content["signal"]), int(content.get("value", 0))))
        result = {"signal": signal, "value": value}
        self._journal.done(verb, actor=self.name, arguments=arguments, result=result, log=reply.log)
        if signal:
            raise ProcessFault(self.name, signal)
        return value


def _check_protection(protection: str) -> None:
    if protection not in ("r", "w", "rw"):
        raise UsageError(f"protection {protection!r} is not known; use 'r', 'w' or 'rw'")
