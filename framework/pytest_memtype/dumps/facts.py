"""The facts that a text carries about a machine, its kernel and its memory types.

Every fact was read: a field is None, or empty, where the text doesn't say. Addresses are physical, and ranges
name their first and last byte, whatever the text's own habit is (``/sys/kernel/debug/x86/pat_memtype_list``
and ``conflicting memory types`` give an end that is exclusive). Lines are counted from 1, in the text as it
was given.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from pytest_memtype.dumps.cpu_facts import Cpu
from pytest_memtype.dumps.kernel_facts import Kernel
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType


class Kind(enum.Enum):
    """The kinds of messages that a kernel complains with, each called by its own words."""

    CONFLICTING_TYPES = "conflicting memory types"
    """The range has two types already: ``held`` is the pair. The addresses are the request's."""
    RESERVE_FAILED = "memtype_reserve failed"
    """``asked`` is what was asked for; ``granted`` is the kernel's word "track", which may be unchanged."""
    RESERVED = "memtype_reserve added"
    """With debugpat, and no complaint: ``asked``, and the type that was ``granted``. They differ where the
    memory had another type, which is ``held`` then (for write-back the MTRRs may be why, and nothing is)."""
    FREED = "memtype_free request"
    """With debugpat, and no complaint: what was given back."""
    RAM_RESERVE_FAILED = "reserve_ram_pages_type failed"
    """A page of RAM isn't write-back any more: ``held`` is its tag."""
    FREEING_INVALID = "freeing invalid memtype"
    """Nothing is reserved that the range could free."""
    USER_REFUSED = "map pfn expected mapping type"
    """A process's mapping is refused: ``asked`` for one type, and another is ``held``."""
    DEVMEM_TYPE = "/dev/mem expected mapping type"
    """Until 2.6.29: a mapping of /dev/mem is ``asked`` in the page table, while the reservation has another
    type, which is ``held`` by somebody (or, where write-back was asked for, may be the MTRRs')."""
    USER_RAM = "map pfn RAM range req"
    """RAM in a process: it is mapped, but as ``granted`` (which is ``held``) and not as ``asked``."""
    IOREMAP_REFUSED = "ioremap error"
    IOREMAP_FAILED = "ioremap memtype_reserve failed"
    """The error number is in ``errno``; the text has no addresses."""
    IOREMAP_ON_RAM = "ioremap on RAM"
    IOREMAP_BEYOND = "ioremap: invalid physical address"
    MEMREMAP_ON_RAM = "memremap attempted on ram"
    MEMREMAP_MIXED = "memremap attempted on mixed range"
    CHANGE_FAILED = "ioremap_change_attr failed"
    """The direct map of the range couldn't get the type ``asked``."""
    DEVMEM_REFUSED = "tried to access /dev/mem"
    SANITY = "resource sanity check"
    """A driver's mapping is partly in a resource, which is ``other``, and reaches beyond it."""
    HUGE_PAGE = "huge-page mapping due to MTRR override"

    MTRR_MISMATCH = "mtrr: type mismatch"
    """A register was to be added: ``asked`` for the range, ``held`` by another register."""
    MTRR_OVERLAP = "mtrr: overlaps existing"
    """The register that is there is ``other``."""
    MTRR_FULL = "mtrr: no more MTRRs available"
    MTRR_UNALIGNED = "mtrr: not aligned"
    MTRR_REFUSED = "mtrr: refused"
    MTRR_NO_WC = "mtrr: your processor doesn't support write-combining"
    """For want of it in the CPU, or of trust in the chipset."""
    MTRR_NOT_REMOVED = "mtrr: no MTRR found"
    """A register was to be given back, and isn't in use."""
    MTRR_WC_FAILED = "failed to add a write-combining MTRR"
    """A driver's words for it."""
    MTRR_INCONSISTENT = "mtrr: your CPUs had inconsistent settings"
    """The CPUs' registers differed when they came up."""
    MTRR_BAD_MASK = "mtrr: your BIOS has set up an incorrect mask"
    MTRR_MODIFIABLE = "mtrr: MtrrFixDramModEn not cleared by BIOS"
    """A bit of AMD's that firmware sets while it writes the fixed ranges."""
    MTRR_CLEANUP_FAILED = "mtrr_cleanup: can not find optimal value"
    MTRR_CLEANED = "mtrr_cleanup: found optimal setting"
    MTRR_LOSES_RAM = "CPU MTRRs don't cover all of memory"
    MTRR_BLANK = "CPU MTRRs all blank"
    MTRR_OFF = "MTRRs disabled"
    """The MTRRs are off, or the CPU has none."""

    PAT_SKIPPED = "MTRRs disabled, skipping PAT initialization too"
    PAT_ABSENT = "PAT not supported by the CPU"
    PAT_DISABLED = "PAT support disabled"
    """By the command line (nopat), or for another reason that the line says."""

    FWTS = "mtrr: fwts' finding"
    """Memory of ``/proc/iomem`` that has types which the firmware test suite doesn't expect there (``held``),
    or lacks one that it does (``asked``), by ``/proc/mtrr``."""

    CPA = "CPA"
    """A change of page attributes that met something unexpected."""
    WARNING = "WARNING"
    """A WARN in a function that has to do with memory types: ``function`` and ``trace``."""
    BUG = "kernel BUG"
    """A BUG in a function that has to do with memory types, which ends the process."""


