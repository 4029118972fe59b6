"""The second reference model, per version: what Linux answers, grants and keeps.

It follows the kernel's source where that decides, function by function, as naively as that can be: one
dictionary entry per page, lists instead of trees. Where a version differs there is a row in
:mod:`pytest_memtype.spec.linux_versions`. It models bugs as well: reservations that are lost or left behind
are what it is for.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field

from pytest_memtype.spec.linux_messages import Event, Message
from pytest_memtype.spec.linux_processes import LARGE, LARGER, Processes, Vma, in_large_entry
from pytest_memtype.spec.linux_reservations import RefusedError, Reservation, Reservations
from pytest_memtype.spec.linux_versions import Behaviour, Topic, Version, behaviours
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.pat import LINUX_PAT, RESET_PAT, possible_types

WITHOUT_PAT = {MemType.WC: MemType.UC_MINUS, MemType.WP: MemType.UC_MINUS}
"""What ``__cachemode2pte_tbl`` holds for the types that a PAT as at reset doesn't have."""


@dataclass(frozen=True)
class Platform:
    """The version and the machine that a modelled Linux runs with.

    :param version: See :func:`pytest_memtype.spec.linux_versions.parse_version`.
    :param is_ram: Called with a page frame number: is it System RAM?
    :param is_write_back: Called with a page frame number: do the MTRRs say write-back of it? Asked anew each
        time.
    :param has_mtrr: Does the CPU have MTRRs, and did the firmware turn them on?
    :param pat: Does the CPU have a PAT, and wasn't it turned off with ``nopat``?
    """

    version: Version
    is_ram: Callable[[int], bool]
    is_write_back: Callable[[int], bool]
    has_mtrr: bool = True
    pat: bool = True


@dataclass(frozen=True)
class Answer:
    """The kernel's answer to a request for a mapping.

    :param errno: Positive, 0 when accepted. NULL without a reason counts as ENOMEM.
    :param granted: The type in the page table, per page, None where nothing is mapped (yet); empty when
        refused, and when the call maps nothing.
    """

    errno: int
    granted: tuple[MemType | None, ...] = ()


@shown_in_hexadecimal("pfn")
@dataclass(frozen=True)
class _KernelMapping:
    """A mapping that a driver has in the kernel.

    :param pfn: Number of the first page frame.
    :param memtypes: The type in the page table; None where the page table is the direct map.
    """

    pfn: int
    pages: int
    memtypes: MemType | None
    reserved: bool
    changed_direct_map: bool = False


