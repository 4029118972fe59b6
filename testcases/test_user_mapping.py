"""Processes that map device memory, beside each other and beside drivers.

"Rules" is as in test_multi_driver.py; here it is ``track_pfn_remap()`` of
``arch/x86/mm/pat/memtype.c`` and, from 6.16 on, ``pfnmap_track()``.
"""

from __future__ import annotations

import errno
import itertools
import re

import pytest

from pytest_memtype import EffectiveType, Guest, MemType, Process, ProcessFault, Region

pytestmark = pytest.mark.needs_module

UC, UC_MINUS, WC, WT, WB = MemType.UC, MemType.UC_MINUS, MemType.WC, MemType.WT, MemType.WB

TYPES = (UC_MINUS, UC, WC, WT, WB)

# What the page table holds for the second of two whole mappings of the same pages through
# remap_pfn_range(); None: EINVAL. "Same table" as for ioremap, says rules, 2.4.
FIRMWARE: dict[MemType, tuple[MemType | None, ...]] = {
    #          UC-       UC        WC        WT        WB
    UC_MINUS: (UC_MINUS, UC_MINUS, UC_MINUS, UC_MINUS, UC_MINUS),
    UC: (UC, UC, UC, UC, UC),
    WC: (WC, WC, WC, None, WC),
    WT: (WT, WT, WT, WT, WT),
    # The MTRRs of the firmware turn a request for WB into UC-.
    WB: (UC_MINUS, UC_MINUS, UC_MINUS, UC_MINUS, UC_MINUS),
}

# The last row where the MTRRs say WB: "only WC-then-WT, and WB-then-{UC-,WC,WT}, give EINVAL".
BESIDE_WRITE_BACK: dict[MemType, MemType | None] = {UC_MINUS: None, UC: WB, WC: None, WT: None, WB: WB}


def alone(memtype: MemType) -> MemType | None:
    """What a mapping gets that nothing else is in the way of: its type again when asked for twice."""
    return FIRMWARE[memtype][TYPES.index(memtype)]


def kernel_types(guest: Guest, region: Region) -> list[MemType]:
    return [entry.memtype for entry in guest.memtype_list(region)]


def owners(guest: Guest, region: Region) -> list[str]:
    return sorted(mapping.owner for mapping in guest.tracked(region))


def assert_gone(guest: Guest, region: Region) -> None:
    assert guest.tracked(region) == ()
    assert guest.memtype_list(region) == ()


@pytest.mark.layout("firmware")
@pytest.mark.parametrize(
    ("first", "second"), list(itertools.product(TYPES, TYPES)), ids=lambda memtype: memtype.name
)
def test_two_processes(guest: Guest, first: MemType, second: MemType) -> None:
    """User against user, every ordered pair of types."""
    bar = guest.mmio(pages=4)
    x, y = guest.process("X"), guest.process("Y")
    expected = FIRMWARE[first][TYPES.index(second)]

    one = x.mmap(bar, first)
    assert one.verdict.accepted
    assert one.kernel.accepted
    assert one.granted is alone(first)

    two = y.mmap(bar, second)
    assert two.verdict.accepted == (second is first)
    if second is not first:
        assert two.verdict.rule == "alias"
        assert two.verdict.conflict is not None
        assert two.verdict.conflict.owner == "X"
        assert two.verdict.conflict.kind == "user"
        assert two.verdict.conflict.pid == x.pid
    assert two.kernel.accepted == (expected is not None)
    assert two.kernel.errno == (0 if expected is not None else errno.EINVAL)
    assert two.granted is expected

    assert owners(guest, bar) == (["X", "Y"] if second is first else ["X"])
    assert len(kernel_types(guest, bar)) == (1 if expected is None else 2)
    x.exit()
    y.exit()
    assert_gone(guest, bar)