@dataclass(frozen=True)
class Line:
    """A line of the text.

    :param number: From 1.
    :param text: As it was given, without what a terminal would obey; at most 400 characters.
    """

    number: int
    text: str


@shown_in_hexadecimal("start", "end")
@dataclass(frozen=True)
class Span:
    """A range of physical addresses.

    :param start: The first byte.
    :param end: The last byte, itself part of the range.
    :param name: The text's word for it: ``PCI Bus 0000:00``, ``usable``; empty without.
    """

    start: int
    end: int
    name: str = ""

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.end - self.start + 1

    def overlaps(self, other: Span) -> bool:
        """Whether the two have a byte in common."""
        return self.start <= other.end and other.start <= self.end

    def contains(self, other: Span) -> bool:
        """Whether all of another range lies in this one."""
        return self.start <= other.start and other.end <= self.end

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end:#x}"


@shown_in_hexadecimal("address")
@dataclass(frozen=True)
class Complaint:
    """A message of the kernel's about memory types. Lines of the same words one after the other are one.

    :param kind: See :class:`Kind`, which says what the types mean.
    :param line: Where it is; the first of the lines if there are several.
    :param raw: Its line without the prefixes of printk, the journal and mail.
    :param time: Seconds since the boot, if its line has them.
    :param span: The range in question; None where the line has none.
    :param asked: The type that was asked for.
    :param held: The type, or types, that the range has already. For two, which part has which isn't said.
    :param granted: The type that was given all the same.
    :param process: The name of the process that was running: 15 characters at most. It may be an innocent
        one, if an interrupt or a worker of the kernel's did it.
    :param pid: Its number.
    :param caller: The function that the line names as the caller, such as ``snb_uncore_imc_init_box``.
    :param function: The function of a WARNING or a BUG, without offset.
    :param trace: The functions of its stack, the innermost first, without offsets and without those
        marked ``?``.
    :param errno: The error number that the line names, positive.
    :param other: The range, with its name, that stands in the way.
    :param address: A virtual address that the line has beside, or instead of, a range.
    :param labelled: Whether its line begins with ``x86/PAT: ``; None where it may have lost that, as the
        log's prefix isn't in front of the message.
    :param of_xen: Whether Xen says it, in its own log.
    :param repeated: How many lines say the same.
    :param lines: The numbers of its lines; of those that say the same, of the first thousand.
    :param aside: Whether it isn't known to be of the machine and the boot of the complaint that counts.
    """

    kind: Kind
    line: int
    raw: str
    time: float | None = None
    span: Span | None = None
    asked: MemType | None = None
    held: tuple[MemType, ...] = ()
    granted: MemType | None = None
    process: str | None = None
    pid: int | None = None
    caller: str | None = None
    function: str | None = None
    trace: tuple[str, ...] = ()
    errno: int | None = None
    other: Span | None = None
    address: int | None = None
    labelled: bool | None = None
    of_xen: bool = False
    repeated: int = 1
    lines: tuple[int, ...] = ()
    aside: bool = False


@shown_in_hexadecimal("base", "size", "mask")
@dataclass(frozen=True)
class Register:
    """A variable MTRR, as the text has it.

    :param number: Of the register.
    :param base: First address.
    :param memtype: Its type; None where the text has a word that is none (``?``).
    :param size: Bytes, where the text has a size (``/proc/mtrr``) or the mask has no holes and its width is
        known.
    :param mask: The address bits of the mask register, without its valid bit, where the text has a mask.
    :param count: The number of its users, as ``/proc/mtrr`` counts them.
    :param line: Where it is.
    """

    number: int
    base: int
    memtype: MemType | None
    size: int | None = None
    mask: int | None = None
    count: int | None = None
    line: int = 0


