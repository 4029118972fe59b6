"""A machine whose owner lets tests use a part of its memory: all else is refused in the machine itself."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from pytest_memtype import MemType
from pytest_memtype.errors import AgentError, BootError, NotAllowed
from pytest_memtype.guest.device_memory import DEVICE_MEMORY
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.protocol import Line, decode_line
from pytest_memtype.guest.region import PAGE_SIZE
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.plugin.fixtures import GuestFactory

WC, UC_MINUS = MemType.WC, MemType.UC_MINUS

PAGES = 256
END = DEVICE_MEMORY + PAGES * PAGE_SIZE
ALLOWED = Hardware(cmdline=f"memtype_allowed={DEVICE_MEMORY:#x}-{END - 1:#x}")
NOTHING = Hardware(cmdline="memtype_allowed=none")

RAM = 0x4000000
"""In the middle of the guest's memory."""

OUTSIDE = {
    "behind": (END, 1),
    "across": (END - PAGE_SIZE, 2),
    "before": (DEVICE_MEMORY - PAGE_SIZE, 1),
    "all": (0, 1 << 52),
    "nothing": (DEVICE_MEMORY, 0),
    "wrapping": (DEVICE_MEMORY, (1 << 64) // PAGE_SIZE),
    "ram": (RAM, 1),
}


def _driver(verb: str) -> Callable[[Guest, int, int], object]:
    # Straight to the agent: what the framework itself refuses must not be what is tested.
    def call(guest: Guest, start: int, pages: int) -> object:
        return guest._agent.call(verb, owner="X", start=start, pages=pages, memtype=int(WC))

    return call


def _mmap(via: str, memtype: MemType) -> Callable[[Guest, int, int], object]:
    def call(guest: Guest, start: int, pages: int) -> object:
        guest.process("P")
        fields = {"start": start, "pages": pages, "memtype": int(memtype)}
        return guest._agent.call("mmap", process="P", via=via, **fields)

    return call


def _mtrr_add(guest: Guest, start: int, pages: int) -> object:
    guest.process("P")
    size = pages * PAGE_SIZE % (1 << 64)
    return guest._agent.call("mtrr_add", process="P", base=start, size=size, memtype=int(WC), held=0)


WAYS = {
    **{verb: _driver(verb) for verb in ("ioremap", "memremap", "set_memory", "set_pages_array")},
    **{verb: _driver(verb) for verb in ("reserve_wc", "phys_wc_add", "zap")},
    **{via: _mmap(via, WC) for via in ("driver", "insert_pfn", "noncached_writecombine")},
    "sysfs": _mmap("sysfs", WC),
    "devmem": _mmap("devmem", UC_MINUS),
    "mtrr_add": _mtrr_add,
}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_outside(guest_factory: GuestFactory, way: str) -> None:
    guest = guest_factory(hardware=ALLOWED)
    before = guest.memtype_list(), guest.mtrr_list()
    for start, pages in OUTSIDE.values():
        with pytest.raises(NotAllowed):
            WAYS[way](guest, start, pages)
        assert guest.tracked(observed=False) == ()
        assert (guest.memtype_list(), guest.mtrr_list()) == before
        guest.reset()


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("set_memory", "set_pages_array")])
def test_every_way_leads_to_what_is_allowed(guest_factory: GuestFactory, way: str) -> None:
    guest = guest_factory(hardware=ALLOWED)
    WAYS[way](guest, DEVICE_MEMORY, PAGES)


def test_the_machine_of_an_owner_who_allows_nothing(guest_factory: GuestFactory) -> None:
    guest = guest_factory(hardware=NOTHING)
    for way in WAYS.values():
        with pytest.raises(NotAllowed):
            way(guest, DEVICE_MEMORY, 1)
        # Its process, too: a second of the same name would be what is refused.
        guest.reset()
    assert guest.tracked(observed=False) == ()


