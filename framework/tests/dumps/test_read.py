"""What is read of texts, format by format; the forms are those of the kernels' sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_memtype.dumps.facts import Bar, Entry, Kind, Mtrrs, Register, Span
from pytest_memtype.dumps.read import read
from pytest_memtype.x86.memtype import MemType

UC, WC, WT, WP, WB, UC_MINUS = (
    MemType.UC,
    MemType.WC,
    MemType.WT,
    MemType.WP,
    MemType.WB,
    MemType.UC_MINUS,
)
CORPUS = Path(__file__).parents[1] / "console" / "corpus"


# Debian's release names are of their own making, and /proc/version has the version further behind.
@pytest.mark.parametrize(
    ("log", "series", "version"),
    [
        ("5.10-debug", "5.10", (5, 10, 262)),
        ("6.1-debug", "6.1", (6, 1, 192)),
        ("6.12-debug", "6.12", (6, 12, 117)),
        ("7.3-debug", "7.3", (7, 3, 4)),
    ],
)
def test_logs_of_real_guests(log: str, series: str, version: tuple[int, int, int]) -> None:
    dump = read((CORPUS / "healthy" / f"{log}.log").read_bytes())
    assert dump.kernel is not None
    assert (dump.kernel.series, dump.kernel.version, dump.kernel.exact) == (series, version, True)
    assert dump.kernel.distribution == "Debian"
    assert dump.command_line is not None
    assert dump.command_line.startswith("console=ttyS0 panic=-1")
    # The guest's RAM below 4 GiB is one piece from 1 MiB on, and q35's configuration space is reserved.
    assert Span(0x100000, 0xFFDFFFF, "usable") in dump.e820
    assert Span(0xB0000000, 0xBFFFFFFF, "reserved") in dump.e820
    assert dump.pat.types == (WB, WC, UC_MINUS, UC, WB, WP, UC_MINUS, WT)
    assert dump.cpu.vendor == "AuthenticAMD"
    assert dump.machine is not None
    assert dump.machine.startswith("QEMU Standard PC (Q35 + ICH9, 2009)")
    assert [each.span for each in dump.bars if each.device == "0000:00:01.0" and each.index == 0] == [
        Span(0xFD000000, 0xFDFFFFFF)
    ]
    assert dump.complaints == ()


@pytest.mark.parametrize("series", ["5.10", "6.1", "6.12", "7.3"])
def test_complaints_of_real_guests(series: str) -> None:
    dump = read((CORPUS / "healthy" / f"{series}-two-cpus.log").read_bytes())
    assert {each.kind for each in dump.complaints} == {Kind.MTRR_INCONSISTENT}
    assert len(dump.complaints) == 3
    assert dump.cpu.count == 2
    dump = read((CORPUS / "healthy" / f"{series}-no-mtrr.log").read_bytes())
    kinds = {each.kind for each in dump.complaints}
    assert Kind.PAT_SKIPPED in kinds or Kind.MTRR_OFF in kinds
    dump = read((CORPUS / "reports" / f"{series}-ioremap-ram.log").read_bytes())
    found = {each.kind: each for each in dump.complaints}
    span = found[Kind.IOREMAP_ON_RAM].span
    assert span is not None
    assert span.size == 0x1000
    warning = found[Kind.WARNING]
    assert (warning.function, warning.process, warning.pid) == ("__ioremap_caller", "init", 1)
    assert warning.trace[0] == "driver_map"


# include/linux/ioport.h's struct is printed with its last byte, pat_memtype_list with the byte behind.
@pytest.mark.parametrize(
    "text",
    [
        "PAT: [mem 0x00000000fd000000-0x00000000fd010000] uncached-minus",
        "uncached-minus @ 0xfd000000-0xfd010000",
        "debugfs:uncached-minus @ 0xfd000000-0xfd010000",
        "> PAT: [mem 0x00000000fd000000-0x00000000fd010000]\n> uncached-minus",
    ],
)
def test_memtype_list(text: str) -> None:
    dump = read(f"PAT memtype list:\n{text}\n")
    assert dump.entries == (Entry(Span(0xFD000000, 0xFD00FFFF), UC_MINUS, 2),)


def test_empty_memtype_list_was_shown() -> None:
    assert read("PAT memtype list:\n").entries_shown
    assert not read("nothing of it\n").entries_shown


@pytest.mark.parametrize(
    "line",
    [
        "reg01: base=0x0d0000000 ( 3328MB), size=  256MB, count=2: write-combining",
        "reg01: base=0xd0000000 (3328MB), size= 256MB: write-combining, count=2",
        "> reg01: base=0x0d0000000 ( 3328MB), size=  256MB,\n> count=2: write-combining",
    ],
)
def test_proc_mtrr(line: str) -> None:
    (listing,) = read(line).mtrrs
    assert listing.variable == (Register(1, 0xD0000000, WC, size=256 << 20, count=2, line=1),)
    assert listing.default is None


def test_coreboots_fixed_ranges_alone_are_no_map() -> None:
    """As of a CPU other than the first (Dasharo/coreboot#609): the variable ranges weren't printed."""
    lines = [
        f"[DEBUG]  apic_id 0x20: MTRR: Fixed MSR {msr:#x} 0x0606060606060606"
        for msr in (0x250, 0x258, 0x259, *range(0x268, 0x270))
    ]
    dump = read("\n".join(lines))
    assert dump.mtrrs == ()
    assert dump.unread or dump.prose


def test_fwts_headings_belong_to_its_listing() -> None:
    dump = read(
        "Test 1, MTRR overview\n"
        "Reg 0: 0x0000000000000000 - 0x0000000080000000 (     2048 MB)   Write-Back\nMTRR validation\n"
    )
    assert [each.source for each in dump.mtrrs] == ["fwts"]
    assert (dump.unread, dump.prose) == ((), ())


# mtrr_list() of U-Boot's cmd/x86/mtrr.c; the size is what it makes of the mask, and isn't read.
_U_BOOT = """=> mtrr -c all
CPU 0:
Reg Valid Write-type   Base   ||        Mask   ||        Size   ||
0   Y     Back         0000000000000000 0000000f80000000 0000000080000000
1   Y     Combine      00000000d0000000 0000000ff0000000 0000000010000000
2   N     Uncacheable  0000000000000000 0000000000000000 0000001000000000

CPU 1:
Reg Valid Write-type   Base   ||        Mask   ||        Size   ||
0   Y     Back         0000000000000000 0000000fc0000000 0000000040000000
=>
0   Y     Back         0000000000000000 0000000fc0000000 0000000040000000
"""


def test_u_boot() -> None:
    dump = read(_U_BOOT)
    assert dump.mtrrs == (
        Mtrrs(
            "U-Boot",
            variable=(
                Register(0, 0, MemType.WB, mask=0xF80000000, line=4),
                Register(1, 0xD0000000, WC, mask=0xFF0000000, line=5),
            ),
            unused=(2,),
            mask_bits=36,
            lines=(3, 4, 5, 6),
        ),
        Mtrrs(
            "U-Boot",
            variable=(Register(0, 0, MemType.WB, mask=0xFC0000000, line=10),),
            mask_bits=36,
            lines=(9, 10),
        ),
    )


def test_two_machines_listings_are_two() -> None:
    one = "reg00: base=0x000000000 (    0MB), size= 2048MB, count=1: write-back"
    two = "reg00: base=0x000000000 (    0MB), size= 4096MB, count=1: write-back"
    assert [each.variable[0].size for each in read(f"before:\n{one}\nafter:\n{two}\n").mtrrs] == [
        2 << 30,
        4 << 30,
    ]


def test_a_base_that_was_cut_is_no_base() -> None:
    dump = read("reg01: base=0x0d000 ( 3328MB), size=  256MB, count=1: write-combining")
    assert dump.mtrrs[0].variable == () if dump.mtrrs else True
    assert [each.number for each in dump.cut] == [1]


def test_lspci() -> None:
    dump = read(
        "01:00.0 VGA compatible controller: NVIDIA Corporation GK208 (rev a1) (prog-if 00 [VGA controller])\n"
        "\tMemory at f6000000 (32-bit, non-prefetchable) [size=16M]\n"
        "\tRegion 1: Memory at e8000000 (64-bit, prefetchable) [size=128M]\n"
        "\tI/O ports at e000 [size=128]\n"
    )
    assert [(each.device, each.index, each.span, each.bits, each.prefetchable) for each in dump.bars] == [
        ("01:00.0", None, Span(0xF6000000, 0xF6FFFFFF), 32, False),
        ("01:00.0", 1, Span(0xE8000000, 0xEFFFFFFF), 64, True),
    ]
    assert isinstance(dump.bars[0], Bar)
    assert dump.bars[0].description.startswith("VGA compatible controller")


def test_bars_of_a_kernels_log() -> None:
    """SR-IOV's registers are no BARs, a ROM is none by number, and one at 0 isn't anywhere yet."""
    dump = read(
        "[    0.300000] pci 0000:00:02.0: reg 0x30: [mem 0xfd000000-0xfdffffff pref]\n"
        "[    0.300000] pci 0000:01:00.0: reg 0x184: [mem 0xfc000000-0xfc003fff 64bit pref]\n"
        "[    0.300000] pci 0000:01:00.0: reg 0x28: [mem 0xfc000000-0xfc003fff]\n"
        "[    0.300000] pci 0000:01:00.0: reg 0x10: [mem 0x00000000-0x00ffffff 64bit pref]\n"
        "[    0.300000] pci 0000:01:00.0: reg 0x1c: [mem 0xe0000000-0xe0ffffff 64bit pref]\n"
        "[    0.300000] pci 0000:02:00.0: ROM [mem 0xfb000000-0xfb00ffff pref]\n"
        "[    0.300000] pci 0000:00:1c.0: BAR 8: assigned [mem 0xfa000000-0xfa0fffff]\n"
        "[    0.300000] pci 0000:03:00.0: VF BAR 0 [mem 0xf9000000-0xf90fffff]\n"
    )
    assert [(each.device, each.index, each.rom, each.span.start) for each in dump.bars] == [
        ("0000:00:02.0", None, True, 0xFD000000),
        ("0000:01:00.0", 3, False, 0xE0000000),
        ("0000:02:00.0", None, True, 0xFB000000),
    ]


@pytest.mark.parametrize(
    "then",
    [
        "BAR 0 [mem 0xf0000000-0xf0ffffff]: can't claim; no compatible bridge window",
        "can't claim BAR 0 [mem 0xf0000000-0xf0ffffff]: no compatible bridge window",
        "BAR 0 [mem 0xf0000000-0xf0ffffff]: releasing",
        "BAR 0: releasing [mem 0xf0000000-0xf0ffffff]",
        "",
    ],
)
@pytest.mark.parametrize(
    "assigned",
    ["BAR 0 [mem 0xe0000000-0xe0ffffff]: assigned", "BAR 0: assigned [mem 0xe0000000-0xe0ffffff]", ""],
)
def test_a_bar_that_has_moved(then: str, assigned: str) -> None:
    lines = ["reg 0x10: [mem 0xf0000000-0xf0ffffff]", then, assigned]
    dump = read("\n".join(f"[    0.400000] pci 0000:01:00.0: {each}" for each in lines))
    where = [0xE0000000] if assigned else [] if then else [0xF0000000]
    assert [(each.index, each.span.start) for each in dump.bars] == [(0, start) for start in where]


def test_a_bar_is_where_the_boot_of_the_complaint_has_it() -> None:
    one, other, moved = (
        f"pci 0000:0{slot}:00.0: reg 0x10: [mem 0x{start}000000-0x{start}ffffff pref]"
        for slot, start in ((1, "e0"), (2, "e0"), (1, "90"))
    )
    freed = FREED.replace("0xfd", "0xe0")
    region = "Memory at {}000000 (32-bit, prefetchable) [size=16M]\n"
    third, swapped = (
        f"0{slot}:00.0 Display controller: Example\n\tRegion 0: {region.format(start)}"
        for slot, start in ((3, "d0"), (2, "e0"))
    )
    before = of_boot(1, "6.1.90", one, freed)
    for text in (
        before + of_boot(2, "6.1.90", moved, other) + third,
        third + before + of_boot(2, "6.1.90", moved, other),
        # The machine as it is now.
        before + of_boot(2, "6.1.90") + swapped + third,
    ):
        assert {(each.device, each.span.start) for each in read(text).bars} == {
            ("0000:01:00.0", 0xE0000000),
            ("03:00.0", 0xD0000000),
        }


@pytest.mark.parametrize("where", ["e0000000", "f0000000"])
@pytest.mark.parametrize("first", [True, False])
def test_a_log_keeps_what_lspci_calls_the_device(where: str, first: bool) -> None:
    listed = (
        "01:00.0 VGA compatible controller: Example\n"
        "\tRegion 0: Memory at e0000000 (32-bit, prefetchable) [size=16M]\n"
    )
    log = "".join(
        f"[    0.300000] pci 0000:01:00.0: reg 0x10: [mem 0x{start}-0x{start[:2]}ffffff pref]\n"
        for start in ("d0000000", where)
    )
    (bar,) = read(listed + log if first else log + listed).bars
    said = where == "e0000000" or not first
    assert bar.description == ("VGA compatible controller: Example" if said else "")


def test_iomem_with_its_nesting() -> None:
    dump = read(
        "c0000000-febfffff : PCI Bus 0000:00\n  fd000000-fdffffff : 0000:00:02.0\n00000000-00000000 : x\n"
    )
    assert [(each.span, each.depth) for each in dump.resources] == [
        (Span(0xC0000000, 0xFEBFFFFF, "PCI Bus 0000:00"), 0),
        (Span(0xFD000000, 0xFDFFFFFF, "0000:00:02.0"), 1),
    ]


def test_lscpu() -> None:
    cpu = read(
        "Address sizes:                      39 bits physical, 48 bits virtual\nCPU(s):          8\n"
        "Vendor ID:         GenuineIntel\n  Model name:  Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz\n"
        "    CPU family:  6\n    Model:    142\n    Stepping:  10\n"
        "Flags:  fpu vme de pse tsc msr pae mce cx8 mtrr pat\n"
    ).cpu
    assert (cpu.vendor, cpu.physical_bits, cpu.count) == ("GenuineIntel", 39, 8)
    assert (cpu.family, cpu.model_number, cpu.stepping) == (6, 142, 10)
    assert (cpu.has_mtrr, cpu.has_pat) == (True, True)


def test_msrs_as_numbers() -> None:
    (listing,) = read(
        "[CPU0] RDMSR( 0x2FF ) = 0000000000000C00\n[CPU0] RDMSR( 0x200 ) = 0000000000000006\n"
        "[CPU0] RDMSR( 0x201 ) = 0000007F80000800\n[CPU0] RDMSR( 0x202 ) = 0000000000000000\n"
        "[CPU0] RDMSR( 0x203 ) = 0000000000000000\n"
    ).mtrrs
    assert listing.source == "chipsec"
    assert (listing.default, listing.enabled, listing.fixed_enabled) == (UC, True, True)
    assert listing.variable == (Register(0, 0, WB, mask=0x7F80000000),)
    assert listing.unused == (1,)


def test_old_e820_and_pat() -> None:
    dump = read(
        "[    0.000000]  BIOS-e820: 0000000000100000 - 000000007ffae000 (usable)\n"
        "[    0.000000] x86 PAT enabled: cpu 0, old 0x7040600070406, new 0x7010600070106\n"
    )
    assert dump.e820 == (Span(0x100000, 0x7FFADFFF, "usable"),)
    assert dump.pat.types == (WB, WC, UC_MINUS, UC) * 2


def test_map_of_mtrrs() -> None:
    dump = read(
        "[    0.0] MTRR map: 5 entries (3 fixed + 2 variable; max 21), built from 9 variable MTRRs\n"
        "[    0.0]   0: 0000000000000000-000000000009ffff write-back\n"
        "[    0.0]   1: 00000000000a0000-00000000000bffff uncachable\n"
    )
    assert dump.mtrr_map is not None
    assert (dump.mtrr_map.entries, dump.mtrr_map.variable) == (5, 9)


def test_mtrr_map_and_its_entries() -> None:
    dump = read(
        "[    0.000000] MTRR map: 2 entries (2 fixed + 0 variable; max 21), built from 9 variable MTRRs\n"
        "[    0.000000]   0: 0000000000000000-000000000009ffff write-back\n"
        "[    0.000000]   1: 00000000000a0000-00000000000bffff uncachable\n"
    )
    assert dump.mtrr_map is not None
    assert dump.mtrr_map.spans == ((Span(0, 0x9FFFF), WB), (Span(0xA0000, 0xBFFFF), UC))


def test_what_is_not_understood_is_listed() -> None:
    dump = read("[    1.000000] mtrr: something that no kernel of today says\n[    1.0] eth0: up\n")
    assert [each.number for each in dump.unread] == [1]


def test_equal_lines_are_one_complaint() -> None:
    line = "x86/PAT: Xorg:509 freeing invalid memtype [mem 0xfd000000-0xfdffffff]"
    (found,) = read("\n".join(f"[   {n}.000000] {line}" for n in range(10, 15))).complaints
    assert (found.repeated, found.lines, found.time) == (5, (1, 2, 3, 4, 5), 10.0)


def test_memory_that_is_used_is_bounded_by_lines() -> None:
    assert len(read("x86/mtrr: unknown\n" * 5000).unread) == 100


# The writer's words, and which kernel the text is of.
@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("Since 6.12.43+deb13-amd64 the log has this; 6.1.0-18-amd64 was fine.", "6.12.43+deb13-amd64"),
        ("Works with kernel 5.4, fails with kernel 5.15.", "5.15"),
        ("Linux box 6.6.30-gentoo #1 SMP Sat May 4 2024 x86_64 GNU/Linux", "6.6.30-gentoo"),
        ("guest kernel 6.1.140, QEMU 7.2.22", "6.1.140"),
        ("Comm: Xorg Not tainted 6.5.6-300.fc39.x86_64 #1", "6.5.6-300.fc39.x86_64"),
        ("BIOS 1.16.2, gcc 12.2.0, Xorg 21.1.7, driver 5.3.1", None),
        ("It happens on 5.10 and on 6.1, kernel 5.10 and kernel 6.1 alike.", None),
        ("the card answers at 5.0.0.1", None),
        ("uname -r\n4.19.0-26-amd64\n", "4.19.0-26-amd64"),
        ("no version at all", None),
        # A log without its timestamps: other things have versions, too.
        ("EDAC MC: Ver: 3.0.0", None),
        ("Firmware Version: 4.2.1", None),
        ("megaraid_sas, version 5.10.2-1", None),
        ("Kernel Version: 6.1.90", "6.1.90"),
        ("Linux version 5.10 works fine, with 6.1.90 I get:", "6.1.90"),
        ("RHEL 8.6, kernel-4.18.0-372.el8", "4.18.0-372.el8"),
        ("BIOS version 2.7.1", None),
        ("The BIOS is version 2.7.1, with firmware in version 4.2.1", None),
        ("igb: Intel(R) Gigabit Ethernet Network Driver - version 5.6.0-k", None),
        ("It happens in version 3.1.2 of the driver.", None),
        ("Package: linuxptp\nVersion: 3.1.1-4", None),
        ("Package: xserver-xorg\nVersion: 2.1.7-3", None),
        # As reportbug and rpm have it, and as it is said.
        ("Package: src:linux\nVersion: 6.1.76-1\nSeverity: normal", "6.1.76-1"),
        ("Source: linux\nVersion: 6.1.76-1", "6.1.76-1"),
        ("Name        : kernel\nVersion     : 6.5.6", "6.5.6"),
        ("Package: src:linux\nFound: version 6.1.76-1", "6.1.76-1"),
        ("It happens in version 6.1.76 of the kernel.", "6.1.76"),
        ("It happens with version 6.1.76.", "6.1.76"),
        ("Fedora 38, version 6.1.76-200.fc38.x86_64", "6.1.76-200.fc38.x86_64"),
        ("On the server it happens with version 6.1.76-1 from backports, too.", "6.1.76-1"),
        ("I run Debian 12 with version 6.1.76.", "6.1.76"),
        ("It is in version 6.1.76 of Debian's kernel.", "6.1.76"),
        ("The firmware was updated to version 5.2.1.", None),
        ("Proxmox in version 8.1.4", None),
        ("It is in version 5.4.1 of the nvidia kernel module.", None),
        ("Name: Linux Driver Pack\nVersion: 5.3.1", None),
        ("nvidia driver, version 5.4.2-3.fc38.x86_64", None),
    ],
)
def test_which_kernel(text: str, release: str | None) -> None:
    kernel = read(text).kernel
    assert (kernel.release if kernel else None) == release


