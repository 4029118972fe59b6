"""The answers of the modelled Linux to the steps of one recorded guest."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pytest_memtype.spec.linux import Answer, Linux, Platform
from pytest_memtype.spec.linux_versions import Version
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType, parse_memtype

PAGE_SIZE = 4096

Step: TypeAlias = dict[str, Any]
"""A record, as :mod:`pytest_memtype.report.record` describes it."""

_LOOKING = ("verify", "lookup", "page_table", "registers", "registers_outside", "memtype_list", "phys_wc_add")


_FOR_ROOT = ("sysfs", "devmem")
"""Files that are mode 0600, or less (drivers/pci/pci-sysfs.c, pci_create_attr(); drivers/char/mem.c)."""


class NotModelledError(Exception):
    """The model can't follow a guest from here on. The message names the step."""


@shown_in_hexadecimal("pat_value")
@dataclass(frozen=True)
class Expected:
    """The answer that a step is expected to give, in the one field that fits it.

    :param answer: The answer to a request for a mapping.
    :param result: An errno, or the number of the signal of an access.
    :param listed: Lines of the kernel's list, each (start address, pages, type); None where there is no list.
    :param pat_value: The value of IA32_PAT on every CPU.
    :param types: The types in a process's page table, per page.
    """

    answer: Answer | None = None
    result: int | None = None
    listed: tuple[tuple[int, int, MemType], ...] | None = None
    pat_value: int | None = None
    types: tuple[MemType | None, ...] | None = None


