"""MTRRs as drivers and programs ask for them: ioctls of /proc/mtrr, its lines, and mtrr_add()."""

from __future__ import annotations

import errno
import struct
from itertools import pairwise

import pytest

from pytest_memtype import Guest, InMemory, Layout, MemType, MtrrRange, Process, ProcMtrr
from pytest_memtype.x86.mtrr import decode
from pytest_memtype.x86.mtrr_runs import runs

WB, WC, UC, WT, WP = MemType.WB, MemType.WC, MemType.UC, MemType.WT, MemType.WP

# No range at all, so that one that is added has no other to give way to.
BARE = pytest.mark.layout(Layout("bare", default=WB))

BASE, SIZE = 0xFD000000, 64 << 10
GIB = 1 << 30

# arch/x86/include/uapi/asm/mtrr.h. One that works on pages has the number 5 higher.
_NUMBERS = {"add": 0, "set": 1, "del": 2, "get": 3, "kill": 4}


def _command(what: str, size: int, *, pages: bool) -> int:
    """_IOW('M', number, size), and _IOWR() for "get"."""
    direction = 3 if what == "get" else 1
    return direction << 30 | size << 16 | ord("M") << 8 | _NUMBERS[what] + 5 * pages


def change(
    process: Process,
    what: str,
    base: int,
    size: int,
    memtype: int = WC,
    *,
    pages: bool = False,
    bits: int = 64,
    no_memory: bool = False,
) -> int:
    """Add, set, delete or kill a range by ioctl; its errno. struct mtrr_sentry has 32 bits more for 64."""
    if pages:
        base, size = base >> 12, size >> 12
    data = struct.pack("<QII" if bits == 64 else "<III", base, size, memtype)
    command = _command(what, len(data), pages=pages)
    return process.ioctl("/proc/mtrr", command, data, of_32_bits=bits == 32, no_memory=no_memory).errno


def get(
    process: Process, register: int, *, pages: bool = False, bits: int = 64
) -> tuple[int, int, int] | int:
    """Base, size and type of a register by ioctl, in pages where asked for; or the errno."""
    if bits == 64:
        data = struct.pack("<QIIII", 0, 0, register, 0, 0)
    else:
        data = struct.pack("<IIII", register, 0, 0, 0)
    answer = process.ioctl("/proc/mtrr", _command("get", len(data), pages=pages), data, of_32_bits=bits == 32)
    if answer.errno:
        return answer.errno
    if bits == 64:
        base, size, number, memtype, _ = struct.unpack("<QIIII", answer.data)
    else:
        number, base, size, memtype = struct.unpack("<IIII", answer.data)
    assert number == register
    return base, size, memtype


def shown(guest: Guest) -> list[tuple[int, int, MemType, int]]:
    """The registers in use: base, size, type and count, by their numbers."""
    return [(each.base, each.size, each.memtype, each.count) for each in guest.mtrr_list()]


@BARE
@pytest.mark.parametrize("bits", [64, pytest.param(32, marks=pytest.mark.needs_config("IA32_EMULATION"))])
@pytest.mark.parametrize("pages", [False, True], ids=["bytes", "pages"])
def test_each_ioctl(guest: Guest, bits: int, pages: bool) -> None:
    """Adding counts, setting doesn't, deleting takes one off; and what isn't there can't be deleted."""
    process = guest.process("Xorg")

    def do(what: str, base: int = BASE, size: int = SIZE, memtype: int = WC) -> int:
        return change(process, what, base, size, memtype, pages=pages, bits=bits)

    def counts() -> list[int]:
        assert all(each[:3] == (BASE, SIZE, WC) for each in shown(guest))
        return [each.count for each in guest.mtrr_list()]

    steps = []
    for what in ("set", "set", "add", "add", "del", "del", "kill", "kill", "del"):
        steps.append((do(what), counts()))
    assert steps == [
        (0, [1]),
        (0, [1]),
        (0, [2]),
        (0, [3]),
        (0, [2]),
        (0, [1]),
        (0, []),
        (errno.EINVAL, []),
        (errno.EINVAL, []),
    ]
    assert do("set", memtype=WP) == 0
    units = 12 if pages else 0
    assert get(process, 0, pages=pages, bits=bits) == (BASE >> units, SIZE >> units, WP)
    assert get(process, 1, pages=pages, bits=bits) == (0, 0, UC)
    # QEMU's CPUs have eight.
    assert get(process, 7, pages=pages, bits=bits) == (0, 0, UC)
    assert get(process, 8, pages=pages, bits=bits) == errno.EINVAL
    assert do("kill", size=2 * SIZE) == errno.EINVAL
    assert do("kill", base=BASE + SIZE) == errno.EINVAL
    assert do("kill") == 0
    # No such type: 0, 1, 4, 5 and 6 are some, and 7 ends Linux' list.
    assert do("set", memtype=7) == do("add", memtype=99) == errno.EINVAL
    assert guest.mtrr_list() == ()