@shown_in_hexadecimal("tom2")
@dataclass(frozen=True)
class Mtrrs:
    """The MTRRs as one place of the text prints them. A text may print them more than once.

    :param source: What printed them: ``/proc/mtrr``, ``mtrr=debug``, ``mtrr_cleanup``, ``chipsec``, ``fwts``,
        ``coreboot``, ``U-Boot``, ``Xen``.
    :param variable: The registers that hold a range, in the order of the text.
    :param unused: The numbers of registers that the text calls disabled.
    :param default: The default type.
    :param enabled: Whether the MTRRs are on.
    :param fixed_enabled: Whether the fixed ranges are.
    :param fixed: The fixed ranges below 1 MiB, each with its type, if the text has them.
    :param mask_bits: How many bits of address the masks are printed with; None where there are no masks.
    :param tom2: Where RAM above 4 GiB ends, of AMD's register TOP_MEM2.
    :param tom2_write_back: Whether what no range covers there is WB.
    :param result: False for the registers that somebody found and changed (mtrr_cleanup's "original"), or set
        for a while (coreboot's "TEMPORARY"), true for those that were left behind.
    :param complete: False where a line beside it looks like a register of it and wasn't understood.
    :param same_boot: False where a log has it of another boot than that of the complaint that counts.
    :param same_machine: False where it isn't known to be of the machine of that complaint.
    :param lines: Numbers of the lines that say it.
    """

    source: str
    variable: tuple[Register, ...] = ()
    unused: tuple[int, ...] = ()
    default: MemType | None = None
    enabled: bool | None = None
    fixed_enabled: bool | None = None
    fixed: tuple[tuple[Span, MemType], ...] = ()
    mask_bits: int | None = None
    tom2: int | None = None
    tom2_write_back: bool | None = None
    result: bool = True
    complete: bool = True
    same_boot: bool = True
    same_machine: bool = True
    lines: tuple[int, ...] = ()

    @property
    def is_map(self) -> bool:
        """Whether it has registers, or says that there are none: headings alone have lost theirs."""
        return bool(self.variable or self.unused) or self.enabled is False


@dataclass(frozen=True)
class MtrrMap:
    """The map that Linux (6.5 and later) made of the MTRRs: its line "MTRR map: ...".

    :param entries: How many entries the map has; 0 where MTRRs can't be used.
    :param variable: From how many variable MTRRs it was built.
    :param spans: The entries, if ``mtrr=debug`` printed them.
    :param line: Where it is.
    """

    entries: int
    variable: int | None
    spans: tuple[tuple[Span, MemType], ...]
    line: int


@dataclass(frozen=True)
class Pat:
    """The PAT as the kernel describes it.

    :param types: The eight types, slot 0 first, of the line "Configuration [0-7]"; empty if there is none.
    :param line: Where it is.
    """

    types: tuple[MemType, ...] = ()
    line: int | None = None


@dataclass(frozen=True)
class Entry:
    """A reservation: a line of ``/sys/kernel/debug/x86/pat_memtype_list``.

    :param span: Its range; the file's end is exclusive, this one's isn't.
    :param memtype: Its type.
    :param line: Where it is.
    :param listing: The number of its list in the text, from 0: each is of another time, or machine.
    """

    span: Span
    memtype: MemType
    line: int
    listing: int = 0


@dataclass(frozen=True)
class Resource:
    """A line of ``/proc/iomem``.

    :param span: Its range and name.
    :param depth: How deep it is nested, from 0.
    :param line: Where it is.
    """

    span: Span
    depth: int
    line: int


@dataclass(frozen=True)
class Bar:
    """Memory of a PCI device, from ``lspci -v`` or the kernel's log.

    :param device: ``00:06.0``, ``0000:00:06.0``; empty if the text doesn't say which device it is.
    :param description: ``VGA compatible controller: ...``; empty without.
    :param index: Number of the BAR; None if not said.
    :param span: Its range.
    :param bits: 32 or 64; None if not said.
    :param prefetchable: Whether it is; None if not said.
    :param line: Where it is.
    :param rom: Whether it is the expansion ROM, which is no BAR by number.
    """

    device: str
    description: str
    index: int | None
    span: Span
    bits: int | None
    prefetchable: bool | None
    line: int
    rom: bool = False