@dataclass
class Replay:
    """A modelled guest, which takes recorded steps from the first on.

    :param version: The kernel's version.
    :param memory: Bytes of RAM, which begins at 0.
    :param has_mtrr: See :class:`pytest_memtype.spec.linux.Platform`.
    :param pat: See there.
    :param is_claimed: Called with a page frame number: does it belong to what may be a busy resource
        (``/proc/iomem``)? With CONFIG_IO_STRICT_DEVMEM, ``/dev/mem`` is refused there while a driver has it;
        no record says which.
    :param bar_ends: Numbers of the page frames behind the BARs that sysfs maps.
    """

    version: Version
    memory: int
    has_mtrr: bool
    pat: bool
    is_claimed: Callable[[int], bool] = lambda _: False
    bar_ends: Sequence[int] = ()
    linux: Linux = field(init=False)
    _mtrr: dict[int, str | None] = field(default_factory=dict)
    _pids: dict[str, int] = field(default_factory=dict)
    _uids: dict[str, int] = field(default_factory=dict)
    _user: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.linux = Linux(
            Platform(
                self.version,
                is_ram=lambda pfn: pfn * PAGE_SIZE < self.memory,
                is_write_back=lambda pfn: self._mtrr.get(pfn) == "WB",
                has_mtrr=self.has_mtrr,
                pat=self.pat,
            )
        )

    def step(self, step: Step) -> Expected | None:
        """Take the next recorded step.

        :param step: Its record.
        :returns: The expected answer; None where nothing is expected.
        :raises NotModelledError: the model can't follow.
        """
        operation: str = step["operation"]
        if operation in _LOOKING:
            return self._look(operation, step)
        if "kernel_answer" in step:
            return self._map(operation, step)
        act: Callable[[Step], Expected | None] | None = getattr(self, f"_{operation}", None)
        if act is None or step.get("result") == "died":
            raise NotModelledError(operation)
        return act(step)

    def _look(self, operation: str, step: Step) -> Expected | None:
        arguments = step.get("arguments", {})
        if operation == "memtype_list" and "start" in arguments:
            if not self.linux.reservations.tracking:
                return Expected(listed=None)
            entries = self.linux.memtype_list(arguments["start"] // PAGE_SIZE, arguments["pages"])
            return Expected(
                listed=tuple(
                    (each.first * PAGE_SIZE, each.end - each.first, each.memtype) for each in entries
                )
            )
        if operation in ("registers", "registers_outside"):
            return Expected(pat_value=self.linux.pat_value)
        if operation == "page_table":
            where = self._mapping(step)
            return Expected(types=self.linux.user_page_table(self._pids[step["actor"]], *where))
        return None

    def _map(self, operation: str, step: Step) -> Expected | None:
        start, pages = step["region"]["start"], step["region"]["pages"]
        if not step["kernel_answer"]["asked"]:
            return None
        on_ram = start < self.memory
        if pages < 1 or (on_ram and step["memory"] != "ram") or (self.has_mtrr and step["mtrr"] is None):
            raise NotModelledError(operation)
        pfn, memtype = start // PAGE_SIZE, parse_memtype(step["requested"])
        for first, count in step["region"].get("pieces", [(start, pages)]):
            self._mtrr |= dict.fromkeys(range(first // PAGE_SIZE, first // PAGE_SIZE + count), step["mtrr"])
        handle = -next(self._numbers) if step["handle"] is None else step["handle"]
        if operation.startswith("mmap"):
            return Expected(answer=self._mmap(step, handle, pfn, pages, memtype))
        if operation == "reserve_wc":
            return Expected(answer=self.linux.reserve_wc(handle, pfn, pages))
        if operation == "free":
            return Expected(answer=self.linux.free(pfn, pages))
        call = getattr(self.linux, operation, None)
        if call is None:
            raise NotModelledError(operation)
        return Expected(answer=call(handle, pfn, pages, memtype))

    def _mmap(self, step: Step, handle: int, pfn: int, pages: int, memtype: MemType) -> Answer:
        arguments, process = step["arguments"], step["actor"]
        if self._uids.get(process) and arguments["via"] in _FOR_ROOT:
            return Answer(errno.EACCES)
        # iomem_is_exclusive(), kernel/resource.c. The first MiB is exempt (devmem_is_allowed()).
        if arguments["via"] == "devmem" and any(map(self.is_claimed, range(max(pfn, 0x100), pfn + pages))):
            raise NotModelledError("mmap of /dev/mem over a resource that may be busy")
        if arguments["via"] == "sysfs" and any(pfn < end < pfn + pages for end in self.bar_ends):
            missing = memtype is MemType.WC and not self.linux.reservations.tracking
            if not missing and "x" not in arguments["protection"]:
                return Answer(errno.EINVAL)  # pci_mmap_fits(), drivers/pci/pci-sysfs.c and mmap.c
        # The address that a refused mapping would have had doesn't matter.
        vpage = step["address"] // PAGE_SIZE or next(self._numbers) << 40
        part = (arguments["part_first"], arguments["part_pages"]) if "part_first" in arguments else None
        answer = self.linux.mmap(
            self._pids[process],
            vpage,
            pfn,
            pages,
            memtype,
            via=arguments["via"],
            private=bool(arguments["private"]),
            protection=arguments["protection"],
            part=part,
            pieces=[(first // PAGE_SIZE, count) for first, count in step["region"].get("pieces", ())],
        )
        self._user[process, handle] = (vpage, pages)
        return answer

    def _mapping(self, step: Step) -> tuple[int, int]:
        try:
            return self._user[step["actor"], step["arguments"]["handle"]]
        except KeyError:
            raise NotModelledError(step["operation"]) from None

    def _part(self, step: Step) -> tuple[int, int, int]:
        """The pages that a step is about: (process id, first page, end), as virtual addresses in pages."""
        first, pages = self._mapping(step)
        offset = step["arguments"].get("offset", 0)
        begin = first + offset
        return self._pids[step["actor"]], begin, begin + step["arguments"].get("pages", pages - offset)

    def _process(self, step: Step) -> None:
        name = step["arguments"]["name"]
        self._pids[name] = next(self._numbers)
        self._uids[name] = step["arguments"].get("uid", 0)
        self.linux.processes.start(self._pids[name])

    def _munmap(self, step: Step) -> Expected:
        return Expected(result=self.linux.processes.munmap(*self._part(step)))

    def _mremap(self, step: Step) -> Expected:
        arguments = step["arguments"]
        if arguments["dont_unmap"]:
            raise NotModelledError("mremap")
        pid, first, end = self._part(step)
        pages = end - first
        new_pages = arguments.get("new_pages", pages)
        to = step.get("handle")
        if arguments["move"] and (to is None) is not bool(step["result"]):
            raise NotModelledError("mremap")
        # The address that a refused mapping would have had doesn't matter.
        address = step["address"] // PAGE_SIZE if to is not None else next(self._numbers) << 40
        new = address if arguments["move"] else None
        result = self.linux.processes.mremap(pid, first, pages, new_pages, new)
        if to is not None:
            self._user[step["actor"], to] = (address, new_pages)
        return Expected(result=result)

    def _mprotect(self, step: Step) -> Expected:
        return Expected(
            result=self.linux.processes.mprotect(*self._part(step), step["arguments"]["protection"])
        )

    def _read(self, step: Step, *, write: bool = False) -> Expected:
        pid, page, _ = self._part(step)
        return Expected(result=self.linux.processes.access(pid, page, write=write))

    def _write(self, step: Step) -> Expected:
        return self._read(step, write=True)

    def _fork(self, step: Step) -> Expected:
        parent, name = step["actor"], step["arguments"]["name"]
        child = next(self._numbers)
        result = self.linux.processes.fork(self._pids[parent], child)
        if not result:
            self._pids[name] = child
            self._uids[name] = self._uids[parent]
            self._user |= {
                (name, handle): where for (process, handle), where in self._user.items() if process == parent
            }
        return Expected(result=result)

    def _exit(self, step: Step) -> None:
        self.linux.processes.exit(self._pids.pop(step["actor"]))

    def _kill(self, step: Step) -> None:
        if step["arguments"]["at"] is not None:
            raise NotModelledError("kill")
        self._exit(step)

    def _exec(self, step: Step) -> Expected:
        pid = self._pids[step["actor"]]
        self.linux.processes.exit(pid)
        self.linux.processes.start(pid)
        return Expected(result=0)

    def _release(self, step: Step) -> None:
        try:
            self.linux.release(step["arguments"]["handle"])
        except KeyError:
            raise NotModelledError("release") from None

    def _zap(self, step: Step) -> None:
        first = step["arguments"]["start"] // PAGE_SIZE
        self.linux.processes.zap("driver", first, first + step["arguments"]["pages"])


def replay(steps: Sequence[Step], start: Replay) -> Iterator[tuple[Step, Expected]]:
    """The steps that the model has an expectation for, up to the first that it can't follow.

    A guest that tests share, and whose first step isn't the first here, has a state that wasn't recorded.
    """
    if steps and steps[0]["step"] != 1:
        return
    for step in steps:
        try:
            expected = start.step(step)
        except (NotModelledError, KeyError):
            return
        if expected is not None:
            yield step, expected