@pytest.mark.parametrize(
    ("text", "version", "exact"),
    [
        ("Linux version 6.1.0-18-amd64 (x@y) #1 SMP Debian 6.1.76-1 (2024-02-01)", (6, 1, 76), True),
        ("Linux version 6.1.0-18-amd64 (x@y)", (6, 1, 0), False),
        ("Linux version 5.15.0-97-generic (x@y)", (5, 15, 0), False),
        ("Linux version 6.11.0 (x@y)", (6, 11, 0), True),
        ("Linux version 6.12.0-rc5+ (x@y)", (6, 12, 0), True),
        ("Linux version 2.6.32-71.el6.x86_64 (x@y)", (2, 6, 32), True),
    ],
)
def test_how_exactly(text: str, version: tuple[int, int, int], exact: bool) -> None:
    kernel = read(text).kernel
    assert kernel is not None
    assert (kernel.version, kernel.exact) == (version, exact)


def of_boot(day: int, version: str, *lines: str) -> str:
    whole = (f"Linux version {version} (x@y) #1 SMP", *lines)
    return "".join(f"Jan  {day} 10:00:00 box kernel: [    0.000000] {each}\n" for each in whole)


PAT_ON = "x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WP  UC- WT"
PAT_OFF = "x86/PAT: PAT support disabled via boot option."
FREED = "x86/PAT: test:177 freeing invalid memtype [mem 0xfd000000-0xfd000fff]"