@pytest.mark.layout("wb-device")
@pytest.mark.parametrize("second", TYPES, ids=lambda memtype: memtype.name)
def test_beside_a_write_back_mapping(guest: Guest, second: MemType) -> None:
    """Real write-back device memory: Linux refuses to weaken it, but for UC, which silently gets WB."""
    bar = guest.mmio(pages=4)
    one = guest.process("X").mmap(bar, WB)
    two = guest.process("Y").mmap(bar, second)
    expected = BESIDE_WRITE_BACK[second]

    assert one.accepted
    assert one.effective is EffectiveType.WB
    assert two.verdict.accepted == (second is WB)
    assert two.kernel.accepted == (expected is not None)
    assert two.kernel.errno == (0 if expected is not None else errno.EINVAL)
    assert two.granted is expected
    assert kernel_types(guest, bar) == [WB] * (1 if expected is None else 2)
    if expected is None:
        message = f"expected mapping type {second.kernel_name} for"
        assert any(message in line and line.endswith("got write-back") for line in two.kernel.log)
    assert owners(guest, bar) == (["X", "Y"] if second is WB else ["X"])


@pytest.mark.layout("firmware")
@pytest.mark.parametrize(
    ("first", "second"),
    [(WC, WC), (WC, UC_MINUS), (WC, WT), (UC_MINUS, WC), (UC_MINUS, UC_MINUS), (UC, WC), (WT, WC), (WB, WC)],
    ids=lambda memtype: memtype.name,
)
@pytest.mark.parametrize("user_first", [True, False], ids=["user-first", "driver-first"])
def test_process_and_driver(guest: Guest, first: MemType, second: MemType, user_first: bool) -> None:
    """User against kernel, both ways round: both count, both are named."""
    bar = guest.mmio(pages=4)
    driver, process = guest.driver("drm"), guest.process("X")
    expected = FIRMWARE[first][TYPES.index(second)]

    if user_first:
        one, two = process.mmap(bar, first), driver.ioremap(bar, second)
    else:
        one, two = driver.ioremap(bar, first), process.mmap(bar, second)

    assert one.verdict.accepted
    assert one.granted is alone(first)
    assert two.verdict.accepted == (second is first)
    if second is not first:
        assert two.verdict.conflict is not None
        assert two.verdict.conflict.owner == ("X" if user_first else "drm")
        assert two.verdict.conflict.kind == ("user" if user_first else "kernel")
    assert two.granted is expected
    both = [("X", "user"), ("drm", "kernel")] if user_first else [("drm", "kernel"), ("X", "user")]
    kinds = {(mapping.owner, mapping.kind) for mapping in guest.tracked(bar)}
    assert kinds == set(both if second is first else both[:1])
    assert kernel_types(guest, bar) == [alone(first)] * (1 if expected is None else 2)


# What the way asks for, and what it gets on device memory under UC MTRRs when it is alone.
WAYS = [
    ("driver", WC, WC),
    ("driver", UC_MINUS, UC_MINUS),
    ("sysfs", WC, WC),
    ("sysfs", UC_MINUS, UC_MINUS),
    ("devmem", UC_MINUS, UC_MINUS),
    ("devmem", WB, UC_MINUS),
]


@pytest.mark.layout("firmware")
@pytest.mark.parametrize(("via", "memtype", "granted"), WAYS)
def test_each_way_alone(guest: Guest, via: str, memtype: MemType, granted: MemType) -> None:
    """Every way in is judged, granted and tracked, and gone with the process."""
    bar = guest.mmio(pages=4)
    process = guest.process("X")

    outcome = process.mmap(bar, memtype, via=via)

    assert outcome.verdict.accepted
    assert outcome.kernel.accepted
    assert outcome.granted is granted
    (mapping,) = guest.tracked(bar)
    assert (mapping.owner, mapping.kind, mapping.pid, mapping.memtype) == ("X", "user", process.pid, memtype)
    assert mapping.address == outcome.address != 0
    assert kernel_types(guest, bar) == [granted]
    process.exit()
    assert_gone(guest, bar)


