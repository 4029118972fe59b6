"""A driver in the guest, which maps memory into the kernel."""

from __future__ import annotations

from typing import Any

from pytest_memtype.errors import UsageError
from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.operation import Steps, ask, operation
from pytest_memtype.guest.outcome import Mapping, Outcome, check_boot, decode_kernel, decode_verdict
from pytest_memtype.guest.page_table import HoldsPat, Leaves, decode_leaves, physical_address, types_of
from pytest_memtype.guest.region import Region, one_piece
from pytest_memtype.guest.registers import decode_registers
from pytest_memtype.guest.request_mapping import request_mapping
from pytest_memtype.x86.memtype import MemType

_PIECE = 2 << 20

_MEMREMAP = (MemType.WB, MemType.WT, MemType.WC)
_SET_MEMORY = (MemType.WB, MemType.WC, MemType.UC_MINUS)


class Driver:
    """A driver, whose mappings the verifier keeps under its name.

    :ivar name: At most 31 characters.
    """

    def __init__(self, name: str, agent: Agent, journal: Journal) -> None:
        self.name = name
        self._agent = agent
        self._journal = journal

    @operation
    def ioremap(self, region: Region, memtype: MemType) -> Steps[Outcome]:
        """Map device memory with ``ioremap()`` or a variant of it.

        UC_MINUS is ``ioremap()``, UC ``ioremap_uc()``, WC ``ioremap_wc()``, WT ``ioremap_wt()``, WB
        ``ioremap_cache()`` and WP ``ioremap_prot()``.
        """
        return self._map("ioremap", region, memtype)

    @operation
    def memremap(self, region: Region, memtype: MemType) -> Steps[Outcome]:
        """Map memory with ``memremap()`` and MEMREMAP_WB, MEMREMAP_WT or MEMREMAP_WC.

        :param region: Device memory or RAM.
        :param memtype: WB, WT or WC, which chooses the flag.
        :raises UsageError: there is no flag for the type.
        """
        _check("memremap", memtype, _MEMREMAP)
        return self._map("memremap", region, memtype)

    @operation
    def set_memory(self, region: Region, memtype: MemType) -> Steps[Outcome]:
        """Change the type of the kernel's direct map of a region with ``set_memory_*()``.

        UC_MINUS is ``set_memory_uc()``, WC ``set_memory_wc()`` and WB ``set_memory_wb()``. Releasing is
        ``set_memory_wb()`` too.

        :param region: Memory that has a direct map: RAM of :meth:`Guest.ram`, RAM of somebody else, the
            first MiB.
        :param memtype: UC_MINUS, WC or WB, which chooses the function.
        :raises AgentError: there is no direct map of all of it, as of a BAR.
        :raises UsageError: there is no such function for the type.
        """
        _check("set_memory", memtype, _SET_MEMORY)
        return self._map("set_memory", region, memtype)

    @operation
    def set_pages_array(self, region: Region, memtype: MemType) -> Steps[Outcome]:
        """Change the type of the kernel's direct map page by page with ``set_pages_array_*()``.

        UC_MINUS is ``set_pages_array_uc()``, WC ``set_pages_array_wc()`` and WB ``set_pages_array_wb()``.
        Releasing is ``set_pages_array_wb()`` too.

        :param region: Memory that has a direct map, as for :meth:`set_memory`.
        :param memtype: UC_MINUS, WC or WB, which chooses the function.
        :raises AgentError: there is no direct map of all of it.
        :raises UsageError: there is no such function for the type.
        """
        _check("set_pages_array", memtype, _SET_MEMORY)
        return self._map("set_pages_array", region, memtype)

    @operation
    def memremap_pages(self, region: Region, memtype: MemType) -> Steps[Outcome]:
        """Give device memory struct pages and a direct map with ``memremap_pages()``.

        As p2pdma does for a BAR (UC_MINUS: ``MEMORY_DEVICE_PCI_P2PDMA``) and DAX for its memory (WB:
        ``MEMORY_DEVICE_GENERIC``): the type follows from the kind of memory.

        :param region: Device memory: whole pieces of 2 MiB, 64 MiB at most.
        :param memtype: UC_MINUS or WB.
        :raises UsageError: there is no such kind, or the region isn't whole pieces.
        :raises AgentError: the region has RAM.
        """
        _check("memremap_pages", memtype, (MemType.WB, MemType.UC_MINUS))
        if not region.pages or region.size % _PIECE or region.start % _PIECE or region.size > 32 * _PIECE:
            raise UsageError(f"memremap_pages: {region} is not whole pieces of 2 MiB, 64 MiB at most")
        return self._map("memremap_pages", region, memtype)

    @operation
    def vmap(self, region: Region, memtype: MemType) -> Steps[Outcome]:
        """Map RAM by its struct pages with ``vmap()``, as TTM and the GEM helpers of display drivers do.

        The type goes with the protection. Linux looks at none and tracks nothing, and the direct map stays as
        it is: only the verifier refuses any type but WB (``ram-not-wb``).

        :param region: RAM of :meth:`Guest.ram`, or of somebody else.
        :param memtype: Any type.
        :raises AgentError: the region has memory without struct pages, as a BAR.
        """
        return self._map("vmap", region, memtype)

    @operation
    def free(self, ram: Region) -> Steps[Outcome]:
        """Free RAM of :meth:`Guest.ram` as it is, as a driver that forgets ``set_memory_wb()``.

        The verifier refuses it (``ram-not-wb``) where the direct map has a page with another type than WB.
        Linux looks at nothing, and forgets the type that it has kept for the page, but the direct map stays
        as it is: whoever gets the page next has it uncached. ``granted`` is the type there.

        :param ram: A region that :meth:`Guest.ram` gave, all of it.
        :raises AgentError: it is none, or a process has it mapped.
        """
        reply = yield from ask("free_ram", start=ram.start, pages=ram.pages, memtype=int(MemType.WB))

        def decode(answer: dict[str, Any]) -> Outcome:
            content, pat = answer["outcome"], decode_registers(answer["registers"]).pat_value
            leaves = decode_leaves(content["page_table"], pat, pages=ram.pages)
            return Outcome(
                operation="free",
                actor=self.name,
                region=ram,
                requested_or_none=MemType.WB,
                verdict_or_none=decode_verdict(content["verdict"]),
                kernel=decode_kernel(content["kernel"], reply.log),
                granted_pages=types_of(leaves),
                effective_pages=(),
                mapping=None,
                leaves=leaves,
            )

        outcome = reply.decode(decode)
        self._journal.mapped(outcome, "free")
        return outcome

    @operation
    def reserve_wc(self, region: Region) -> Steps[Outcome]:
        """Have the kernel keep a range write-combining, mapping nothing: ``arch_io_reserve_memtype_wc()``.

        The verifier counts it as a mapping of this driver, for it says which type the pages have.
        ``granted`` is None: there is no page table to ask.

        :param region: Any range; of RAM the direct map changes too.
        :raises AgentError: the region is RAM without a direct map.
        """
        return self._map("reserve_wc", region, MemType.WC)

    @operation
    def phys_wc_add(self, region: Region) -> Steps[Outcome]:
        """Have the kernel set a write-combining MTRR where PAT is off, else nothing: ``arch_phys_wc_add()``.

        No page gets a type from it: the verifier refuses malformed ranges only, and counts nothing.
        ``granted`` is None; :meth:`Guest.mtrr_list` shows what became of it.
        """
        return self._map("phys_wc_add", region, MemType.WC)

    @operation
    def release(self, mapping: Mapping) -> Steps[None]:
        """Release a mapping with the counterpart of the function that made it.

        That is ``iounmap()``, ``memunmap()``, ``set_memory_wb()``, ``set_pages_array_wb()``,
        ``memunmap_pages()``, ``vunmap()``, ``arch_io_free_memtype_wc()`` or ``arch_phys_wc_del()``.

        :param mapping: A live mapping of this driver.
        :raises AgentError: the mapping was released before.
        :raises UsageError: the mapping is another owner's.
        """
        self._check_mine(mapping)
        reply = yield from ask("release", handle=mapping.handle)
        self._journal.ended(mapping)
        arguments = {"handle": mapping.handle}
        self._journal.done("release", actor=self.name, arguments=arguments, result=None, log=reply.log)

    @operation
    def zap(self, region: Region) -> Steps[None]:
        """Take pages out of the page tables of all processes that map them through the agent's device.

        These are mappings via ``driver``, ``insert_pfn`` and their like. The kernel's function is
        ``unmap_mapping_range()``, as vfio-pci calls it.

        The VMAs stay, and so do the verifier's records. A process that touches such a page gets
        SIGBUS, or the page anew if it was mapped via ``insert_pfn``.

        :param region: The device memory or RAM whose pages are taken out.
        :raises AgentError: the region is empty.
        """
        asked = one_piece(region, "zap")
        reply = yield from ask("zap", start=asked.start, pages=asked.pages)
        arguments = {"start": region.start, "pages": region.pages}
        self._journal.done("zap", actor=self.name, arguments=arguments, result=None, log=reply.log)

    @operation
    def page_table(self, mapping: Mapping, registers: HoldsPat) -> Steps[tuple[MemType | None, ...]]:
        """The type of each page of a live mapping, read again from the page table."""
        return types_of((yield from self._leaves(mapping, registers)))

    @operation
    def leaves(self, mapping: Mapping, registers: HoldsPat) -> Steps[tuple[Leaves, ...]]:
        """The page-table entries of a live mapping, large pages included, read again."""
        return self._leaves(mapping, registers)

    @operation
    def physical(self, mapping: Mapping) -> Steps[int | None]:
        """Guest-physical address in the page table for a mapping's first page; None if it has none."""
        self._check_mine(mapping)
        reply = yield from ask("page_table", handle=mapping.handle)
        # A large page's addresses, virtual and physical, have the same low bits.
        virtual = mapping.region.start
        return reply.decode(lambda content: physical_address(content["page_table"], virtual=virtual))

    def _leaves(self, mapping: Mapping, registers: HoldsPat) -> Steps[tuple[Leaves, ...]]:
        self._check_mine(mapping)
        reply = yield from ask("page_table", handle=mapping.handle)
        pages = mapping.region.pages
        return reply.decode(
            lambda content: decode_leaves(content["page_table"], registers.pat_value, pages=pages)
        )

    def _check_mine(self, mapping: Mapping) -> None:
        if (mapping.kind, mapping.holder) != ("kernel", self.name):
            raise UsageError(f"driver {self.name}: the mapping of {mapping.region} is {mapping.holder}'s")
        check_boot(mapping, self._agent.boot)

    def _map(self, verb: str, region: Region, memtype: MemType) -> Steps[Outcome]:
        return request_mapping(
            self._journal,
            verb,
            actor=self.name,
            region=one_piece(region, verb),
            memtype=memtype,
            label=verb,
            fields={"owner": self.name},
        )


def _check(function: str, memtype: MemType, known: tuple[MemType, ...]) -> None:
    if memtype not in known:
        raise UsageError(f"{function} can't ask for {memtype}; it knows {', '.join(map(str, known))}")