def test_of_several_boots_that_of_the_complaint_counts() -> None:
    old = of_boot(1, "5.4.100", "Command line: nopat", PAT_OFF, "MTRR map: 7 entries")
    new = of_boot(2, "6.17.8", "Command line: quiet", PAT_ON)
    later = of_boot(3, "6.17.8", "Command line: debugpat", "MTRR map: 8 entries")
    for text in (old + new + f"{FREED}\n" + later, old + new.replace(PAT_ON, f"{PAT_ON}\n{FREED}") + later):
        dump = read(text)
        assert dump.kernel is not None
        assert (dump.kernel.release, dump.command_line) == ("6.17.8", "quiet")
        assert dump.pat.types == (WB, WC, UC_MINUS, UC, WB, WP, UC_MINUS, WT)
        assert dump.mtrr_map is None
        assert [each.kind for each in dump.complaints] == [Kind.FREEING_INVALID]
        assert dump.unread == ()
    dump = read(old + f"{FREED}\n" + new)
    assert dump.kernel is not None
    assert (dump.kernel.release, dump.command_line, dump.pat.types) == ("5.4.100", "nopat", ())
    assert Kind.PAT_DISABLED in {each.kind for each in dump.complaints}


def test_a_banner_that_is_there_again_begins_no_boot() -> None:
    log = of_boot(1, "6.1.90", "Command line: quiet", PAT_ON)
    for again in (log.splitlines()[0], "Linux version 6.1.90 (x@y) #1 SMP"):
        dump = read(f"{log}# cat /proc/version\n{again}\n{FREED}\n")
        assert (dump.command_line, len(dump.pat.types)) == ("quiet", 8)