@BARE
@pytest.mark.parametrize("what", ["add", "set", "del", "kill"])
@pytest.mark.parametrize(("base", "size"), [(BASE + 512, SIZE), (BASE, SIZE + 512)], ids=["base", "size"])
def test_ioctls_in_bytes_want_whole_pages(guest: Guest, what: str, base: int, size: int) -> None:
    process = guest.process("Xorg")
    assert change(process, "set", BASE, SIZE) == 0
    assert change(process, what, base, size) == errno.EINVAL
    assert shown(guest) == [(BASE, SIZE, WC, 1)]


@BARE
@pytest.mark.needs_config("IA32_EMULATION")
def test_ioctls_without_memory(guest: Guest) -> None:
    process = guest.process("Xorg")
    found = {
        change(process, what, BASE, SIZE, pages=pages, bits=bits, no_memory=True)
        for what in _NUMBERS
        for pages in (False, True)
        for bits in (64, 32)
        if what != "get"
    }
    for size, of_32_bits in ((24, False), (16, True)):
        for pages in (False, True):
            command = _command("get", size, pages=pages)
            answer = process.ioctl("/proc/mtrr", command, bytes(size), of_32_bits=of_32_bits, no_memory=True)
            found.add(answer.errno)
    assert found == {errno.EFAULT}
    assert process.ioctl("/proc/mtrr", _command("kill", 16, pages=True) + 1, bytes(16)).errno == errno.ENOTTY
    assert guest.mtrr_list() == ()


@BARE
@pytest.mark.parametrize("bits", [64, pytest.param(32, marks=pytest.mark.needs_config("IA32_EMULATION"))])
def test_ranges_that_bytes_can_not_say(guest: Guest, bits: int) -> None:
    """A size of 32 bits ends at 4 GiB: the ioctl in bytes hides what ends beyond, that in pages doesn't."""
    process = guest.process("Xorg")
    below, at, large = (4 * GIB - SIZE, SIZE), (4 * GIB, 4096), (8 * GIB, 8 * GIB)
    for base, size in (below, at, large):
        assert change(process, "add", base, size, pages=True) == 0
    assert [get(process, n, bits=bits) for n in range(3)] == [(*below, WC), (0, 0, 0), (0, 0, 0)]
    assert [get(process, n, pages=True, bits=bits) for n in range(3)] == [
        (base >> 12, size >> 12, WC) for base, size in (below, at, large)
    ]


@BARE
def test_what_a_file_has_deleted_is_not_taken_back_twice(guest: Guest) -> None:
    """mtrr_close() deletes what this file has added and not deleted; others' asking is theirs."""
    first, second = guest.process("first"), guest.process("second")
    for _ in range(3):
        assert change(first, "add", BASE, SIZE) == 0
    assert change(second, "add", BASE, SIZE, pages=True) == 0
    assert change(first, "del", BASE, SIZE) == 0
    assert change(first, "set", BASE + SIZE, SIZE) == 0
    assert shown(guest) == [(BASE, SIZE, WC, 3), (BASE + SIZE, SIZE, WC, 1)]
    first.exit()
    # What was set is for good.
    assert shown(guest) == [(BASE, SIZE, WC, 1), (BASE + SIZE, SIZE, WC, 1)]
    second.exit()
    assert shown(guest) == [(BASE + SIZE, SIZE, WC, 1)]


