"""Linux's memtypes: the reserved types of ranges of device memory, and the tags of RAM pages.

``memtype_reserve()`` and ``memtype_free()`` of arch/x86/mm/pat/memtype.c, and the search of
arch/x86/mm/pat/memtype_interval.c, the same from 5.10 to 7.3 but for the rows of
:mod:`pytest_memtype.spec.linux_versions`. Ranges are [first, end) in page frames.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from pytest_memtype.spec.linux_messages import Event, Message
from pytest_memtype.spec.linux_versions import Behaviour
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType

REFUSED_SUBSTITUTES = frozenset(
    {
        (MemType.UC_MINUS, MemType.WB),
        (MemType.WC, MemType.WB),
        (MemType.WT, MemType.WB),
        (MemType.WT, MemType.WC),
    }
)
"""(asked, got) that ``is_new_memtype_allowed()`` doesn't allow; arch/x86/include/asm/pgtable.h."""

_ISA_FIRST, _ISA_END = 0xA0, 0x100
"""``is_ISA_range()``: never tracked, always WB."""


@shown_in_hexadecimal("first", "end")
@dataclass(frozen=True)
class Reservation:
    """A reservation: a line of ``pat_memtype_list``."""

    first: int
    end: int
    memtype: MemType

    def overlaps(self, first: int, end: int) -> bool:
        return self.first < end and first < self.end


class RefusedError(Exception):
    """The kernel refuses a request.

    :ivar errno: The error's number, positive.
    :ivar substitute: Was something reserved, and refused because it had another type?
    """

    def __init__(self, number: int, *, substitute: bool = False) -> None:
        super().__init__(errno.errorcode[number])
        self.errno = number
        self.substitute = substitute