@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        ("ram", {"pages": 1}),
        ("fault", {"function": "pte_alloc_one", "pid": 1, "after": 0, "times": 1, "returns": 0}),
        ("kernel_call", {"function": "memtype_free"}),
        ("kernel_pages", {"address": 0xFFFF888000000000, "pages": 1}),
        ("benchmark", {"records": 1, "operations": 1, "rounds": 1, "overlapping": 0, "kernel": 0}),
    ],
)
def test_what_only_a_guest_of_our_own_is_asked_for(
    guest_factory: GuestFactory, verb: str, fields: dict[str, str | int]
) -> None:
    guest = guest_factory(hardware=ALLOWED)
    with pytest.raises(NotAllowed):
        guest._agent.call(verb, **fields)


def test_no_ioctl_of_any_file(guest_factory: GuestFactory) -> None:
    """Nobody knows which memory it is about."""
    guest = guest_factory(hardware=ALLOWED)
    with pytest.raises(NotAllowed):
        guest.process("P").ioctl("/proc/mtrr", 0x40104D00, bytes(16))


def test_an_mtrr_that_was_there_stays(guest_factory: GuestFactory) -> None:
    guest = guest_factory(hardware=ALLOWED)
    guest.process("P")
    before = guest.mtrr_list()
    assert before
    with pytest.raises(NotAllowed):
        guest._agent.call("mtrr_delete", process="P", index=before[0].index)
    assert guest.mtrr_list() == before


def test_other_users_have_no_way_to_the_device(guest_factory: GuestFactory) -> None:
    guest = guest_factory(hardware=ALLOWED)
    assert guest.shell("stat -c %a /dev/memtype || ls -l /dev/memtype").output.startswith(
        ("600", "crw-------")
    )
    # A test's own process has, whatever its user, and so have its children.
    bar = guest.mmio(pages=2)
    process = guest.process("P", uid=1000)
    assert process.mmap(bar, WC).accepted
    assert process.fork("Q").mmap(bar, WC).accepted


def test_an_exec_that_would_lose_the_device_is_refused(guest_factory: GuestFactory) -> None:
    """The new image has to open it, as the user that the process is."""
    guest = guest_factory(hardware=ALLOWED)
    bar = guest.mmio(pages=1)
    process = guest.process("P", uid=1000)
    mapped = process.mmap(bar, WC).mapping
    assert mapped is not None
    with pytest.raises(OSError, match="exec of process P failed in the guest") as error:
        process.exec()
    assert error.value.errno == errno.EACCES
    assert process.munmap(mapped).accepted


@pytest.mark.parametrize(
    ("allowed", "why"),
    [
        (f"{RAM:#x}-{RAM + PAGE_SIZE - 1:#x}", "there is RAM in"),
        ("0x0-0xffffffffff", "there is RAM in"),
        ("0xfd000000-0xfd000001", "not whole pages"),
        ("0xfd000000", "no range"),
        ("0xfdffffff-0xfd000000", "not whole pages"),
        (",", "no range"),
    ],
)
def test_a_list_that_is_wrong(guest_factory: GuestFactory, allowed: str, why: str) -> None:
    with pytest.raises(BootError, match=why) as raised:
        guest_factory(hardware=Hardware(cmdline=f"memtype_allowed={allowed}"))
    assert raised.value.message.startswith("the agent can't start: can't load the module /memtype.ko")


def test_an_error_whose_line_is_damaged_is_one_all_the_same(
    guest_factory: GuestFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its module the guest would be taken for one whose kernel has none."""

    def damage(line: bytes) -> Line:
        return decode_line(line.replace(b'@0 {"error', b'@0 {"?rror'))

    monkeypatch.setattr("pytest_memtype.guest.agent.decode_line", damage)
    with pytest.raises(AgentError, match=r"can't load the module /memtype\.ko"):
        guest_factory(hardware=Hardware(cmdline=f"memtype_allowed={END:#x}"))
