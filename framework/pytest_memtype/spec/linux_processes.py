"""Processes' mappings of page frames in Linux: VMAs, page tables, and who frees which reservation.

mm/memory.c, mm/mmap.c (mm/vma.c from 6.11), mm/mremap.c, kernel/fork.c. A process is its pid, a virtual
address is counted in pages ("vpage"). Only mappings of page frames are modelled: VM_PFNMAP VMAs never merge
and never grow.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace

from pytest_memtype.spec.linux_messages import Event
from pytest_memtype.spec.linux_reservations import RefusedError, Reservations
from pytest_memtype.spec.linux_versions import Behaviour, Topic
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType

SIGBUS, SIGSEGV = 7, 11

LARGE = 512
"""Pages of 4 KiB in one of 2 MiB."""

LARGER = 512 * LARGE
"""Pages of 4 KiB in one of 1 GiB."""


def in_large_entry(memtype: MemType) -> MemType:
    """The type that a large entry has which was made of a small one's protection: without its PAT bit.

    Bit 7 is the PAT bit of a small entry, and says "large" of a large one, whose PAT bit is bit 12. Linux'
    PAT has WT in slot 7 and WP in slot 5; what is left of them are slots 3 and 1: UC and WC.
    ``vmf_insert_pfn_pmd()`` and ``vmf_insert_pfn_pud()`` (mm/huge_memory.c) and the direct map
    (arch/x86/mm/init_64.c, ``phys_pmd_init()``) do so, 5.10 to 7.3.
    """
    return {MemType.WT: MemType.UC, MemType.WP: MemType.WC}.get(memtype, memtype)


@shown_in_hexadecimal("first", "end")
@dataclass
class Context:
    """A reservation that VMAs share, and how many do: ``struct pfnmap_track_ctx``, 6.16 on.

    :param first: Number of the first page frame.
    :param end: Number of the page frame behind the last.
    """

    first: int
    end: int
    references: int = 0


@shown_in_hexadecimal("first", "end", "pfn")
@dataclass
class Vma:
    """A VMA with VM_PFNMAP: a process's mapping of page frames.

    :param first: Virtual address of its first page, in pages.
    :param end: Virtual address behind its last page, in pages.
    :param pfn: Page frame number of its first page; ``vm_pgoff`` says the same.
    :param file: The file it maps, by any name.
    :param page_prot: The type in ``vm_page_prot``, which a page gets that is copied on write.
    :param faults: Are pages inserted when they are touched, by ``vmf_insert_pfn()`` or its like?
    :param large: How many pages are inserted at a time where they are aligned, the most first: 2 MiB by
        ``vmf_insert_pfn_pmd()``, 1 GiB by ``vmf_insert_pfn_pud()``.
    :param pat: Is the flag VM_PAT set? Before 6.16.
    :param context: The reservation that it shares, from 6.16 on; None without one.
    """

    first: int
    end: int
    pfn: int
    file: str
    private: bool
    protection: str
    page_prot: MemType
    faults: bool = False
    large: tuple[int, ...] = ()
    pat: bool = False
    context: Context | None = None


@shown_in_hexadecimal("pfn")
@dataclass(frozen=True)
class Entry:
    """A page-table entry of a process.

    :param memtype: The type in the entry.
    :param pfn: Page frame number; None for an anonymous page: one that was copied on write.
    """

    memtype: MemType
    pfn: int | None


@dataclass
class Processes:
    """The processes of a modelled kernel, with their VMAs and page tables.

    :param express: The type that the page table holds for each type that is asked for.
    :param vmas: The VMAs of each process, by pid.
    :param tables: The entries of each process, by pid and virtual address in pages.
    """

    reservations: Reservations
    behaviour: dict[Topic, Behaviour]
    express: dict[MemType, MemType]
    vmas: dict[int, list[Vma]] = field(default_factory=dict)
    tables: dict[int, dict[int, Entry]] = field(default_factory=dict)

    def copied(self, reservations: Reservations) -> Processes:
        """A copy, which goes its own way.

        :param reservations: The copy's.
        """
        contexts: dict[int, Context] = {}

        def copied(vma: Vma) -> Vma:
            if vma.context is None:
                return copy(vma)
            context = contexts.setdefault(id(vma.context), copy(vma.context))
            return replace(vma, context=context)

        return replace(
            self,
            reservations=reservations,
            vmas={pid: [copied(vma) for vma in vmas] for pid, vmas in self.vmas.items()},
            tables={pid: {**entries} for pid, entries in self.tables.items()},
        )

    @property
    def _shared(self) -> bool:
        return self.behaviour[Topic.USER_RESERVATION] is Behaviour.SHARED

    def start(self, pid: int) -> None:
        """Start a process without mappings."""
        self.vmas[pid] = []
        self.tables[pid] = {}

    def remap(self, pid: int, vma: Vma, asked: MemType) -> None:
        """``remap_pfn_range()`` of a whole new VMA.

        :param pid: The process id.
        :param vma: The new VMA.
        :param asked: The type that is asked for.
        :raises RefusedError: EINVAL, where that can't be reserved.
        """
        granted = self._track(vma, asked)
        self.vmas[pid].append(vma)
        for vpage in range(vma.first, vma.end):
            self.tables[pid][vpage] = Entry(self.express[granted], vma.pfn + vpage - vma.first)

    def insert_later(self, pid: int, vma: Vma) -> None:
        """Add a VMA whose pages come by ``vmf_insert_pfn()``: nothing is reserved, nothing mapped yet."""
        self.vmas[pid].append(vma)

    def insert_pages(self, pid: int, vma: Vma) -> None:
        """``vm_insert_page()`` of each page of a new VMA: the type in ``vm_page_prot``, whatever they have.

        Nothing is looked up or reserved: mm/memory.c, ``insert_page_into_pte_locked()``, 5.10 to 7.3.
        """
        self.vmas[pid].append(vma)
        for vpage in range(vma.first, vma.end):
            self.tables[pid][vpage] = Entry(vma.page_prot, vma.pfn + vpage - vma.first)

    def remap_part(self, pid: int, vma: Vma, first: int, pages: int) -> None:
        """``remap_pfn_range()`` of some pages of a new VMA: the type is looked up, nothing is reserved.

        :param pid: The process id.
        :param vma: The new VMA.
        :param first: Offset of the first page within the VMA, in pages.
        :param pages: Number of pages.
        :raises RefusedError: EINVAL: the pages' types differ, or the mapping is private.
        """
        pfns = range(vma.pfn + first, vma.pfn + first + pages)
        types = {self._looked_up(pfn, vma) for pfn in pfns}
        if vma.private or len(types) > 1:
            raise RefusedError(errno.EINVAL)
        self.vmas[pid].append(vma)
        for pfn in pfns:
            self.tables[pid][vma.first + pfn - vma.pfn] = Entry(self.express[min(types)], pfn)

    def remap_pieces(self, pid: int, vma: Vma, pieces: Sequence[tuple[int, int]]) -> None:
        """``remap_pfn_range()`` of several pieces of memory in a new VMA: each is a part of it.

        :param pid: The process id.
        :param vma: The new VMA.
        :param pieces: (page frame number, pages) of each.
        :raises RefusedError: EINVAL: a piece's pages' types differ, or the mapping is private.
        """
        entries: dict[int, Entry] = {}
        vpage = vma.first
        for pfn, pages in pieces:
            types = {self._looked_up(each, vma) for each in range(pfn, pfn + pages)}
            if vma.private or len(types) > 1:
                raise RefusedError(errno.EINVAL)
            for each in range(pages):
                entries[vpage + each] = Entry(self.express[min(types)], pfn + each)
            vpage += pages
        self.vmas[pid].append(vma)
        self.tables[pid] |= entries

    def _looked_up(self, pfn: int, vma: Vma) -> MemType:
        """The type of a page that reserves nothing, as it is looked up.

        ``track_pfn_insert()``, ``pfnmap_setup_cachemode()`` from 6.16 on.
        """
        return self.reservations.lookup(pfn) if self.reservations.tracking else vma.page_prot

    def _track(self, vma: Vma, asked: MemType) -> MemType:
        first, end = vma.pfn, vma.pfn + vma.end - vma.first
        try:
            granted = self._reserve(first, end, asked)
        except RefusedError:
            raise RefusedError(errno.EINVAL) from None
        if self._shared:
            vma.context = Context(first, end, references=1)
        else:
            vma.pat = True
        return granted

    def _reserve(self, first: int, end: int, asked: MemType, *, strict: bool = False) -> MemType:
        """Reserve the type of page frames for a VMA: ``reserve_pfn_range()``."""
        # "if (is_ram)" is also true of -1, a range that is RAM in part: the first page decides, nothing is
        # reserved.
        if self.reservations.ram(first, end) is not False:
            if not self.reservations.tracking:
                return asked
            tag = self.reservations.lookup(first)
            if tag is not asked:
                self.reservations.say(Event.USER_RAM, first, end, asked=asked, held=(tag,))
            return tag
        granted = self.reservations.reserve_for(first, end, asked, refusal=Event.USER_REFUSED)
        if strict and granted is not asked:
            self.reservations.say(Event.USER_REFUSED, first, end, asked=asked, held=(granted,))
            self.reservations.free(first, end)
            raise RefusedError(errno.EINVAL)
        return granted

    def _free(self, first: int, end: int) -> None:
        """Free the reservation of page frames of a VMA: ``free_pfn_range()``."""
        if self.reservations.ram(first, end) is False:
            self.reservations.free(first, end)

    def _untrack(self, vma: Vma) -> None:
        """Free the reservation of all of a VMA: ``untrack_pfn()``."""
        if vma.pat:
            self._free(vma.pfn, vma.pfn + vma.end - vma.first)
            vma.pat = False

    def _drop(self, pid: int, vma: Vma) -> None:
        """Remove a VMA of a process: its pages, then itself."""
        self._untrack(vma)
        for vpage in range(vma.first, vma.end):
            self.tables[pid].pop(vpage, None)
        self.vmas[pid].remove(vma)
        if vma.context is not None:
            vma.context.references -= 1
            if not vma.context.references:
                self._free(vma.context.first, vma.context.end)

    def _split(self, pid: int, vpage: int) -> None:
        """Split the VMA that has an address inside: ``split_vma()``."""
        for vma in self.vmas[pid]:
            if vma.first < vpage < vma.end:
                upper = replace(vma, first=vpage, pfn=vma.pfn + vpage - vma.first)
                vma.end = vpage
                self.vmas[pid].append(upper)
                if upper.context is not None:
                    upper.context.references += 1
                return

    def _within(self, pid: int, first: int, end: int) -> list[Vma]:
        """The VMAs of a process that overlap a range, ascending by address."""
        found = [vma for vma in self.vmas[pid] if vma.first < end and first < vma.end]
        return sorted(found, key=lambda vma: vma.first)

    def munmap(self, pid: int, first: int, end: int) -> int:
        """``munmap()``: 0; what isn't mapped is no error."""
        self._split(pid, first)
        self._split(pid, end)
        doomed = self._within(pid, first, end)
        for vma in doomed:
            self._drop(pid, vma)
        return 0

    def mprotect(self, pid: int, first: int, end: int, protection: str) -> int:
        """``mprotect()``: 0, or ENOMEM at the first address that isn't mapped; what lies below is changed.

        The entries keep their type, also with PROT_NONE: arch/x86/include/asm/pgtable.h, ``pte_modify()``.
        """
        reached = first
        for vma in self._within(pid, first, end):
            if vma.first > reached:
                return errno.ENOMEM
            reached = vma.end
            # Not executable from the start: no VM_MAYEXEC.
            if vma.file == "sysfs" and "x" in protection:
                return errno.EACCES
            if set(vma.protection) == set(protection):
                continue
            # VM_PFNMAP VMAs are never merged again (VM_SPECIAL).
            # A VMA further up that has the protection already isn't split.
            self._split(pid, max(first, vma.first))
            self._split(pid, min(end, reached))
            for part in self._within(pid, max(first, vma.first), min(end, reached)):
                part.protection = protection
        return 0 if reached >= end else errno.ENOMEM

    def mremap(self, pid: int, first: int, pages: int, new_pages: int, new: int | None) -> int:
        """``mremap()``: 0, or the errno.

        :param pid: The process id.
        :param first: Virtual address of the range, in pages.
        :param pages: Its length in pages.
        :param new_pages: Its new length in pages.
        :param new: Virtual address to move it to, in pages, which must be free; None leaves it in place.
        """
        if new_pages < 1:
            return errno.EINVAL
        kept = min(pages, new_pages)
        vmas = self._within(pid, first, first + kept)
        there = bool(vmas) and vmas[0].first <= first
        if not there and self.behaviour[Topic.MREMAP_NOTHING] is Behaviour.REFUSED:
            return errno.EFAULT
        within_one = there and first + kept <= vmas[0].end
        several = self.behaviour[Topic.MREMAP_SEVERAL] is Behaviour.MOVED
        if several and new is not None and not within_one and new_pages != pages:
            return errno.EFAULT
        if new_pages < pages:
            self.munmap(pid, first + kept, first + pages)
        # VM_PFNMAP can't grow.
        if new_pages > pages:
            return errno.EFAULT
        if new is None:
            return 0
        if not within_one and not several:
            return errno.EFAULT
        for vma in self._within(pid, first, first + kept):
            start, end = max(vma.first, first), min(vma.end, first + kept)
            self._move(pid, vma, start, end, start - first + new)
        return 0

    def _move(self, pid: int, vma: Vma, first: int, end: int, new: int) -> None:
        """Move a part of a VMA to another address: ``move_vma()``."""
        moved = replace(vma, first=new, end=new + end - first, pfn=vma.pfn + first - vma.first)
        if moved.context is not None:
            moved.context.references += 1
        # untrack_pfn_moved(): the flag goes from the whole old VMA, also from what stays of it (before 6.16).
        vma.pat = False
        table = self.tables[pid]
        entries = {vpage: table.pop(vpage) for vpage in range(first, end) if vpage in table}
        self.munmap(pid, first, end)
        self.vmas[pid].append(moved)
        table.update({vpage - first + new: entry for vpage, entry in entries.items()})

    def zap(self, file: str, first: int, end: int) -> None:
        """``unmap_mapping_range()`` of page frames [first, end) of a file, in all processes."""
        every = [(pid, vma) for pid, vmas in self.vmas.items() for vma in vmas]
        # The file's interval tree has them by vm_pgoff (mm/interval_tree.c, 5.10 to 7.3).
        for pid, vma in sorted(every, key=lambda each: each[1].pfn):
            begin = max(first, vma.pfn)
            stop = min(end, vma.pfn + vma.end - vma.first)
            if vma.file != file or begin >= stop:
                continue
            # unmap_single_vma() untracks the whole VMA, whatever part of it is zapped.
            self._untrack(vma)
            for pfn in range(begin, stop):
                self.tables[pid].pop(vma.first + pfn - vma.pfn, None)

    def access(self, pid: int, vpage: int, *, write: bool) -> int:
        """Read or write a page of a process: 0, or the number of the signal."""
        vma = next(iter(self._within(pid, vpage, vpage + 1)), None)
        # PROT_WRITE or PROT_EXEC alone lets a process read (arch/x86/mm/fault.c, access_error()); PROT_EXEC
        # doesn't on a CPU with protection keys (mm/mmap.c, execute_only_pkey()), which qemu64 isn't.
        if vma is None or not vma.protection or (write and "w" not in vma.protection):
            return SIGSEGV
        entry = self.tables[pid].get(vpage)
        if entry is None:
            if not vma.faults:
                return SIGBUS
            self._insert(pid, vma, vpage)
            entry = self.tables[pid][vpage]
        if write and vma.private and entry.pfn is not None:
            # wp_page_copy(): mk_pte(page, vma->vm_page_prot), so RAM gets the type meant for the device.
            self.tables[pid][vpage] = Entry(self.express[vma.page_prot], None)
        return 0

    def _insert(self, pid: int, vma: Vma, vpage: int) -> None:
        """Insert the page that was touched, or the large one around it."""
        for pages in vma.large:
            start = vpage - vpage % pages
            first = vma.pfn + start - vma.first
            if vma.first <= start and start + pages <= vma.end and first % pages == 0:
                memtype = in_large_entry(self.express[self._looked_up(first, vma)])
                self.tables[pid] |= {start + n: Entry(memtype, first + n) for n in range(pages)}
                return
        pfn = vma.pfn + vpage - vma.first
        self.tables[pid][vpage] = Entry(self.express[self._looked_up(pfn, vma)], pfn)

    def fork(self, parent: int, child: int, *, memory: bool = True) -> int:
        """``fork()``: 0, or ENOMEM, after which there is no child.

        :param parent: The process id.
        :param child: The process id of the new process.
        :param memory: Is there memory for the child's page tables? Else it fails with the first of them.
        """
        self.start(child)
        for vma in sorted(self.vmas[parent], key=lambda each: each.first):
            copy = replace(vma, pat=False)
            self.vmas[child].append(copy)
            if copy.context is not None:
                copy.context.references += 1
            if vma.pat:
                try:
                    self._track_copy(parent, vma)
                except RefusedError:
                    self._fail(child, copy)
                    return errno.ENOMEM
                copy.pat = True
            if not memory and any(vpage in self.tables[parent] for vpage in range(vma.first, vma.end)):
                self._fail_after_tracking(child, copy)
                return errno.ENOMEM
            for vpage in range(vma.first, vma.end):
                if vpage in self.tables[parent]:
                    self.tables[child][vpage] = self.tables[parent][vpage]
        return 0

    def _track_copy(self, parent: int, vma: Vma) -> None:
        """``track_pfn_copy()``: the type is read from the first page, and has to be got again exactly."""
        entry = self.tables[parent].get(vma.first)
        if entry is None or entry.pfn is None:
            if not vma.private:
                self.reservations.say(Event.NO_FIRST_PAGE)
            raise RefusedError(errno.EINVAL)
        self._reserve(vma.pfn, vma.pfn + vma.end - vma.first, entry.memtype, strict=True)

    def _fail(self, child: int, copy: Vma) -> None:
        # The child's VMA is a copy with VM_PAT still set, and is untracked with the rest. Its page table is
        # empty: a private mapping's page frame is then taken from vm_pgoff, a shared one's can't be had.
        inherited = self.behaviour[Topic.FAILED_FORK] is Behaviour.PARENTS
        if inherited and not copy.private:
            self.reservations.say(Event.NO_FIRST_PAGE)
        copy.pat = inherited and copy.private
        self.exit(child)

    def _fail_after_tracking(self, child: int, copy: Vma) -> None:
        # The child has a reservation of its own by then, which goes as in _fail(); since the fix
        # untrack_pfn_copy() frees it.
        if copy.pat and not copy.private and self.behaviour[Topic.FAILED_FORK] is Behaviour.PARENTS:
            self.reservations.say(Event.NO_FIRST_PAGE)
            copy.pat = False
        self.exit(child)

    def exit(self, pid: int) -> None:
        """End a process: it exits, is killed, or executes another program."""
        for vma in sorted(self.vmas[pid], key=lambda each: each.first):
            self._drop(pid, vma)
        del self.vmas[pid], self.tables[pid]