def dmesg(version: str, *lines: str, late: str = "usb 1-1: new device") -> str:
    whole = (f"Linux version {version} (x@y) #1 SMP", *lines)
    early = "".join(f"[    0.000000] {each}\n" for each in whole)
    return f"{early}[  900.000000] {late}\n"


def journal(day: int, version: str, *lines: str) -> str:
    return of_boot(day, version, *lines).replace("[    0.000000] ", "")


def of_its_boot(text: str) -> tuple[str | None, bool]:
    dump = read(text)
    assert dump.kernel is not None
    assert dump.kernel.release == "6.1.90"
    assert Kind.FREEING_INVALID in {each.kind for each in dump.complaints}
    return dump.command_line, Kind.PAT_DISABLED in {each.kind for each in dump.complaints}


def test_boots_of_one_kernel_by_its_own_clock() -> None:
    off, on = dmesg("6.1.90", "Command line: ro nopat", PAT_OFF), ("6.1.90", "Command line: ro", PAT_ON)
    assert of_its_boot(f"{off}\nWithout nopat:\n{dmesg(*on, late=FREED)}") == ("ro", False)
    assert of_its_boot(f"{off}\nWithout nopat:\n{dmesg(*on[:1], PAT_ON, late=FREED)}") == (None, False)
    # The journal of one, and what dmesg says of another.
    before = journal(1, "6.1.90", "Command line: ro nopat", PAT_OFF)
    assert of_its_boot(before + dmesg(*on, late=FREED)) == ("ro", False)
    # Without times, too.
    bare = [each.replace("[    0.000000] ", "") for each in (off, dmesg(*on))]
    assert of_its_boot(f"{bare[0]}{bare[1]}{FREED}\n") == ("ro", False)