@BARE
def test_a_file_deletes_what_another_has_added(guest: Guest) -> None:
    """It is gone, and EINVAL all the same where the file has added something else (mtrr_file_del())."""
    first, second = guest.process("first"), guest.process("second")
    assert change(first, "add", BASE, SIZE) == 0
    assert change(second, "del", BASE, SIZE) == 0
    assert guest.mtrr_list() == ()
    assert change(first, "add", BASE, SIZE) == 0
    assert change(second, "add", BASE + SIZE, SIZE) == 0
    assert change(second, "del", BASE, SIZE) == errno.EINVAL
    assert shown(guest) == [(BASE + SIZE, SIZE, WC, 1)]


@BARE
def test_ioctls_of_a_user(guest: Guest) -> None:
    process = guest.process("Xorg", uid=1000)
    assert change(process, "add", BASE, SIZE) in (errno.EACCES, errno.EPERM)
    assert guest.mtrr_list() == ()


# Lines of /proc/mtrr, and whether each is taken (mtrr_write()). Numbers may be decimal, spaces several.
LINES = {
    "base=0xfd000000 size=0x10000 type=write-combining": True,
    "base=0xfd100000 size=65536     type=uncachable": True,
    "base=4247781376    size=0x10000 type=write-through\n": True,
    "disable=1": True,
    "disable=1 ": False,
    "disable=8": False,
    "disable=7": False,
    "disabled": False,
    "size=0x10000 base=0xfd400000 type=write-back": False,
    "base=0xfd400000 type=write-back size=0x10000": False,
    "base=0xfd400000 size=0x10000": False,
    "base=0xfd400000 size=0x10000 type=": False,
    "base=0xfd400000 size=0x10000 type=write-back2": False,
    "base=0xfd400000 size=0x10000 type=WB": False,
    "base=0xfd400001 size=0x10000 type=write-back": False,
    "base=0xfd400000 size=0x10800 type=write-back": False,
    "base=0xfd400000 size=0 type=write-back": False,
    "": False,
}


@BARE
def test_lines(guest: Guest) -> None:
    # bash and busybox alike: printf writes its text in one piece.
    script = "\n".join(f"printf '%s' '{line}' > /proc/mtrr && echo yes || echo no" for line in LINES)
    said = guest.shell(f"exec 2>/dev/null\n{script}").output.split()
    # An empty write never gets to the kernel.
    expected = ["yes" if taken or not line else "no" for line, taken in LINES.items()]
    assert dict(zip(LINES, said, strict=True)) == dict(zip(LINES, expected, strict=True))
    assert guest.mtrr_list() == (
        ProcMtrr(0, 0xFD000000, 0x10000, WC, 1),
        ProcMtrr(2, 0xFD300000, 0x10000, WT, 1),
    )


class Calls:
    """mtrr_add() and mtrr_del() of the kernel."""

    def __init__(self, guest: Guest) -> None:
        self._kernel = guest.kernel

    def add(self, base: int, size: int, memtype: int, *, counted: bool = True) -> int:
        """The register, or a negative errno."""
        return self._kernel.call("mtrr_add", base, size, memtype, int(counted)).number

    def delete(self, register: int, base: int = 0, size: int = 0) -> int:
        return self._kernel.call("mtrr_del", register, base, size).number


@BARE
@pytest.mark.needs_module
@pytest.mark.needs_config("KPROBES")
def test_no_size(guest: Guest) -> None:
    """At 0 alone it gets past the check of its alignment."""
    for base, said in [(BASE, "is not aligned on a size(0x0000) boundary"), (0, "zero sized request")]:
        assert Calls(guest).add(base, 0, WC) == -errno.EINVAL
        assert any(said in line for line in guest.log)
    assert guest.mtrr_list() == ()


