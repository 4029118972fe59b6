"""Functions that the guest's kernel keeps to itself, called by a test; and its own page tables.

``set_memory_4k()``, ``set_pages_uc()``, ``arch_phys_wc_index()`` and their kind aren't exported to modules.
A kprobe tells the module where they are, in a guest of our own alone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pytest_memtype.errors import Unavailable, UsageError
from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.faults import Fault, Faults
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.page_table import Leaves, decode_leaves, types_of
from pytest_memtype.guest.process import Process
from pytest_memtype.guest.region import PAGE_SIZE, Region, one_piece
from pytest_memtype.guest.registers import decode_registers
from pytest_memtype.guest.strict import error_number, flag, integer
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.pte import PageSize, leaf_address

ARGUMENTS: Final = 6
"""The most arguments of a call."""

WORDS: Final = 64
"""Words of 64 bits that a call's arguments can point to."""

_UINT64: Final = 1 << 64
_MAX_ERRNO: Final = 4095
_NEVER: Final = 1 << 30

# Bits of a leaf (Intel SDM vol. 3, "4-Level Paging").
_WRITABLE: Final = 1 << 1
_USER: Final = 1 << 2
_DIRTY: Final = 1 << 6
_GLOBAL: Final = 1 << 8
_EXECUTE_DISABLE: Final = 1 << 63

# register_kprobe(), kernel/kprobes.c, 5.10 to 7.3, and guests/module/kernel_function.c.
_REASONS: Final = {
    errno.ENOENT: "this kernel has no function of that name; the compiler may have inlined it",
    errno.EINVAL: "the kernel forbids a probe there",
    errno.EADDRNOTAVAIL: "this kernel has several functions of that name",
    errno.EOPNOTSUPP: "this kernel has no kprobes, or the CPU's IBT forbids the call",
}


@dataclass(frozen=True)
class InMemory:
    """An argument that points into the memory of a call.

    :param word: The word of that memory, from 0, whose address is passed.
    """

    word: int = 0


@dataclass(frozen=True)
class Called:
    """The answer of a function.

    :param returned: The register with its result, as a number without a sign.
    :param memory: The call's memory afterwards, :data:`WORDS` words.
    """

    returned: int
    memory: tuple[int, ...]

    @property
    def errno(self) -> int:
        """The positive errno that a function which returns an ``int`` has answered with, else 0."""
        low = self.returned & 0xFFFFFFFF
        return (1 << 32) - low if low >= (1 << 32) - _MAX_ERRNO else 0

    @property
    def number(self) -> int:
        """The result of a function which returns an ``int``."""
        low = self.returned & 0xFFFFFFFF
        return low - (1 << 32) if low >> 31 else low


@dataclass(frozen=True)
class Rights:
    """The rights in the entry of one page of the kernel, beside its type.

    :param present: Is there an entry? Without one all others are False.
    :param writable: May it be written?
    :param executable: May it be executed?
    :param dirty: Has the CPU, or the kernel for it, noted a write?
    :param shared: Is the entry global, which a switch of the address space doesn't flush?
    :param user: May a process use it?
    """

    present: bool
    writable: bool
    executable: bool
    dirty: bool
    shared: bool
    user: bool


@shown_in_hexadecimal("address")
@dataclass(frozen=True)
class KernelPages:
    """Page-table entries of the kernel's own addresses.

    :param address: The first address.
    :param leaves: The entries, neighbours that say the same in one; dirty and accessed bits don't count.
    :param rights: The rights of each of the leaves, by its first page.
    :param starts: Physical address of the first page of each of the leaves, None where nothing is mapped.
    :param in_order: Do the pages follow each other in memory, from the address that was asked for?
    """

    address: int
    leaves: tuple[Leaves, ...]
    rights: tuple[Rights, ...]
    starts: tuple[int | None, ...]
    in_order: bool

    @property
    def types(self) -> tuple[MemType | None, ...]:
        """The memory type of each page, None where nothing is mapped."""
        return types_of(self.leaves)