def test_one_boot_in_two_forms() -> None:
    before = journal(1, "6.1.90", "Command line: ro nopat", PAT_OFF)
    assert of_its_boot(before + dmesg("6.1.90", late=FREED)) == ("ro nopat", True)
    # Its banner again, by grep.
    log = dmesg("6.1.90", "Command line: ro nopat", PAT_OFF)
    assert of_its_boot(f"{log}{log.splitlines()[0]}\n[  901.000000] {FREED}\n") == ("ro nopat", True)


@pytest.mark.parametrize(
    "between", ["", "# cat /proc/version\nLinux version 6.1.90 (x@y) #1 SMP\n", dmesg("6.1.90")]
)
@pytest.mark.parametrize("form", [journal, of_boot])
def test_boots_of_a_journal_with_others_words_between(form: Callable[..., str], between: str) -> None:
    old, new = form(1, "6.1.90", "Command line: ro nopat", PAT_OFF), form(2, "6.1.90", PAT_ON, FREED)
    assert of_its_boot(old + between + new) == (None, False)


def test_a_complaint_that_is_quoted_above_the_logs() -> None:
    quoted = f"I see:\n{FREED}\nsince 6.5:\n\n"
    clean, other = dmesg("6.1.0-18-amd64", "Command line: clean"), dmesg("6.5.1", "Command line: other")
    broken = dmesg("6.5.1", "Command line: broken", late=FREED)
    dump = read(quoted + clean + broken)
    assert dump.kernel is not None
    assert (dump.kernel.release, dump.command_line) == ("6.5.1", "broken")
    dump = read(quoted + clean + other)
    assert (dump.kernel, dump.command_line) == (None, None)
    # A trace says it, and two boots of one kernel do; but not which of them it was.
    dump = read(f"{FREED}\nCPU: 0 PID: 177 Comm: test Not tainted 5.10.0-28-amd64 #1\n{clean}{other}")
    assert dump.kernel is not None
    assert (dump.kernel.release, dump.command_line) == ("5.10.0-28-amd64", None)
    dump = read(quoted + dmesg("6.5.1", "Command line: nopat", PAT_OFF) + other)
    assert dump.kernel is not None
    assert (dump.kernel.release, dump.command_line) == ("6.5.1", None)
    assert Kind.PAT_DISABLED not in {each.kind for each in dump.complaints}
    # Above one log it is that log's.
    dump = read(quoted + clean)
    assert dump.kernel is not None
    assert (dump.kernel.release, dump.command_line) == ("6.1.0-18-amd64", "clean")