@BARE
@pytest.mark.needs_module
@pytest.mark.needs_config("KPROBES")
def test_a_register_that_nobody_has_asked_for(guest: Guest) -> None:
    """Somebody else's write, such as firmware's: Linux lists it with no user, and doesn't take it back."""
    calls = Calls(guest)
    assert calls.add(BASE, SIZE, WC) == 0
    assert calls.delete(0) == 0
    guest.change_registers(Layout("late", default=WB, ranges=[MtrrRange(BASE, SIZE, WC)]))
    assert shown(guest) == [(BASE, SIZE, WC, 0)]
    assert calls.delete(0) == -errno.EINVAL
    assert any("reg: 0 has count=0" in line for line in guest.log)
    assert shown(guest) == [(BASE, SIZE, WC, 0)]


MIB = 1 << 20


@BARE
@pytest.mark.needs_module
@pytest.mark.needs_config("KPROBES")
class TestOverlaps:
    """mtrr_add_page(): who may lie over whom. UC goes with any, and WT with WB."""

    def test_inside_of_the_same_type(self, guest: Guest) -> None:
        calls = Calls(guest)
        assert calls.add(BASE, 4 * MIB, WC) == 0
        assert calls.add(BASE + MIB, MIB, WC) == 0
        assert calls.add(BASE, 4 * MIB, WC, counted=False) == 0
        assert calls.add(BASE + 3 * MIB, MIB, WC) == 0
        assert shown(guest) == [(BASE, 4 * MIB, WC, 3)]

    @pytest.mark.parametrize(
        ("outer", "inner", "allowed"),
        [(WB, WT, True), (WT, WB, True), (WC, UC, True), (UC, WC, True), (WC, WB, False), (WP, WT, False)],
        ids=str,
    )
    def test_types(self, guest: Guest, outer: MemType, inner: MemType, allowed: bool) -> None:
        """Inside, and around what is there already."""
        calls = Calls(guest)
        assert calls.add(BASE, 4 * MIB, outer) == 0
        assert calls.add(BASE + 2 * MIB, MIB, inner) == (1 if allowed else -errno.EINVAL)
        assert calls.add(BASE + 8 * MIB, MIB, inner) == (2 if allowed else 1)
        assert calls.add(BASE + 8 * MIB, 4 * MIB, outer) == (3 if allowed else -errno.EINVAL)
        assert len(guest.mtrr_list()) == (4 if allowed else 2)

    def test_around_the_same_type(self, guest: Guest) -> None:
        """It takes the smaller one's register, and its count."""
        calls = Calls(guest)
        assert calls.add(BASE + 8 * MIB, MIB, WT) == 0
        assert calls.add(BASE + MIB, MIB, WC) == calls.add(BASE + MIB, MIB, WC) == 1
        assert calls.add(BASE, 4 * MIB, WC) == 1
        assert shown(guest) == [(BASE + 8 * MIB, MIB, WT, 1), (BASE, 4 * MIB, WC, 3)]

    def test_around_without_counting(self, guest: Guest) -> None:
        calls = Calls(guest)
        assert calls.add(BASE, MIB, WC) == 0
        assert calls.add(BASE, 4 * MIB, WC, counted=False) == 0
        assert shown(guest) == [(BASE, 4 * MIB, WC, 1)]

    def test_around_two_of_the_same_type(self, guest: Guest) -> None:
        calls = Calls(guest)
        assert calls.add(BASE, MIB, WC) == 0
        assert calls.add(BASE + 2 * MIB, MIB, WC) == 1
        assert calls.add(BASE, 4 * MIB, WC) == 2
        assert [each.count for each in guest.mtrr_list()] == [1, 1, 1]

    def test_neighbours(self, guest: Guest) -> None:
        """One byte behind is no overlap, and half a range is one: with the same type, too."""
        calls = Calls(guest)
        assert calls.add(BASE + MIB, MIB, WC) == 0
        assert calls.add(BASE, MIB, WB) == 1
        assert calls.add(BASE + 2 * MIB, MIB, WP) == 2
        assert calls.add(BASE + 4 * MIB, 2 * MIB, WC) == 3
        # What isn't aligned to its size no MTRR holds; 4.5 to 5.5 MiB is such.
        assert calls.add(BASE + 5 * MIB, 2 * MIB, WC) == -errno.EINVAL

    def test_deleting(self, guest: Guest) -> None:
        calls = Calls(guest)
        assert calls.add(BASE, MIB, WC) == calls.add(BASE, MIB, WC) == 0
        assert calls.add(BASE + MIB, MIB, WB) == 1
        assert calls.delete(2) == calls.delete(8) == calls.delete(-1, BASE, 2 * MIB) == -errno.EINVAL
        assert calls.delete(-1, BASE + MIB, MIB) == 1
        assert calls.delete(-1, BASE + MIB, MIB) == calls.delete(1) == -errno.EINVAL
        assert calls.delete(0) == 0
        assert shown(guest) == [(BASE, MIB, WC, 1)]
        assert calls.delete(0) == 0
        assert guest.mtrr_list() == ()
        # What is free is used again, the lowest first.
        assert calls.add(BASE, MIB, UC) == 0

    def test_the_width_of_addresses(self, guest: Guest) -> None:
        """The guest's CPU has 40 bits."""
        calls = Calls(guest)
        assert calls.add((1 << 40) - MIB, MIB, WC) == 0
        assert calls.add(1 << 40, MIB, WC) == calls.add(1 << 39, 1 << 40, WC) == -errno.EINVAL
        assert calls.add((1 << 40) + BASE, MIB, WC) == -errno.EINVAL
        assert shown(guest) == [((1 << 40) - MIB, MIB, WC, 1)]

    def test_no_register_is_left(self, guest: Guest) -> None:
        calls = Calls(guest)
        numbers = [calls.add(BASE + n * MIB, MIB, WC) for n in range(8)]
        assert numbers == list(range(8))
        assert calls.add(BASE + 9 * MIB, MIB, WC) == -errno.ENOSPC
        assert calls.delete(5) == 5
        assert calls.add(BASE + 9 * MIB, MIB, WC) == 5

    def test_what_a_cpu_has_then(self, guest: Guest) -> None:
        """Base with the type, mask with V (bit 11), and nothing else: Intel SDM vol. 3, "Variable Range
        MTRRs"; 40 bits. A deleted register has V clear."""
        calls = Calls(guest)
        assert calls.add(BASE, 2 * MIB, WP) == 0
        assert calls.add(8 * GIB, 4 * GIB, WT) == 1
        assert calls.add(BASE + 2 * MIB, MIB, WC) == 2
        assert calls.delete(2) == 2
        cpu = guest.registers()[0]
        assert cpu.mtrr is not None
        assert cpu.mtrr.variable[:2] == (
            (BASE | WP, 0xFFFFE00000 | 1 << 11),
            (8 * GIB | WT, 0xFF00000000 | 1 << 11),
        )
        assert [mask for _, mask in cpu.mtrr.variable[2:]] == [0] * 6