@shown_in_hexadecimal("pat_value")
@dataclass
class Linux:
    """A modelled kernel, with the mappings of its drivers and processes.

    Ranges are (pfn, pages): the number of the first page frame, and how many pages. A driver's mapping goes
    by a key that the caller chooses.

    :ivar pat_value: The value of IA32_PAT.
    """

    platform: Platform
    pat_value: int = field(init=False)
    reservations: Reservations = field(init=False)
    processes: Processes = field(init=False)
    _kernel: dict[int, _KernelMapping] = field(default_factory=dict)
    _direct: dict[int, MemType] = field(default_factory=dict)

    def __post_init__(self) -> None:
        platform = self.platform
        behaviour = dict(behaviours(platform.version))
        without_mtrr = Behaviour.PAT_ON if platform.has_mtrr else behaviour[Topic.NO_MTRR]
        tracking = platform.pat and without_mtrr is not Behaviour.PAT_OFF
        full = platform.pat and without_mtrr is Behaviour.PAT_ON
        self.pat_value = LINUX_PAT if full else RESET_PAT
        known = possible_types(LINUX_PAT)
        self._express = {each: each if full else WITHOUT_PAT.get(each, each) for each in known}
        self._behaviour = behaviour
        self.reservations = Reservations(
            tracking=tracking,
            free_behaviour=behaviour[Topic.FREE],
            is_ram=platform.is_ram,
            is_write_back=self._is_write_back,
        )
        self.processes = Processes(self.reservations, behaviour, self._express)

    def _is_write_back(self, pfn: int) -> bool:
        if self.platform.has_mtrr:
            return self.platform.is_write_back(pfn)
        return self._behaviour[Topic.NO_MTRR_WRITE_BACK] is Behaviour.WRITE_BACK

    def copied(self) -> Linux:
        """A copy of the kernel as it is now, which goes its own way."""
        twin = copy(self)
        twin.reservations = self.reservations.copied()
        twin.processes = self.processes.copied(twin.reservations)
        twin._kernel = {**self._kernel}
        twin._direct = {**self._direct}
        return twin

    @property
    def said(self) -> list[Message]:
        """The messages that the kernel has logged."""
        return self.reservations.said

    def _has_ram(self, pfn: int, pages: int) -> bool:
        return any(self.platform.is_ram(each) for each in range(pfn, pfn + pages))

    def ioremap(self, key: int, pfn: int, pages: int, memtype: MemType) -> Answer:
        """``ioremap()`` and its relatives; arch/x86/mm/ioremap.c, ``__ioremap_caller()``."""
        # RAM is refused unless all its pages are reserved ones; those of an allocation never are.
        if pages < 1:
            return Answer(errno.ENOMEM)
        if self._has_ram(pfn, pages):
            self.reservations.say(Event.IOREMAP_ON_RAM, pfn, pfn + pages)
            return Answer(errno.ENOMEM)
        # ioremap_prot() takes page-table bits, and asks for what those say.
        asked = self._express[memtype] if memtype is MemType.WP else memtype
        try:
            got = self.reservations.reserve_for(pfn, pfn + pages, asked, refusal=Event.IOREMAP_REFUSED)
        except RefusedError as refused:
            if not refused.substitute:
                self.reservations.say(Event.IOREMAP_FAILED)
            return Answer(errno.ENOMEM)
        # The switch over the type there knows no WP: it falls to the default, UC.
        granted = self._express[MemType.UC if got is MemType.WP else got]
        self._kernel[key] = _KernelMapping(pfn, pages, granted, reserved=True)
        return Answer(0, (granted,) * pages)

    def memremap(self, key: int, pfn: int, pages: int, memtype: MemType) -> Answer:
        """``memremap()`` with one flag; kernel/iomem.c."""
        if pages < 1:
            return Answer(errno.ENOMEM)
        if not self._has_ram(pfn, pages):
            return self.ioremap(key, pfn, pages, memtype)
        all_ram = all(self.platform.is_ram(each) for each in range(pfn, pfn + pages))
        if not all_ram:
            self.reservations.say(Event.MEMREMAP_MIXED, pfn, pfn + pages)
            return Answer(errno.ENOMEM)
        if memtype is not MemType.WB:
            self.reservations.say(Event.MEMREMAP_ON_RAM, pfn, pfn + pages)
            return Answer(errno.ENOMEM)
        # try_ram_remap(): the direct map as it is, whatever type that has.
        return self._direct_map(key, pfn, pages)

    def memremap_pages(self, key: int, pfn: int, pages: int, memtype: MemType) -> Answer:
        """``memremap_pages()`` of device memory; mm/memremap.c, ``pagemap_range()``.

        The type is reserved as for a mapping of a process (``track_pfn_remap()``, ``pfnmap_track()`` from
        6.16 on), and the direct map is made with the one that is granted.
        """
        try:
            got = self.reservations.reserve_for(pfn, pfn + pages, memtype)
        except RefusedError:
            return Answer(errno.EINVAL)
        granted = in_large_entry(self._express[got])
        self._kernel[key] = _KernelMapping(pfn, pages, granted, reserved=True)
        return Answer(0, (granted,) * pages)

    def vmap(self, key: int, pfn: int, pages: int, memtype: MemType) -> Answer:
        """``vmap()`` of RAM: the type in the protection, nothing is looked up or reserved; mm/vmalloc.c."""
        granted = self._express[memtype]
        self._kernel[key] = _KernelMapping(pfn, pages, granted, reserved=False)
        return Answer(0, (granted,) * pages)

    def free(self, pfn: int, pages: int) -> Answer:
        """Free RAM as it is: the pages' flags are cleared, and with them the type that is kept there.

        The direct map stays. mm/page_alloc.c, ``free_pages_prepare()``.
        """
        for each in range(pfn, pfn + pages):
            self.reservations.tags.pop(each, None)
        return Answer(0, tuple(self._direct.get(each, MemType.WB) for each in range(pfn, pfn + pages)))

    def set_memory(self, key: int, pfn: int, pages: int, memtype: MemType) -> Answer:
        """``set_memory_uc()``, ``_wc()`` and ``_wb()`` of RAM; arch/x86/mm/pat/set_memory.c."""
        if memtype is MemType.WB:
            self.reservations.free(pfn, pfn + pages)
        else:
            try:
                self.reservations.reserve(pfn, pfn + pages, memtype, substitute=False)
            except RefusedError as refused:
                return Answer(refused.errno)
        self._change_direct_map(pfn, pages, memtype)
        return self._direct_map(key, pfn, pages, changed=True)

    def _change_direct_map(self, pfn: int, pages: int, memtype: MemType) -> None:
        # These aren't the tags: with the PAT off there are no tags.
        for each in range(pfn, pfn + pages):
            if self.platform.is_ram(each):
                self._direct[each] = self._express[memtype]

    def set_pages_array(self, key: int, pfn: int, pages: int, memtype: MemType) -> Answer:
        """``_set_pages_array()``: as :meth:`set_memory`, but page by page, and EINVAL for whatever reason."""
        answer = self.set_memory(key, pfn, pages, memtype)
        return Answer(errno.EINVAL) if answer.errno else answer

    def reserve_wc(self, key: int, pfn: int, pages: int) -> Answer:
        """``arch_io_reserve_memtype_wc()``: EBUSY where neither WC nor a type that may stand in can be had.

        The work is done by ``memtype_reserve_io()``. Freeing RAM leaves the direct map as it was changed; the
        guest's module puts it right, and so does :meth:`release`.
        """
        try:
            self.reservations.reserve_for(pfn, pfn + pages, MemType.WC)
        except RefusedError:
            return Answer(errno.EBUSY)
        # What memtype_kernel_map_sync() does.
        self._change_direct_map(pfn, pages, MemType.WC)
        self._kernel[key] = _KernelMapping(pfn, pages, None, reserved=True, changed_direct_map=True)
        return Answer(0)

    def _direct_map(self, key: int, pfn: int, pages: int, *, changed: bool = False) -> Answer:
        self._kernel[key] = _KernelMapping(pfn, pages, None, reserved=False, changed_direct_map=changed)
        return Answer(0, self.kernel_page_table(key))

    def release(self, key: int) -> None:
        """``iounmap()``, ``memunmap()``, or ``set_memory_wb()`` where the direct map was changed."""
        mapping = self._kernel.pop(key)
        if mapping.reserved or mapping.changed_direct_map:
            self.reservations.free(mapping.pfn, mapping.pfn + mapping.pages)
        if mapping.changed_direct_map:
            self._change_direct_map(mapping.pfn, mapping.pages, MemType.WB)

    def kernel_page_table(self, key: int) -> tuple[MemType | None, ...]:
        """The types in the page table of a driver's mapping, per page."""
        mapping = self._kernel[key]
        if mapping.memtypes is not None:
            return (mapping.memtypes,) * mapping.pages
        pages = range(mapping.pfn, mapping.pfn + mapping.pages)
        return tuple(self._direct.get(pfn, MemType.WB) for pfn in pages)

    def mmap(
        self,
        pid: int,
        vpage: int,
        pfn: int,
        pages: int,
        memtype: MemType,
        *,
        via: str = "driver",
        private: bool = False,
        protection: str = "rw",
        part: tuple[int, int] | None = None,
        pieces: Sequence[tuple[int, int]] = (),
    ) -> Answer:
        """``mmap()`` of a file whose driver maps page frames.

        :param pid: The process id.
        :param vpage: Virtual address where it comes to lie, in pages.
        :param pfn: Number of the first page frame.
        :param pages: Number of pages.
        :param memtype: The type that is asked for.
        :param via: ``driver``: one that asks for any type, and sets ``vm_page_prot`` as most do.
            ``insert_pfn``: the same with ``vmf_insert_pfn()``. ``insert_pfn_pmd``: with
            ``vmf_insert_pfn_pmd()`` where it can be. ``insert_pfn_pud``: with ``vmf_insert_pfn_pud()`` where
            it can be, else as the one before. ``insert_page``, ``insert_pages``: with
            ``vm_insert_page()`` of RAM, or all at once. ``remap_vmalloc``: with
            ``remap_vmalloc_range()``, which does the same. ``iomap_memory``: the first, by
            ``vm_iomap_memory()``, which is ``io_remap_pfn_range()`` of all of a VMA (mm/memory.c).
            ``insert_mixed``: with ``vmf_insert_mixed()``, which looks types up as ``vmf_insert_pfn()`` does.
            ``dma_coherent``, ``dma_wc``: the first, by ``dma_mmap_coherent()`` and ``dma_mmap_wc()``.
            ``noncached_writecombine``: the first, by ``pgprot_writecombine(pgprot_noncached())``.
            ``sysfs``: drivers/pci/mmap.c. ``devmem``: drivers/char/mem.c, where WB is without O_SYNC and UC-
            with it.
        :param private: Is it a private mapping (MAP_PRIVATE)?
        :param protection: Letters of the accesses that are allowed, such as ``rw``; empty for PROT_NONE, with
            which an entry holds its type as with any other.
        :param part: Offset and number of the pages that ``remap_pfn_range()`` is called for; None for all.
        :param pieces: (page frame number, pages) of each piece that ``remap_pfn_range()`` is called for, one
            behind the other; none for one piece.
        """
        asked = memtype
        if via == "devmem":
            if self._has_ram(pfn, pages):
                return Answer(errno.EPERM)  # CONFIG_STRICT_DEVMEM
            if not self.platform.pat and self._behaviour[Topic.NOPAT_DSYNC] is Behaviour.WRITE_BACK:
                asked = MemType.WB
        elif via in ("dma_coherent", "dma_wc"):
            # On x86 every device is coherent, and dma_pgprot() gives back what it gets: kernel/dma/mapping.c.
            asked = MemType.WB
        elif via == "noncached_writecombine":
            if self._behaviour[Topic.WRITECOMBINE_OF_NONCACHED] is Behaviour.ORED:
                asked = MemType.UC
        elif via == "sysfs" and memtype is MemType.WC and not self.reservations.tracking:
            return Answer(errno.ENOENT)
        elif via == "sysfs" and "x" in protection:
            # Nothing in sysfs can be executed: fs/kernfs/mount.c, kernfs_fill_super(), SB_I_NOEXEC.
            return Answer(errno.EPERM)
        sizes = {"insert_pfn_pmd": (LARGE,), "insert_pfn_pud": (LARGER, LARGE)}.get(via, ())
        inserted = bool(sizes) or via in ("insert_pfn", "insert_mixed")
        if private and (sizes or via == "insert_pfn"):
            return Answer(errno.EINVAL)
        # What is asked for goes through page-table bits: pgprot2cachemode() in reserve_pfn_range().
        asked = self._express[asked]
        struct_pages = via in ("insert_page", "insert_pages", "remap_vmalloc")
        if struct_pages and not all(self.platform.is_ram(each) for each in range(pfn, pfn + pages)):
            return Answer(errno.EINVAL)
        file = via if via in ("sysfs", "devmem") else "driver"
        large = sizes if self._behaviour[Topic.HUGE_PFNMAP] is Behaviour.LARGE else ()
        vma = Vma(vpage, vpage + pages, pfn, file, private, protection, asked, faults=inserted, large=large)
        try:
            if inserted:
                self.processes.insert_later(pid, vma)
            elif struct_pages:
                self.processes.insert_pages(pid, vma)
            elif len(pieces) > 1:
                self.processes.remap_pieces(pid, vma, pieces)
            elif part is not None and part != (0, pages):
                self.processes.remap_part(pid, vma, *part)
            else:
                self.processes.remap(pid, vma, asked)
        except RefusedError as refused:
            return Answer(errno.EAGAIN if via == "devmem" else refused.errno)
        return Answer(0, self.user_page_table(pid, vpage, pages))

    def user_page_table(self, pid: int, vpage: int, pages: int) -> tuple[MemType | None, ...]:
        """The types in a process's page table, per page; None where nothing is mapped."""
        entries = self.processes.tables[pid]
        found = (entries.get(each) for each in range(vpage, vpage + pages))
        return tuple(None if entry is None else entry.memtype for entry in found)

    def memtype_list(self, pfn: int, pages: int) -> tuple[Reservation, ...]:
        """The lines of ``pat_memtype_list`` that overlap a range."""
        return self.reservations.overlapping(pfn, pfn + pages)