class KernelFunctions:
    """The functions of a guest's kernel, for tests that call them by name."""

    def __init__(self, agent: Agent, journal: Journal, faults: Faults) -> None:
        self._agent = agent
        self._journal = journal
        self._faults = faults
        self._places: dict[str, int] = {}
        self._addresses: dict[str, int] = {}
        self._pat: int | None = None

    def call(self, function: str, *arguments: int | InMemory, memory: Sequence[int] = ()) -> Called:
        """Call a function of the kernel. What it takes the caller must know: a wrong argument is an oops.

        ::

            guest.kernel.call("set_memory_4k", guest.kernel.direct(ram), ram.pages)

        :param function: Its name in the kernel's symbol table.
        :param arguments: At most six numbers; pointers are those of :meth:`direct`, :meth:`page` and
            :class:`InMemory`.
        :param memory: The first words of the memory that :class:`InMemory` points to; the others are 0.
        :raises Unavailable: this kernel has no such function, or it can't be called, with the reason.
        :raises UsageError: there are too many arguments or words.
        """
        if len(arguments) > ARGUMENTS or len(memory) > WORDS:
            raise UsageError(
                f"kernel.call: {function} gets at most {ARGUMENTS} arguments and {WORDS} words of memory"
            )
        words = [each.word * 8 if isinstance(each, InMemory) else each % _UINT64 for each in arguments]
        pointers = sum(1 << n for n, each in enumerate(arguments) if isinstance(each, InMemory))
        reply = self._agent.call(
            "kernel_call",
            **self._named(function),
            in_memory=pointers,
            **_numbers("arguments", words),
            **_numbers("memory", [each % _UINT64 for each in memory]),
        )
        error, address, called = reply.decode(
            lambda content: (
                error_number(content["errno"]),
                integer(content["address"]),
                Called(integer(content["returned"]), tuple(map(integer, content["memory"]))),
            )
        )
        # Addresses differ from boot to boot, so records don't have them.
        result = error or called.errno
        self._journal.done(
            "kernel_call", actor="test", arguments={"function": function}, result=result, log=reply.log
        )
        if error:
            raise _unavailable(function, error)
        self._addresses[function] = address
        return called

    def address(self, function: str) -> int:
        """Virtual address of a function.

        :param function: Its name in the kernel's symbol table.
        :raises Unavailable: this kernel has no such function, or none that can be probed.
        """
        if function in self._addresses:
            return self._addresses[function]
        reply = self._agent.call("kernel_call", function=function, only_find=1)
        error, address = reply.decode(
            lambda content: (error_number(content["errno"]), integer(content["address"]))
        )
        if error:
            raise _unavailable(function, error)
        self._addresses[function] = address
        return address

    def has(self, function: str) -> bool:
        """Can the function be called?"""
        try:
            self.address(function)
        except Unavailable:
            return False
        return True

    def direct(self, where: Region | int) -> int:
        """Virtual address of physical memory in the kernel's direct map.

        :param where: A region, or a physical address.
        """
        start = where.start if isinstance(where, Region) else where
        return (self._place("direct_map") + start) % _UINT64

    def physical(self, address: int) -> int:
        """Physical address behind an address of the direct map; the reverse of :meth:`direct`."""
        return (address - self._place("direct_map")) % _UINT64

    def page(self, where: Region | int) -> int:
        """Virtual address of the ``struct page`` of a page of RAM.

        :param where: A region, whose first page is meant, or a physical address.
        """
        start = where.start if isinstance(where, Region) else where
        return (self._place("page_array") + start // PAGE_SIZE * self._place("page_bytes")) % _UINT64

    def pages(self, address: int, pages: int, *, start: int = 0) -> KernelPages:
        """Read the kernel's own page tables.

        :param address: A virtual address of the kernel's.
        :param pages: How many pages of 4 KiB.
        :param start: The physical address that ``in_order`` compares with.
        :raises AgentError: the range isn't the kernel's.
        """
        reply = self._agent.call("kernel_pages", address=address, pages=pages, start=start)
        pat_value = self._pat_value()

        def decode(content: dict[str, Any]) -> KernelPages:
            table = content["page_table"]
            leaves = decode_leaves(table, pat_value, pages=pages)
            rights, starts = [], []
            place = address
            for entry, size, count in ((run[0], 1 << run[1], run[2]) for run in table["runs"]):
                rights.append(_rights(entry))
                starts.append(leaf_address(entry, PageSize(size)) | place & size - 1 if entry else None)
                place += count * PAGE_SIZE
            return KernelPages(address, leaves, tuple(rights), tuple(starts), flag(content["maps"]))

        return reply.decode(decode)

    def direct_pages(self, region: Region) -> KernelPages:
        """Read the direct map of a region: ``in_order`` tells whether each page is mapped at its place."""
        asked = one_piece(region, "direct_pages")
        return self.pages(self.direct(asked), asked.pages, start=asked.start)

    def count(self, function: str, *, task: Process | None = None) -> Fault:
        """Count the calls of a function, which isn't changed: ``counts.calls`` of what this returns.

        ::

            with guest.kernel.count("flush_tlb_all") as flushed:
                ...
                assert flushed.counts.calls == 1

        :param function: Its name in the kernel's symbol table.
        :param task: The process whose calls count; None for the agent's, which carries out drivers'
            operations and :meth:`call`.
        :raises Unavailable: the function can't be probed, with the reason.
        """
        self.address(function)
        return self._faults.fail(function, task=task, after=_NEVER)

    def forget_pat(self) -> None:
        """Forget the PAT, with which entries are read: it was changed behind the kernel's back."""
        self._pat = None

    def forget_addresses(self) -> None:
        """Forget where functions are: a module has come or gone, and its functions with it."""
        self._addresses.clear()

    def _pat_value(self) -> int:
        """The PAT. The kernel itself changes it at boot alone."""
        if self._pat is None:
            reply = self._agent.call("registers")
            cpus = reply.decode(lambda content: [decode_registers(each) for each in content["cpus"]])
            self._pat = cpus[0].pat_value
        return self._pat

    def _named(self, function: str) -> dict[str, str | int]:
        """The fields that name a function: by its address where that is known, which takes no probe."""
        address = self._addresses.get(function)
        return {"function": function} if address is None else {"address": address}

    def _place(self, name: str) -> int:
        if not self._places:
            reply = self._agent.call("kernel_call")
            self._places = reply.decode(
                lambda content: {
                    each: integer(content[each]) for each in ("direct_map", "page_array", "page_bytes")
                }
            )
        return self._places[name]


def _numbers(key: str, numbers: Sequence[int]) -> dict[str, str]:
    return {key: ",".join(map(str, numbers))} if numbers else {}


def _rights(entry: int) -> Rights:
    present = entry != 0
    return Rights(
        present=present,
        writable=bool(entry & _WRITABLE),
        executable=present and not entry & _EXECUTE_DISABLE,
        dirty=bool(entry & _DIRTY),
        shared=bool(entry & _GLOBAL),
        user=bool(entry & _USER),
    )


def _unavailable(function: str, error: int) -> Unavailable:
    reason = _REASONS.get(error, os.strerror(error))
    return Unavailable(f"{function}() can't be called: {reason}")