@pytest.mark.needs_module
@pytest.mark.needs_config("KPROBES")
def test_the_number_behind_a_handle(guest: Guest) -> None:
    """arch_phys_wc_add() gives the register and 1000, and 0 where it has added none."""
    index = [
        guest.kernel.call("arch_phys_wc_index", handle % (1 << 32)).number
        for handle in (-errno.EINVAL, 0, 1, 999, 1000, 1001, 1007)
    ]
    assert index == [-1, -1, -1, -1, 0, 1, 7]


# One boot for those that look at what is said, and for the other that has this layout.
EVERYTHING_IS_SAID = pytest.mark.hardware(cmdline="mtrr=debug debugpat")
EVERYTHING = Layout(
    "everything",
    default=UC,
    ranges=[
        MtrrRange(0, "256M", WB),
        MtrrRange("3G", "256M", WB),
        MtrrRange(0xC4000000, "64M", WT),
        MtrrRange(0xC8000000, "2M", UC),
        MtrrRange(0xFD000000, "8M", WC),
        MtrrRange(0xFD800000, "64K", WP),
        MtrrRange("8G", "8G", WB),
    ],
)


@pytest.mark.needs_module
@pytest.mark.needs_config("KPROBES")
@pytest.mark.layout(EVERYTHING)
@EVERYTHING_IS_SAID
def test_what_linux_takes_the_mtrrs_for(guest: Guest) -> None:
    """mtrr_type_lookup() of each run of one type, of its first and last page, and of both sides of its end.

    Since 6.5 Linux keeps a map of the runs, with the fixed ranges in it. Before that it looked at the
    registers each time, and where two overlap it said that the range isn't uniform.
    """
    calls = Calls(guest)
    for change_it in ("", "add", "delete"):
        if change_it == "add":
            assert calls.add(0xFD100000, MIB, UC) == 7
        elif change_it == "delete":
            assert calls.delete(6) == 6
        state = guest.registers()[0].mtrr
        assert state is not None
        has_map = guest.version >= (6, 5)
        first = 0 if has_map else MIB
        ranges = decode(state).variable
        spans = [each for each in runs(state, first, 32 * GIB) if each.end > first]
        found, expected, across = [], [], []
        for span in spans:
            for start, end in (
                (span.start, span.end),
                (span.start, span.start + 4096),
                (span.end - 4096, span.end),
            ):
                found.append(look_up(guest, start, end))
                over = sum(span.start & each.mask == each.base & each.mask for each in ranges)
                expected.append((span.memtype, has_map or over < 2))
            across.append(look_up(guest, span.end - 4096, span.end + 4096)[1])
        assert found == expected
        # type_merge(), since 6.5: what the next type doesn't change counts as uniform, and it changes neither
        # UC nor, where it is WB, WT. A large page may then lie over both: the bug large-page-mtrrs.
        types = [each.memtype for each in spans]
        assert across[:-1] == [
            has_map and (here is UC or (here is WT and there is WB)) for here, there in pairwise(types)
        ]