@dataclass
class Reservations:
    """The list of reservations, and the tags of RAM pages.

    :param tracking: Is ``pat_enabled()`` true? Nothing is recorded otherwise.
    :param free_behaviour: The version's behaviour in topic FREE.
    :param is_ram: Called with a page frame number: is it RAM, for ``walk_system_ram_range()``?
    :param is_write_back: Called with a page frame number: do the MTRRs say write-back of it?
    :ivar entries: In the kernel's order: ascending by ``first``, and of equals the older one first.
    :ivar tags: Types of RAM pages other than WB, by page frame number.
    :ivar said: What the kernel has logged, by whichever part of the model. A WARN is there each time.
    """

    tracking: bool
    free_behaviour: Behaviour
    is_ram: Callable[[int], bool]
    is_write_back: Callable[[int], bool]
    entries: list[Reservation] = field(default_factory=list)
    tags: dict[int, MemType] = field(default_factory=dict)
    said: list[Message] = field(default_factory=list)

    def say(
        self,
        event: Event,
        first: int | None = None,
        end: int | None = None,
        *,
        asked: MemType | None = None,
        held: tuple[MemType, ...] = (),
    ) -> None:
        """Log a message; the parameters are those of :class:`Message`."""
        self.said.append(Message(event, first, end, asked, held))

    def copied(self) -> Reservations:
        """A copy, which goes its own way."""
        return replace(self, entries=[*self.entries], tags={**self.tags}, said=[*self.said])

    def seed(self, entries: Iterable[Reservation]) -> None:
        """Replace the list by what the kernel has reserved already."""
        self.entries = sorted(entries, key=lambda entry: entry.first)

    def ram(self, first: int, end: int) -> bool | None:
        """``pat_pagerange_is_ram()``: True for RAM from the first page on, None for a hole before it.

        False is for a range without RAM. A hole behind the last RAM isn't seen:
        ``pagerange_is_ram_callback()`` is only called for RAM. Below 1 MiB nothing is RAM, but the walk that
        begins there begins with a hole.
        """
        reached, found = first, False
        for pfn in range(max(first, _ISA_END), end):
            if not self.is_ram(pfn):
                continue
            if pfn > reached:
                return None
            reached, found = pfn + 1, True
        return found

    def reserve(self, first: int, end: int, asked: MemType, *, substitute: bool = True) -> MemType:
        """Reserve the type of a range of page frames: ``memtype_reserve()``.

        :param first: Number of the first page frame.
        :param end: Number of the page frame behind the last.
        :param asked: The type that is asked for.
        :param substitute: Did the caller pass ``new_type``, to be told another type than it asked for?
        :returns: The type that is granted.
        :raises RefusedError: EBUSY, where another type is in use; EINVAL, where the range is empty or has a
            hole before its RAM, or for WP of RAM.
        """
        if first >= end:
            raise RefusedError(errno.EINVAL)
        if not self.tracking:
            return asked
        if first >= _ISA_FIRST and end <= _ISA_END:
            return MemType.WB
        # Only WB asks what the MTRRs say (pat_x_mtrr_type()); a mixture isn't write-back.
        memtype = asked
        if asked is MemType.WB and not all(self.is_write_back(pfn) for pfn in range(first, end)):
            memtype = MemType.UC_MINUS
        ram = self.ram(first, end)
        if ram is None:
            raise RefusedError(errno.EINVAL)
        if ram:
            return self._tag(first, end, asked)
        present = [entry.memtype for entry in self.entries if entry.overlaps(first, end)]
        first_type = present[0] if present and substitute else memtype
        other = next((each for each in present if each is not first_type), None)
        if other is not None:
            self.say(Event.CONFLICTING_TYPES, first, end, held=(first_type, other))
            # "track" is what would have been stored, which is what was asked for, but for the MTRRs.
            self.say(Event.RESERVE_FAILED, first, end, asked=asked, held=(memtype,))
            raise RefusedError(errno.EBUSY)
        memtype = present[0] if present else memtype
        self._insert(Reservation(first, end, memtype))
        return memtype

    def _tag(self, first: int, end: int, asked: MemType) -> MemType:
        """Tag RAM pages with a type: ``reserve_ram_pages_type()``, two page flags, no count."""
        if asked is MemType.WP:
            raise RefusedError(errno.EINVAL)
        if asked is MemType.UC:
            self.say(Event.UNCACHED_RAM)
        memtype = MemType.UC_MINUS if asked is MemType.UC else asked
        tag = next((self.tags[pfn] for pfn in range(first, end) if pfn in self.tags), None)
        if tag is not None:
            self.say(Event.RAM_RESERVE_FAILED, first, end, asked=memtype, held=(tag,))
            raise RefusedError(errno.EBUSY)
        for pfn in range(first, end):
            self._set_tag(pfn, memtype)
        return memtype

    def _set_tag(self, pfn: int, memtype: MemType) -> None:
        self.tags.pop(pfn, None)
        if memtype is not MemType.WB:
            self.tags[pfn] = memtype

    def reserve_for(self, first: int, end: int, asked: MemType, *, refusal: Event | None = None) -> MemType:
        """Reserve a type as for every mapping: ``memtype_reserve()``, then ``is_new_memtype_allowed()``.

        :param first: Number of the first page frame.
        :param end: Number of the page frame behind the last.
        :param asked: The type that is asked for.
        :param refusal: The message that the caller logs where that type may not stand in; None for none.
        :raises RefusedError: as :meth:`reserve`; EINVAL where the type in use may not stand in.
        """
        got = self.reserve(first, end, asked)
        if (asked, got) in REFUSED_SUBSTITUTES:
            if refusal is not None:
                self.say(refusal, first, end, asked=asked, held=(got,))
            self.free(first, end)
            raise RefusedError(errno.EINVAL, substitute=True)
        return got

    def free(self, first: int, end: int) -> None:
        """``memtype_free()``."""
        if not self.tracking or (first >= _ISA_FIRST and end <= _ISA_END):
            return
        ram = self.ram(first, end)
        if ram:
            for pfn in range(first, end):
                self.tags.pop(pfn, None)
        if ram is not False:
            return
        for entry in self.entries:
            if (entry.first, entry.end) == (first, end):
                self.entries.remove(entry)
                return
        for entry in self.entries if self.free_behaviour is Behaviour.EXACT_OR_TAIL else ():
            # MEMTYPE_END_MATCH: meant for mremap(), which shrinks a mapping at its end.
            if entry.first < first and entry.end == end:
                self.entries.remove(entry)
                self._insert(Reservation(entry.first, first, entry.memtype))
                return
        self.say(Event.FREEING_INVALID, first, end)

    def lookup(self, pfn: int) -> MemType:
        """``lookup_memtype()``: what a mapping that reserves nothing gets."""
        if _ISA_FIRST <= pfn < _ISA_END:
            return MemType.WB
        if self.ram(pfn, pfn + 1):
            return self.tags.get(pfn, MemType.WB)
        for entry in self.entries:
            if entry.overlaps(pfn, pfn + 1):
                return entry.memtype
        return MemType.UC_MINUS

    def overlapping(self, first: int, end: int) -> tuple[Reservation, ...]:
        """The reservations that overlap a range, in an order that doesn't depend on when they were made."""
        found = [entry for entry in self.entries if entry.overlaps(first, end)]
        return tuple(sorted(found, key=lambda entry: (entry.first, entry.end, entry.memtype)))

    def _insert(self, entry: Reservation) -> None:
        self.entries.append(entry)
        self.entries.sort(key=lambda each: each.first)