@pytest.mark.layout("firmware")
@pytest.mark.parametrize(("via", "memtype", "granted"), WAYS)
def test_each_way_beside_a_driver(guest: Guest, via: str, memtype: MemType, granted: MemType) -> None:
    """A driver has the pages WC: the verifier refuses all but WC, Linux gives everybody WC."""
    del granted
    bar = guest.mmio(pages=4)
    assert guest.driver("drm").ioremap(bar, WC).accepted

    outcome = guest.process("X").mmap(bar, memtype, via=via)

    assert outcome.verdict.accepted == (memtype is WC)
    assert outcome.kernel.accepted
    # Rules on /dev/mem: "takes over any existing type (UC-, WC, WT) silently".
    assert outcome.granted is WC
    assert owners(guest, bar) == (["X", "drm"] if memtype is WC else ["drm"])
    assert kernel_types(guest, bar) == [WC, WC]
    assert not any("expected mapping type" in line for line in outcome.kernel.log)


@pytest.mark.layout("firmware")
def test_memory_is_really_shared(guest: Guest) -> None:
    """What one process writes another reads: these are mappings of one page, not of two."""
    bar = guest.mmio(pages=2)
    x, y = guest.process("X"), guest.process("Y")
    one, two = x.mmap(bar, WC), y.mmap(bar, WC, via="sysfs")
    assert one.mapping is not None
    assert two.mapping is not None

    x.write(one.mapping, page=1, value=0xC0FFEE)

    assert y.read(two.mapping, page=1) == 0xC0FFEE


@pytest.mark.layout("firmware")
def test_fork_duplicates(guest: Guest) -> None:
    """fork() counts again, for the child; parent and child let go independently."""
    bar = guest.mmio(pages=4)
    parent = guest.process("X")
    outcome = parent.mmap(bar, WC)
    assert outcome.accepted
    assert outcome.mapping is not None

    child = parent.fork("Y")

    assert owners(guest, bar) == ["X", "Y"]
    assert {mapping.pid for mapping in guest.tracked(bar)} == {parent.pid, child.pid}
    assert child.page_table(outcome.mapping, guest.registers()[0]) == (WC,) * 4
    # Rules, 2.5: one more entry for the child; since 6.16 both share one context.
    assert kernel_types(guest, bar) == [WC] * (1 if guest.version >= (6, 16) else 2)
    parent.exit()
    assert owners(guest, bar) == ["Y"]
    assert kernel_types(guest, bar) == [WC]
    assert guest.verify(bar, UC).rule == "alias"
    child.exit()
    assert_gone(guest, bar)


@pytest.mark.layout("firmware")
@pytest.mark.parametrize(
    ("offset", "left"), [(0, [(2, 2)]), (2, [(0, 2)]), (1, [(0, 1), (3, 1)])], ids=["head", "tail", "middle"]
)
@pytest.mark.parametrize("via", ["driver", "sysfs"])
def test_partial_munmap_splits(guest: Guest, via: str, offset: int, left: list[tuple[int, int]]) -> None:
    """What is left of a mapping stays tracked, page for page, and what is gone is free."""
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    outcome = process.mmap(bar, WC, via=via)
    assert outcome.mapping is not None

    assert process.munmap(outcome.mapping, offset=offset, pages=2) == 0

    regions = [mapping.region for mapping in guest.tracked(bar)]
    assert regions == [bar[first : first + pages] for first, pages in left]
    # The address goes with the pages: what is behind the gap is where it was.
    start = min(mapping.address - (mapping.region.start - bar.start) for mapping in guest.tracked(bar))
    for mapping in guest.tracked(bar):
        assert mapping.memtype is WC
        assert mapping.address == start + (mapping.region.start - bar.start)
        maps = guest.shell(f"cat /proc/{process.pid}/maps").output
        assert re.search(rf"^0*{mapping.address:x}-", maps, re.MULTILINE)
    assert guest.verify(bar[offset : offset + 2], UC).accepted
    registers = guest.registers()[0]
    types = process.page_table(outcome.mapping, registers)
    assert types == tuple(None if offset <= page < offset + 2 else WC for page in range(4))
    process.exit()
    assert guest.tracked(bar) == ()