@dataclass(frozen=True)
class Dump:
    """The facts that were read of a text, all of them.

    :param kernel: The kernel that the text is of.
    :param kernels: All kernels that the text names, the one it is of first.
    :param command_line: The kernel's.
    :param machine: The kernel's line "DMI:", or "Hardware name:".
    :param hypervisor: ``KVM``, ``Xen``, ``VMware``, as the kernel detected it.
    :param cpu: The CPU.
    :param e820: The firmware's map of memory.
    :param mtrrs: The MTRRs, by each place of the text that prints them.
    :param mtrr_map: The line "MTRR map".
    :param pat: The PAT.
    :param complaints: The messages, in the order of the text. Equal ones were put together.
    :param panic: The panic that the boot ended with, its reason without the words before it.
    :param oops: The first Oops of the boot, with its function.
    :param made: Reservations as they were made, which debugpat logs: of :attr:`Kind.RESERVED`.
    :param freed: What was given back, which debugpat logs as well: of :attr:`Kind.FREED`.
    :param poisoned: The frame numbers of pages that the kernel took away as their memory is faulty.
    :param request_stack: The callers of a request, the innermost first, of a stack without a WARNING.
    :param debug_lines: How many lines of debugpat's there are.
    :param attempts: How many lines there are of what mtrr_cleanup tried.
    :param entries: ``pat_memtype_list``.
    :param entries_shown: Whether some of that list is in the text, be it empty.
    :param resources: ``/proc/iomem``.
    :param bars: Memory of PCI devices.
    :param user_calls: Words of the writer's that name what a program did, such as ``mmap``, ``fork``,
        ``munmap``, ``mprotect``; lower case, in the order of the text.
    :param prose: Lines that are nobody's output, but somebody's words.
    :param unread: Lines that look like output about memory types, and weren't understood.
    :param named: Lines that name a message about memory types, and that are no report of it.
    :param cut: Complaints or lists that end in the middle of a line.
    :param lines: The number of lines.
    :param truncated: Whether the text was longer than what is read, so that its end is unknown.
    """

    kernel: Kernel | None = None
    kernels: tuple[Kernel, ...] = ()
    command_line: str | None = None
    machine: str | None = None
    hypervisor: str | None = None
    cpu: Cpu = field(default_factory=Cpu)
    e820: tuple[Span, ...] = ()
    mtrrs: tuple[Mtrrs, ...] = ()
    mtrr_map: MtrrMap | None = None
    pat: Pat = field(default_factory=Pat)
    complaints: tuple[Complaint, ...] = ()
    panic: Line | None = None
    oops: Line | None = None
    made: tuple[Complaint, ...] = ()
    freed: tuple[Complaint, ...] = ()
    poisoned: tuple[int, ...] = ()
    request_stack: tuple[str, ...] = ()
    debug_lines: int = 0
    attempts: int = 0
    entries: tuple[Entry, ...] = ()
    entries_shown: bool = False
    resources: tuple[Resource, ...] = ()
    bars: tuple[Bar, ...] = ()
    user_calls: tuple[str, ...] = ()
    prose: tuple[Line, ...] = ()
    unread: tuple[Line, ...] = ()
    named: tuple[Line, ...] = ()
    cut: tuple[Line, ...] = ()
    lines: int = 0
    truncated: bool = False

    @property
    def own(self) -> tuple[Complaint, ...]:
        """The complaints that may be of the boot and the machine that count, in the order of the text."""
        return tuple(each for each in self.complaints if not each.aside)

    def of(self, *kinds: Kind) -> tuple[Complaint, ...]:
        """Complaints of some kinds among the own, in the order of the text."""
        return tuple(each for each in self.own if each.kind in kinds)

    @property
    def own_mtrr(self) -> Mtrrs | None:
        """The MTRRs that say most, if they may be those under which the complaint that counts came."""
        found = self.mtrr
        return found if found is None or (found.same_boot and found.same_machine) else None

    @property
    def mtrr(self) -> Mtrrs | None:
        """The MTRRs that say most: of a text's several, the fullest, and of those the last.

        Registers with masks, a default type and fixed ranges say more than ``/proc/mtrr``; what mtrr_cleanup
        found more than nothing. Headings without registers only add the default type.
        """
        fullest = max(
            (each for each in reversed(self.mtrrs) if each.is_map),
            key=lambda each: (
                each.same_machine,
                each.complete and (each.result or each.source != "coreboot"),
                each.same_boot,
                each.default is not None,
                each.mask_bits is not None,
                len(each.variable),
            ),
            default=None,
        )
        if fullest is None or fullest.default is not None:
            return fullest
        headings = (each.default for each in reversed(self.mtrrs) if not each.is_map)
        return replace(fullest, default=next(headings, None))
