"""The reference model of the verifier, as its specification has it: one dictionary entry per page.

Source: "solving page table access attribute aliasing", LKML, 30 August 2005. Nothing here is fast, and
nothing here was taken from ``guests/module/verifier.c``, which it judges. A range is always (pfn, pages),
``pages`` of 4 KiB from page frame ``pfn`` on; large pages count as the 4 KiB pages they cover.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace

from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT


@shown_in_hexadecimal("pfn", "address")
@dataclass(frozen=True)
class Request:
    """A request to map some pages.

    :param pfn: Number of the first page frame.
    :param owner: Name of the driver or process.
    :param pid: Id of the process, 0 for a kernel mapping.
    :param address: Virtual address of the first page in the process, 0 for a kernel mapping.
    """

    pfn: int
    pages: int
    memtype: MemType
    owner: str
    pid: int = 0
    address: int = 0

    @property
    def user(self) -> bool:
        return self.pid != 0


@shown_in_hexadecimal("pfn", "address")
@dataclass(frozen=True)
class TrackedPage:
    """A page of a tracked mapping.

    :param pfn: Its page frame number.
    :param address: Virtual address of this very page in the process, 0 for a kernel mapping.
    """

    pfn: int
    memtype: MemType
    owner: str
    pid: int = 0
    address: int = 0

    @property
    def user(self) -> bool:
        return self.pid != 0


@dataclass(frozen=True)
class Verdict:
    """The verifier's verdict on a request.

    :param rule: The broken rule, None when accepted: ``malformed``, ``impossible``, ``ram-not-wb``,
        ``alias``, ``exclusive``, ``smram``.
    :param errno: Positive, 0 when accepted.
    :param conflicts: Every page of every mapping in the way, ascending by page frame, for ``alias`` and
        ``exclusive``. An implementation names the mapping of one of those on the lowest page frame.
    :param hazards: What is to be reported beside an acceptance.
    """

    rule: str | None = None
    errno: int = 0
    conflicts: tuple[TrackedPage, ...] = ()
    hazards: frozenset[str] = frozenset()

    @property
    def accepted(self) -> bool:
        return self.rule is None


@dataclass(frozen=True)
class Lookup:
    """The verifier's answer to "give me whatever type is in use".

    :param memtype: None when ``errno`` isn't 0.
    :param in_use: False when ``memtype`` is the default for memory that nothing maps.
    :param errno: EBUSY when the pages in use differ, EINVAL when the range is malformed.
    """

    memtype: MemType | None
    in_use: bool = False
    errno: int = 0


class NotTrackedError(LookupError):
    """A release of what isn't tracked; nothing was released.

    :ivar page: The first page that isn't.
    """

    def __init__(self, page: TrackedPage) -> None:
        whose = f"process {page.owner} at {page.address:#x}" if page.user else f"driver {page.owner}"
        super().__init__(f"{page.memtype} mapping of page frame {page.pfn:#x} by {whose} isn't tracked")
        self.page = page


def _no_hazards(_pfn: int, _pages: int, _memtype: MemType) -> frozenset[str]:
    return frozenset()


def _no_smram(_pfn: int) -> MemType | None:
    return None


def _as_asked(_pfn: int, memtype: MemType) -> MemType | None:
    return memtype


@dataclass(frozen=True)
class Machine:
    """The architecture, as far as the verifier asks for it.

    :param physical_bits: The CPU's physical address width, in bits.
    :param possible: Called anew for every request: the types that the PAT register can express.
    :param is_ram: Called with a page frame number: does it have a struct page?
    :param default: Called with (pfn, pages): the type of memory that nothing maps.
    :param hazards: Called with (pfn, pages, memtype): what is to be reported beside its acceptance.
    :param smram: Called with a page frame number: the type SMM uses for it if it is SMRAM; None when it is no
        SMRAM or open to all.
    :param effective: Called with a page frame number and a page attribute: the type that comes of its MTRRs
        and that attribute together, as outside of SMM; None where the manuals leave it undefined.
    """

    physical_bits: int
    possible: Callable[[], Collection[MemType]]
    is_ram: Callable[[int], bool]
    default: Callable[[int, int], MemType]
    hazards: Callable[[int, int, MemType], frozenset[str]] = _no_hazards
    smram: Callable[[int], MemType | None] = _no_smram
    effective: Callable[[int, MemType], MemType | None] = _as_asked


@dataclass
class Verifier:
    """The model of ``verify_pfn_mapping()`` and ``lookup_pfn_memtype()``, and the mappings they go by.

    :ivar one_ioremap: Policy: a page has at most one kernel mapping.
    :ivar pages: For each page frame number its mappings, with how many times each. No entry: not mapped.
    """

    machine: Machine
    one_ioremap: bool = False
    pages: dict[int, Counter[TrackedPage]] = field(default_factory=dict)

    def verify(self, request: Request) -> Verdict:
        """Judge a request by the rules. Changes nothing.

        The rules are applied in the order of their numbers, each to every page.
        """
        if not self._sane(request.pfn, request.pages):
            return Verdict("malformed", errno.EINVAL)
        if request.memtype not in self.machine.possible():
            return Verdict("impossible", errno.EOPNOTSUPP)
        frames = range(request.pfn, request.pfn + request.pages)
        if request.memtype is not MemType.WB and any(self.machine.is_ram(pfn) for pfn in frames):
            return Verdict("ram-not-wb", errno.EPERM)
        mapped = [page for pfn in frames for page in self.pages.get(pfn, ())]
        aliases = [
            page
            for page in mapped
            if not self.machine.is_ram(page.pfn) and page.memtype is not request.memtype
        ]
        if aliases:
            return Verdict("alias", errno.EBUSY, tuple(aliases))
        kernels = [page for page in mapped if not page.user]
        if self.one_ioremap and not request.user and kernels:
            return Verdict("exclusive", errno.EBUSY, tuple(kernels))
        if any(not self._as_smm_uses_it(pfn, request.memtype) for pfn in frames):
            return Verdict("smram", errno.EPERM)
        return Verdict(hazards=self.machine.hazards(request.pfn, request.pages, request.memtype))

    def track(self, request: Request) -> Verdict:
        """Judge a request, and count its mapping if it is accepted; a refused one leaves no trace."""
        verdict = self.verify(request)
        if verdict.accepted:
            self.adopt(request)
        return verdict

    def adopt(self, request: Request) -> None:
        """Count a mapping that exists, whatever the rules say: seeded from the kernel's list, or observed."""
        for page in pages_of(request):
            self._add(page)

    def release(self, request: Request) -> None:
        """Stop counting the pages of a mapping, or of a part of one.

        :param request: The mapping or part, with the owner, type and address that it was tracked with.
        :raises NotTrackedError: a page isn't tracked for that owner with that type and address.
        """
        for page in pages_of(request):
            if page not in self.pages.get(page.pfn, ()):
                raise NotTrackedError(page)
        for page in pages_of(request):
            self._remove(page)

    def lookup(self, pfn: int, pages: int) -> Lookup:
        """``lookup_pfn_memtype()``: pages that nothing maps don't count where others are mapped."""
        if not self._sane(pfn, pages):
            return Lookup(None, errno=errno.EINVAL)
        types = {page.memtype for page in self.tracked(pfn, pages)}
        if len(types) > 1:
            return Lookup(None, errno=errno.EBUSY)
        if types:
            return Lookup(types.pop(), in_use=True)
        return Lookup(self.machine.default(pfn, pages))

    def fork(self, parent: int, child: int, owner: str) -> None:
        """Give the process ``child``, called ``owner``, all that ``parent`` has, at the same addresses."""
        for page in list(self._user(parent).elements()):
            self._add(replace(page, pid=child, owner=owner))

    def unmap(self, pid: int, address: int, pages: int) -> None:
        """Stop counting what a process has at some addresses, if anything: munmap(), or mmap() over them."""
        end = address + pages * PAGE_SIZE
        for page in list(self._user(pid).elements()):
            if address <= page.address < end:
                self._remove(page)

    def move(self, pid: int, old: int, pages: int, new: int) -> None:
        """Move what a process has to other addresses, in place of what was there: mremap()."""
        end = old + pages * PAGE_SIZE
        moved = [page for page in self._user(pid).elements() if old <= page.address < end]
        for page in moved:
            self._remove(page)
        self.unmap(pid, new, pages)
        for page in moved:
            self._add(replace(page, address=page.address - old + new))

    def exit(self, pid: int) -> None:
        """Stop counting all that a process has: it is gone, or has become another program."""
        for page in list(self._user(pid).elements()):
            self._remove(page)

    def tracked(self, pfn: int | None = None, pages: int = 0) -> Counter[TrackedPage]:
        """The tracked pages of all mappings, or those of a range, counted.

        The count of a page is its number of mappings: two implementations track the same if these are
        equal, however each cuts them into records.

        :param pfn: Number of the first page frame of the range; None for all.
        :param pages: Number of pages of the range.
        """
        frames = self.pages if pfn is None else range(pfn, pfn + pages)
        return Counter(page for each in frames for page in self.pages.get(each, Counter()).elements())

    def references(self, pfn: int) -> int:
        """How many mappings a page frame has."""
        return self.pages.get(pfn, Counter()).total()

    def _sane(self, pfn: int, pages: int) -> bool:
        return pages > 0 and pfn >= 0 and pfn + pages <= 1 << (self.machine.physical_bits - PAGE_SHIFT)

    def _as_smm_uses_it(self, pfn: int, memtype: MemType) -> bool:
        theirs = self.machine.smram(pfn)
        return theirs is None or self.machine.effective(pfn, memtype) is theirs

    def _user(self, pid: int) -> Counter[TrackedPage]:
        return Counter({page: n for page, n in self.tracked().items() if page.user and page.pid == pid})

    def _add(self, page: TrackedPage) -> None:
        self.pages.setdefault(page.pfn, Counter())[page] += 1

    def _remove(self, page: TrackedPage) -> None:
        mappings = self.pages[page.pfn]
        mappings[page] -= 1
        if not mappings[page]:
            del mappings[page]
        if not mappings:
            del self.pages[page.pfn]


def pages_of(request: Request) -> Iterator[TrackedPage]:
    """The pages of a range that has one type and one owner: of a request, or of a record."""
    for index in range(request.pages):
        address = request.address + index * PAGE_SIZE if request.user else 0
        yield TrackedPage(request.pfn + index, request.memtype, request.owner, request.pid, address)