@pytest.mark.needs_module
@pytest.mark.layout(EVERYTHING)
@EVERYTHING_IS_SAID
def test_what_is_said_with_mtrr_debug(guest: Guest) -> None:
    """What Linux has read at boot, fixed ranges of one type in one line (print_mtrr_state(), 6.5)."""
    if guest.version < (6, 5):
        pytest.skip("before 6.5 Linux has no parameter mtrr=debug")
    said = [line.partition("mtrr: ")[2] or line for line in guest.shell("dmesg").output.splitlines()]
    said = [line.partition("] ")[2] or line for line in said]
    start = said.index("MTRR default type: uncachable")
    assert said[start : start + 14] == [
        "MTRR default type: uncachable",
        "MTRR fixed ranges enabled:",
        "  00000-9FFFF write-back",
        "  A0000-BFFFF uncachable",
        "  C0000-FFFFF write-protect",
        "MTRR variable ranges enabled:",
        "  0 base 0000000000000 mask 000FFF0000000 write-back",
        "  1 base 00000C0000000 mask 000FFF0000000 write-back",
        "  2 base 00000C4000000 mask 000FFFC000000 write-through",
        "  3 base 00000C8000000 mask 000FFFFE00000 uncachable",
        "  4 base 00000FD000000 mask 000FFFF800000 write-combining",
        "  5 base 00000FD800000 mask 000FFFFFF0000 write-protect",
        "  6 base 0000200000000 mask 000FE00000000 write-back",
        "  7 disabled",
    ]


@pytest.mark.needs_module
@pytest.mark.layout(EVERYTHING)
@EVERYTHING_IS_SAID
def test_what_is_said_with_debugpat(guest: Guest) -> None:
    """Each reservation of device memory, and each that is given back. Names are Linux'."""
    bar = guest.mmio(pages=2)
    first, last = f"{bar.start:#010x}", f"{bar.end - 1:#010x}"
    drm = guest.driver("drm")
    mapped = drm.ioremap(bar, WC)
    assert mapped.mapping
    drm.release(mapped.mapping)
    said = [line.partition("x86/PAT: ")[2] for line in guest.log if first in line]
    assert said == [
        f"memtype_reserve added [mem {first}-{last}], track write-combining, req write-combining, "
        "ret write-combining",
        f"memtype_free request [mem {first}-{last}]",
    ]


def look_up(guest: Guest, start: int, end: int) -> tuple[int, bool]:
    """The type, and whether all of the range has it."""
    called = guest.kernel.call("mtrr_type_lookup", start, end, InMemory(), memory=[0xFF])
    return called.returned & 0xFF, bool(called.memory[0] & 0xFF)