def test_the_trace_below_a_complaint_outranks_proc_version() -> None:
    trace = "CPU: 0 PID: 177 Comm: test Not tainted 5.10.0-28-amd64 #1 Debian 5.10.209-2\n"
    log = f"[  900.000000] {FREED}\n[  900.000001] {trace}"
    for version, release in (("6.9.3", "5.10.0-28-amd64"), ("5.10.0-28-amd64", "5.10.0-28-amd64")):
        banner = f"Linux version {version} (x@y) #1 SMP Debian {version}-1\n"
        dump = read(f"$ cat /proc/version\n{banner}\n{log}")
        assert dump.kernel is not None
        assert dump.kernel.release == release
        assert dump.kernel.line == (4 if version == "6.9.3" else 2) + (version == "6.9.3")
    # Of a log that says which boot it is, and of what stands far below, it isn't the complaint's.
    for far in (dmesg("6.9.3", late=FREED), f"Linux version 6.9.3 (x@y) #1\n{FREED}\n" + "a word\n" * 60):
        dump = read(far + trace)
        assert dump.kernel is not None
        assert dump.kernel.release == "6.9.3"


def test_two_kernels_and_no_complaint() -> None:
    dump = read(of_boot(1, "5.4.100") + of_boot(2, "6.17.8"))
    assert dump.kernel is None
    assert [each.release for each in dump.kernels] == ["5.4.100", "6.17.8"]
    dump = read(f"{FREED}\nComm: test Not tainted 5.4.100 #1\nComm: test Not tainted 6.17.8 #1\n")
    assert dump.kernel is None


def test_calls_that_the_writer_denies() -> None:
    dump = read("There is no fork in it, and we don't use MAP_PRIVATE; it calls mprotect() and munmap().\n")
    assert dump.user_calls == ("mprotect", "munmap")
