"""A user process in the guest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pytest_memtype.errors import ProcessDied, ProcessFault, SyscallRefused, UsageError
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.operation import Steps, ask, operation
from pytest_memtype.guest.outcome import Mapping, Outcome, check_boot
from pytest_memtype.guest.page_table import HoldsPat, Leaves, decode_leaves, granted_types, physical_address
from pytest_memtype.guest.proc_mtrr import MTRR_NAMES, MtrrAnswer, decode_mtrr_answer
from pytest_memtype.guest.protocol import plain
from pytest_memtype.guest.region import PAGE_SIZE, Region, together
from pytest_memtype.guest.request_mapping import request_device_mapping, request_mapping
from pytest_memtype.guest.results import IoctlAnswer, SyscallAnswer
from pytest_memtype.guest.strict import error_number, integer
from pytest_memtype.guest.vma import Vma, parse_maps
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.size import parse_size

_VIA: dict[str, tuple[MemType, ...]] = {
    "driver": tuple(MemType),
    "insert_pfn": tuple(MemType),
    "insert_pfn_pmd": tuple(MemType),
    "insert_pfn_pud": tuple(MemType),
    "insert_page": tuple(MemType),
    "insert_pages": tuple(MemType),
    "remap_vmalloc": tuple(MemType),
    "iomap_memory": tuple(MemType),
    "insert_mixed": tuple(MemType),
    "dma_coherent": (MemType.WB,),
    "dma_wc": (MemType.WC,),
    "noncached_writecombine": (MemType.WC,),
    "sysfs": (MemType.UC_MINUS, MemType.WC),
    "devmem": (MemType.WB, MemType.UC_MINUS),
}
"""Memory types that each way to map can ask for."""


MOST_PIECES = 16
"""Pieces of memory that one mapping can have."""

_PROTECTIONS = ("", "r", "w", "x", "rw", "rx", "wx", "rwx")

# guests/agent/process_ioctl.c.
_IOCTL_BYTES = 256
_PATH_BYTES = 255

MOMENTS = ("mmap", "open", "close", "fault")
"""Moments in the middle of an operation at which :meth:`Process.kill` can strike."""


class Process:
    """A real process, whose mappings the verifier tracks for as long as the process has them.

    :ivar name: The name under which the verifier tracks them, at most 31 characters.
    :ivar pid: Its process id in the guest.
    """

    def __init__(self, name: str, pid: int, agent: Agent, journal: Journal) -> None:
        self.name = name
        self.pid = pid
        self._agent = agent
        self._journal = journal

    def check_present(self) -> None:
        """Check that the process is the present kernel's.

        :raises UsageError: it is from before :meth:`Guest.kexec`.
        """
        self._agent.check_present(f"process {self.name}")

    @operation
    def mmap(
        self,
        region: Region | Sequence[Region] | None = None,
        memtype: MemType | None = None,
        *,
        via: str = "driver",
        private: bool = False,
        protection: str = "rw",
        part: tuple[int, int] | None = None,
        offset: int = 0,
        size: int | str | None = None,
    ) -> Steps[Outcome]:
        """Map device memory or RAM into the process.

        :param region: The memory to map; via ``driver`` also several pieces of memory, at most 16, which the
            mapping has one behind the other.
        :param memtype: The type to ask for; ``via`` says which types are possible. Via a device node, both
            are what the test expects, and what the verifier is asked; what the driver has mapped is read from
            the page tables: ``outcome.region``, ``outcome.granted``.
        :param via: ``driver``: the agent's own device, ``remap_pfn_range()`` with any type.
            ``insert_pfn``: the same device, ``vmf_insert_pfn()`` for each page when it is touched; the
            verifier is asked and counts at mmap(), and Linux tracks nothing of it. A private mapping is
            refused, EINVAL. ``insert_pfn_pmd``: likewise 2 MiB at a time, ``vmf_insert_pfn_pmd()``, where the
            memory is aligned to that and Linux asks for a large page, from 6.6 on. ``insert_pfn_pud``:
            likewise, and 1 GiB at a time, ``vmf_insert_pfn_pud()``, where that fits. ``insert_page``: the
            same device, ``vm_insert_page()`` of each page at mmap(); it must be RAM, else EINVAL. Linux looks
            at no type and tracks nothing. ``insert_pages``: likewise, ``vm_insert_pages()`` of all.
            ``remap_vmalloc``: likewise, ``remap_vmalloc_range()`` of what ``vmalloc_user()`` would give.
            ``iomap_memory``: as ``driver``, by ``vm_iomap_memory()``. ``insert_mixed``: as ``insert_pfn``, by
            ``vmf_insert_mixed()``, which takes private mappings too. ``dma_coherent``, ``dma_wc``: as
            ``driver``, by ``dma_mmap_coherent()`` (WB) and ``dma_mmap_wc()`` (WC) for a device without an
            IOMMU; on x86 both ask for WB.
            ``noncached_writecombine``: as ``driver``, with the protection
            ``pgprot_writecombine(pgprot_noncached())``, by which a driver means WC. ``sysfs``: the PCI
            device's ``resourceN`` (UC_MINUS) or ``resourceN_wc`` (WC; ENOENT where the BAR isn't
            prefetchable). ``devmem``: ``/dev/mem``, WB without and UC_MINUS with O_SYNC. ``/dev/NAME``: that
            device node, whose driver maps what it likes.
        :param private: MAP_PRIVATE instead of MAP_SHARED. A page the process writes becomes a copy in
            RAM, mapped with the type asked for (``wp_page_copy()`` in ``mm/memory.c`` makes it from
            ``vm_page_prot``); the record stays, because the VMA does.
        :param protection: Letters of the accesses that are allowed, ``r``, ``w`` and ``x``, in this order;
            empty for none (PROT_NONE).
        :param part: Offset and number of the pages that are mapped, in a VMA of the whole region; via
            ``driver`` only. The verifier is asked for these pages alone. A part that is private is
            refused, EINVAL. None maps the whole region.
        :param offset: Offset in bytes that a device node is mapped at.
        :param size: Bytes of a device node to map, a number or text with a unit (``"64K"``), by a test that
            expects nothing of it; None for as many as the region has.
        :raises UsageError: ``via`` is not known, or can't ask for the type or for a part.
        :raises ProcessDied: the process died during the call; its mappings are gone.
        """
        fields: dict[str, str | int] = {}
        if region is not None and not isinstance(region, Region):
            region = _pieces(region, via, part=part)
            fields["pieces"] = ",".join(f"{each.start:#x}+{each.pages}" for each in region.parts())
        if via.startswith("/"):
            fields |= {"private": int(private), "protection": protection}
            _check_protection(protection)
            pages = _pages_of_node(via, region, memtype, offset=offset, size=size, part=part)
            expected = None if region is None or memtype is None else (region, memtype)
            with self._notices_death("mmap"):
                return (
                    yield from request_device_mapping(
                        self._journal,
                        process=self.name,
                        path=via,
                        offset=offset,
                        pages=pages,
                        expected=expected,
                        fields=fields,
                    )
                )
        if via not in _VIA:
            raise UsageError(f"a process can't map via {via!r}; it knows {', '.join(_VIA)} and '/dev/NAME'")
        if region is None or memtype is None or offset or size is not None:
            raise UsageError(f"via {via!r} takes a region and a type; offset= and size= are for '/dev/NAME'")
        if memtype not in _VIA[via]:
            raise UsageError(
                f"via {via!r} can't ask for {memtype}; it knows {', '.join(map(str, _VIA[via]))}"
            )
        _check_protection(protection)
        label = f"mmap {via}" + (" private" if private else "") + ("" if part is None else " part")
        label += " pieces" if "pieces" in fields else ""
        fields |= {"via": via, "private": int(private), "protection": protection}
        if part is not None:
            _check_part(part, region, via)
            fields |= {"part_first": part[0], "part_pages": part[1]}
        with self._notices_death("mmap"):
            return (
                yield from request_mapping(
                    self._journal,
                    "mmap",
                    actor=self.name,
                    region=region,
                    memtype=memtype,
                    label=label,
                    fields={"process": self.name, **fields},
                )
            )

    @operation
    def munmap(self, mapping: Mapping, *, offset: int = 0, pages: int | None = None) -> Steps[SyscallAnswer]:
        """Unmap a mapping or a part of it, counted in pages; to its end where ``pages`` is None."""
        _, result = yield from self._do("munmap", mapping, offset=offset, pages=pages)
        if result.accepted:
            self._journal.unmapped(mapping, self.name, offset=offset, pages=pages)
        return result

    @operation
    def mremap(
        self,
        mapping: Mapping,
        *,
        offset: int = 0,
        pages: int | None = None,
        new_pages: int | None = None,
        move: bool = False,
        dont_unmap: bool = False,
    ) -> Steps[Mapping]:
        """Shrink, grow or move a mapping or a part of it, counted in pages.

        Pages that move are a mapping of their own from then on; pages that stay remain a part of
        the old one, as after :meth:`munmap` of the others.

        :param mapping: The mapping, a live one of this process.
        :param offset: First page of the part, counted from the mapping's first.
        :param pages: Number of pages of the part; None for all to the mapping's end.
        :param new_pages: Number of pages it shall have; None for as many as now.
        :param move: Move it to an address that nothing was at before (MREMAP_FIXED).
        :param dont_unmap: MREMAP_DONTUNMAP.
        :returns: The mapping that has the pages now.
        :raises SyscallRefused: mremap() failed in the guest; ``errno`` says how. Every mapping made here is
            VM_PFNMAP or VM_MIXEDMAP, and VM_DONTEXPAND, so growing is EFAULT and ``dont_unmap`` EINVAL
            (``mm/mremap.c``, 5.10 to 7.3).
        """
        arguments: dict[str, int] = {"offset": offset, "move": int(move), "dont_unmap": int(dont_unmap)}
        if new_pages is not None:
            arguments["new_pages"] = new_pages
        reply, answer = yield from self._do("mremap", mapping, pages=pages, **arguments)
        if answer.rejected:
            raise SyscallRefused(
                answer.errno, f"mremap of process {self.name} failed in the guest", answer.log
            )
        old = mapping.region.pages - offset if pages is None else pages
        new = old if new_pages is None else new_pages
        handle = reply.decode(
            lambda content: None if content["handle"] is None else integer(content["handle"])
        )
        if handle is None:
            self._journal.unmapped(mapping, self.name, offset=offset + new, pages=old - new)
            return mapping
        rest = mapping.region[offset:]
        region = rest[:new] if new <= rest.pages else Region(rest.start, new)
        address = reply.decode(lambda content: integer(content["address"]))
        moved = Mapping("user", self.name, handle, region, address, reply.boot)
        self._journal.moved(mapping, moved, self.name, offset=offset, pages=old)
        return moved

    @operation
    def mprotect(
        self, mapping: Mapping, protection: str, *, offset: int = 0, pages: int | None = None
    ) -> Steps[SyscallAnswer]:
        """Change the protection of a part of a mapping.

        :param mapping: The mapping, a live one of this process.
        :param protection: As of :meth:`mmap`; empty for PROT_NONE. The type stays in the page table, also of
            pages that the CPU doesn't see then.
        :param offset: First page of the part, counted from the mapping's first.
        :param pages: Number of pages of the part; None for all to the mapping's end.
        """
        _check_protection(protection)
        _, result = yield from self._do(
            "mprotect", mapping, offset=offset, pages=pages, protection=protection
        )
        return result

    @operation
    def write(self, mapping: Mapping, page: int, value: int = 1) -> Steps[None]:
        """Write a 32-bit value to the start of a page.

        :param mapping: The mapping, a live one of this process.
        :param page: Number of the page in the mapping, from 0.
        :param value: The value, from 0 to 2**32 - 1.
        :raises ProcessFault: the process got a signal.
        """
        if not 0 <= value < 1 << 32:
            raise UsageError(f"write: {value} is not a 32-bit value")
        yield from self._access("write", mapping, page, value=value)

    @operation
    def read(self, mapping: Mapping, page: int) -> Steps[int]:
        """The 32-bit value at the start of a page.

        :param mapping: The mapping, a live one of this process.
        :param page: Number of the page in the mapping, from 0.
        :raises ProcessFault: the process got a signal.
        """
        return self._access("read", mapping, page)

    @operation
    def page_table(self, mapping: Mapping, registers: HoldsPat) -> Steps[tuple[MemType | None, ...]]:
        """The type of each page of a mapping, read again from the page table."""
        self._check_user(mapping)
        reply = yield from self._call("user_page_table", handle=mapping.handle)
        pages = mapping.region.pages
        types = reply.decode(lambda content: granted_types(content["page_table"], registers, pages=pages))
        names = [None if each is None else str(each) for each in types]
        arguments = {"handle": mapping.handle}
        self._journal.done("page_table", actor=self.name, arguments=arguments, result=names, log=())
        return types

    @operation
    def leaves(self, mapping: Mapping, registers: HoldsPat) -> Steps[tuple[Leaves, ...]]:
        """The page-table entries of a mapping, read again: large pages, and those hidden by PROT_NONE."""
        self._check_user(mapping)
        reply = yield from self._call("user_page_table", handle=mapping.handle)
        pages = mapping.region.pages
        return reply.decode(
            lambda content: decode_leaves(content["page_table"], registers.pat_value, pages=pages)
        )

    @operation
    def physical(self, mapping: Mapping, page: int) -> Steps[int | None]:
        """Guest-physical address in the page table for a page of a mapping; None if it has none.

        After the process wrote to a private page this is its copy in RAM.
        """
        self._check_user(mapping)
        reply = yield from self._call("user_page_table", handle=mapping.handle, offset=page, pages=1)
        virtual = mapping.address + page * PAGE_SIZE
        return reply.decode(lambda content: physical_address(content["page_table"], virtual=virtual))

    @operation
    def vmas(self) -> Steps[tuple[Vma, ...]]:
        """The process's areas of device memory, as the kernel lists them, by address.

        :raises AgentError: the process is gone.
        """
        reply = yield from self._call("maps")
        return reply.decode(lambda content: parse_maps(plain(content["text"])))

    @operation
    def fork(self, name: str | None = None) -> Steps[Process]:
        """Fork; the child has copies of all mappings, under the same handles.

        :param name: Name of the child; None for ``NAME-child``.
        :raises SyscallRefused: fork() failed in the guest; ``errno`` says how.
        """
        child = name or f"{self.name}-child"
        reply = yield from self._call("fork", name=child)
        error = reply.decode(lambda content: 0 if "pid" in content else error_number(content["errno"]))
        if error:
            self._journal.done(
                "fork", actor=self.name, arguments={"name": child}, result=error, log=reply.log
            )
            raise SyscallRefused(error, f"fork of process {self.name} failed in the guest", reply.log)
        self._journal.inherited(self.name, child)
        self._journal.done("fork", actor=self.name, arguments={"name": child}, result=0, log=reply.log)
        return Process(
            child, reply.decode(lambda content: integer(content["pid"])), self._agent, self._journal
        )

    @operation
    def mtrr_add(
        self, base: int | str, size: int | str, memtype: MemType, *, held: bool = False
    ) -> Steps[MtrrAnswer]:
        """Add a range through ``/proc/mtrr``, as the X server did before there was PAT.

        :param base: Address of the first byte, a number or text with a unit (``"4048M"``).
        :param size: Bytes, a number or text likewise. The kernel judges base and size: an MTRR needs a power
            of two, and a base that is a multiple of it.
        :param memtype: The type of the range.
        :param held: Use an ioctl of a file that stays open: the kernel takes the range back when this process
            and all children that it has forked since have ended. Otherwise the range is written as a line,
            and outlives the process, and :meth:`Guest.reset`.
        :raises UsageError: no MTRR can have that type, or base or size is no size, or more than the 32
            bits of the ioctl.
        """
        if memtype not in MTRR_NAMES.values():
            raise UsageError(f"mtrr_add: an MTRR can't have the type {memtype}")
        try:
            start, length = parse_size(base), parse_size(size)
        except ValueError as error:
            raise UsageError(f"mtrr_add: {error}") from None
        if held and length >> 32:
            raise UsageError(f"mtrr_add: the ioctl takes no size of 4 GiB or more, such as {size!r}")
        return self._change_mtrr("mtrr_add", base=start, size=length, memtype=int(memtype), held=int(held))

    @operation
    def mtrr_delete(self, index: int) -> Steps[MtrrAnswer]:
        """Take one off the count of a register through ``/proc/mtrr``; at zero the register is free.

        :param index: The register's number, :attr:`ProcMtrr.index`.
        """
        if index < 0:
            raise UsageError(f"mtrr_delete: there is no register {index}")
        return self._change_mtrr("mtrr_delete", index=index)

    @operation
    def ioctl(
        self, path: str, command: int, data: bytes, *, of_32_bits: bool = False, no_memory: bool = False
    ) -> Steps[IoctlAnswer]:
        """Call ``ioctl()`` of a file, which stays open until the process ends or calls that of another.

        :param path: The file, opened for reading and writing where that is allowed, else for reading.
        :param command: The command's number, as ``_IOW()`` and its like make it.
        :param data: At most 256 bytes of memory that the command gets the address of.
        :param of_32_bits: Call as a program of 32 bits does.
        :param no_memory: Nothing is mapped at that address.
        :raises UsageError: the path or the data is too long, or the path has a space in it.
        """
        if len(data) > _IOCTL_BYTES or not 1 <= len(path.encode()) <= _PATH_BYTES or set(path) & set(" \n"):
            raise UsageError(f"ioctl: {path!r} or its {len(data)} bytes of data can't be said to the agent")
        reply = yield from self._call(
            "ioctl",
            path=path,
            command=command,
            data=data.hex(),
            of_32_bits=int(of_32_bits),
            no_memory=int(no_memory),
        )
        answer = reply.decode(
            lambda content: IoctlAnswer(error_number(content["errno"]), bytes.fromhex(content["data"]))
        )
        arguments = {"path": path, "command": command, "data": data.hex(), "of_32_bits": of_32_bits}
        self._journal.done("ioctl", actor=self.name, arguments=arguments, result=answer.errno, log=reply.log)
        return answer

    @operation
    def exec(self) -> Steps[None]:
        """Replace the program by itself.

        The process goes on under its name and pid; all its mappings are gone, and so are their handles.

        :raises OSError: execve() failed in the guest, and nothing has changed.
        """
        reply = yield from self._call("exec")
        error = reply.decode(lambda content: error_number(content["errno"]))
        self._journal.done("exec", actor=self.name, arguments={}, result=error, log=reply.log)
        if error:
            raise OSError(error, f"exec of process {self.name} failed in the guest")
        self._journal.exited(self.name)

    @operation
    def kill(self, *, at: str | None = None) -> Steps[None]:
        """Kill the process with SIGKILL, at once or in an operation to come.

        At once, it returns when the mappings are gone.

        :param at: In the middle of an operation to come, when the kernel next does this for the
            process: ``mmap`` (via ``driver`` or ``insert_pfn``, with the pages mapped), ``open`` (a VMA of a
            mapping was copied: fork, a split, a move), ``close`` (a VMA of a mapping went), ``fault`` (a page
            was inserted). The operation then raises ProcessDied. One process of a guest at a time. None
            for at once.
        :raises UsageError: there is no such moment.
        """
        if at is None:
            reply = yield from ask("kill", process=self.name)
            self._journal.exited(self.name)
        elif at in MOMENTS:
            reply = yield from self._call("kill_at", kill_point=at)
        else:
            raise UsageError(f"a process can't be killed at {at!r}; it can at {', '.join(MOMENTS)}")
        self._journal.done("kill", actor=self.name, arguments={"at": at}, result=None, log=reply.log)

    @operation
    def exit(self) -> Steps[None]:
        """End the process; returns when its mappings are gone."""
        reply = yield from ask("exit", process=self.name)
        self._journal.exited(self.name)
        self._journal.done("exit", actor=self.name, arguments={}, result=None, log=reply.log)

    def _call(self, verb: str, **fields: str | int) -> Steps[Reply]:
        with self._notices_death(verb):
            return (yield from ask(verb, process=self.name, **fields))

    @contextmanager
    def _notices_death(self, verb: str) -> Iterator[None]:
        try:
            yield
        except ProcessDied:
            self._journal.exited(self.name)
            self._journal.done(verb, actor=self.name, arguments={}, result="died", log=())
            raise

    def _do(
        self, verb: str, mapping: Mapping, *, pages: int | None, **fields: str | int
    ) -> Steps[tuple[Reply, SyscallAnswer]]:
        """Do something with a mapping or a part of it; gives the reply, and the answer in it."""
        self._check_user(mapping)
        if pages is not None:
            fields["pages"] = pages
        reply = yield from self._call(verb, handle=mapping.handle, **fields)
        # A promised mapping has its handle only now.
        arguments = {"handle": mapping.handle, **fields}
        result = reply.decode(lambda content: error_number(content["errno"]))
        where = reply.decode(
            lambda content: {
                name: None if content[name] is None else integer(content[name])
                for name in ("handle", "address")
                if name in content
            }
        )
        self._journal.done(verb, actor=self.name, arguments=arguments, result=result, log=reply.log, **where)
        return reply, SyscallAnswer(result, reply.log)

    def _change_mtrr(self, verb: str, **arguments: int) -> Steps[MtrrAnswer]:
        reply = yield from self._call(verb, **arguments)
        answer = reply.decode(lambda content: decode_mtrr_answer(content, reply.log))
        self._journal.done(verb, actor=self.name, arguments=arguments, result=answer.errno, log=reply.log)
        return answer

    def _check_user(self, mapping: Mapping) -> None:
        # After fork() a child has its parent's mappings too, so only the kind can be wrong.
        if mapping.kind != "user":
            raise UsageError(f"process {self.name}: the mapping of {mapping.region} is a driver's")
        check_boot(mapping, self._agent.boot)

    def _access(self, verb: str, mapping: Mapping, page: int, **fields: int) -> Steps[int]:
        self._check_user(mapping)
        reply = yield from self._call(verb, handle=mapping.handle, offset=page, pages=1, **fields)
        # A promised mapping has its handle only now.
        arguments = {"handle": mapping.handle, "offset": page, "pages": 1, **fields}
        signal, value = reply.decode(
            lambda content: (integer(content["signal"]), integer(content.get("value", 0)))
        )
        result = {"signal": signal, "value": value}
        self._journal.done(verb, actor=self.name, arguments=arguments, result=result, log=reply.log)
        if signal:
            raise ProcessFault(self.name, signal)
        return value


def _check_protection(protection: str) -> None:
    if protection not in _PROTECTIONS:
        known = ", ".join(map(repr, _PROTECTIONS))
        raise UsageError(f"protection {protection!r} is not known; use one of {known}")


def _pieces(regions: Sequence[Region], via: str, *, part: tuple[int, int] | None) -> Region:
    if via != "driver" or part is not None:
        raise UsageError(f"a process can map pieces of memory via 'driver' and in full only, not via {via!r}")
    if not 1 <= len(regions) <= MOST_PIECES or not all(each.pages for each in regions):
        raise UsageError(f"a process can map 1 to {MOST_PIECES} pieces of memory, each of a page or more")
    return together(regions)


def _pages_of_node(
    node: str,
    region: Region | None,
    memtype: MemType | None,
    *,
    offset: int,
    size: int | str | None,
    part: tuple[int, int] | None,
) -> int:
    """The number of pages to map of a device node, by the arguments of :meth:`Process.mmap`."""
    if part is not None:
        raise UsageError(f"a process can map a part of a region via 'driver' only, not via {node!r}")
    if (region is None) != (memtype is None) or (region is None) == (size is None):
        raise UsageError(f"via {node!r}: name the region and the type that you expect, or a size= alone")
    if offset < 0 or offset % PAGE_SIZE:
        raise UsageError(f"via {node!r}: offset={offset:#x} is no multiple of 4096")
    if region is not None:
        return region.pages
    assert size is not None
    try:
        length = parse_size(size)
    except ValueError as error:
        raise UsageError(f"via {node!r}: {error}") from None
    if length <= 0 or length % PAGE_SIZE:
        raise UsageError(f"via {node!r}: size={size!r} is not whole pages of 4 KiB")
    return length // PAGE_SIZE


def _check_part(part: tuple[int, int], region: Region, via: str) -> None:
    first, pages = part
    if via != "driver":
        raise UsageError(f"a process can map a part of a region via 'driver' only, not via {via!r}")
    if first < 0 or pages < 1 or first + pages > region.pages:
        raise UsageError(f"part={part} doesn't lie in the {region.pages} pages of {region}: (offset, pages)")