@pytest.mark.layout("firmware")
def test_a_childs_split_goes_by_its_own_name(guest: Guest) -> None:
    bar = guest.mmio(pages=4)
    parent = guest.process("X")
    outcome = parent.mmap(bar, WC)
    assert outcome.mapping is not None
    child = parent.fork("Y")

    assert child.munmap(outcome.mapping, offset=1, pages=1) == 0

    found = {(mapping.owner, mapping.pid, mapping.region) for mapping in guest.tracked(bar)}
    assert found == {
        ("X", parent.pid, bar),
        ("Y", child.pid, bar[0]),
        ("Y", child.pid, bar[2:4]),
    }


@pytest.mark.layout("firmware")
@pytest.mark.parametrize(
    "region", [Region(0xFD000000, 0), Region((1 << 64) - 4096, 2), Region(0xFD000000, (1 << 52) + 1)]
)
def test_malformed_mappings(guest: Guest, region: Region) -> None:
    """Rule 0a comes first, also where the kernel refuses before any driver is asked."""
    outcome = guest.process("X").mmap(region, WC)

    assert outcome.verdict.rule == "malformed"
    assert outcome.kernel.rejected
    assert outcome.mapping is None
    assert guest.tracked(observed=False) == ()


@pytest.mark.layout("firmware")
def test_unmapped_pages_are_gone(guest: Guest) -> None:
    process = guest.process("X")
    outcome = process.mmap(guest.mmio(pages=2), WC)
    assert outcome.mapping is not None
    process.munmap(outcome.mapping, offset=1, pages=1)

    with pytest.raises(ProcessFault) as fault:
        process.read(outcome.mapping, page=1)

    assert fault.value.signal == 11


@pytest.mark.layout("firmware")
@pytest.mark.parametrize("uid", [0, 1000])
def test_who_may_map(guest: Guest, uid: int) -> None:
    """The agent's device is for everybody; /dev/mem and sysfs are for root."""
    bar = guest.mmio(pages=1)
    process: Process = guest.process("X", uid=uid)

    assert process.mmap(bar, WC).accepted
    if uid == 0:
        assert process.mmap(bar, WC, via="sysfs").accepted
    else:
        outcome = process.mmap(bar, WC, via="sysfs")
        assert outcome.kernel.errno == errno.EACCES
        assert outcome.mapping is None


@pytest.mark.layout("firmware")
@pytest.mark.parametrize("memtype", [WC, UC_MINUS, UC, WB], ids=lambda memtype: memtype.name)
def test_ram_is_refused_unless_write_back(guest: Guest, memtype: MemType) -> None:
    """Rule 1 for a process; Linux maps RAM with the type the page has, whatever was asked for."""
    ram = guest.ram(pages=2)

    outcome = guest.process("X").mmap(ram, memtype)

    assert outcome.verdict.accepted == (memtype is WB)
    assert outcome.verdict.rule == (None if memtype is WB else "ram-not-wb")
    assert outcome.kernel.accepted
    assert outcome.granted is WB
    asked_otherwise = [line for line in outcome.kernel.log if "map pfn RAM range req" in line]
    assert bool(asked_otherwise) == (memtype is not WB)
    assert owners(guest, ram) == (["X"] if memtype is WB else [])


@pytest.mark.needs_config("DEVMEM")
@pytest.mark.layout("firmware")
def test_enforce_refuses_a_process(guest: Guest) -> None:
    """In enforce mode the process gets the verifier's errno, by any way."""
    guest.policy.enforce = True
    bar = guest.mmio(pages=2)
    assert guest.driver("drm").ioremap(bar, WC).accepted
    process = guest.process("X")

    for via in ("driver", "sysfs", "devmem"):
        outcome = process.mmap(bar, UC_MINUS, via=via)
        assert outcome.verdict.rule == "alias"
        assert not outcome.kernel.asked
        assert outcome.mapping is None
    assert owners(guest, bar) == ["drm"]
    assert kernel_types(guest, bar) == [WC]
