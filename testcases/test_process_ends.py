"""How a process's mappings end: exec, SIGKILL from outside, and SIGKILL in the middle of what it does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_memtype import Guest, MemType, Process, ProcessDied, Region
from pytest_memtype.errors import AgentError
from pytest_memtype.guest.outcome import Mapping

UC_MINUS, WC = MemType.UC_MINUS, MemType.WC

pytestmark = [
    pytest.mark.layout("firmware"),
    pytest.mark.usefixtures("nothing_is_left"),
    pytest.mark.needs_module,
]

# Each way to map with a type that it can ask for.
WAYS = [("driver", WC), ("sysfs", WC), ("devmem", UC_MINUS), ("insert_pfn", WC)]

# What a process is told in the middle of which it is killed, and the moment of its death.
DEATHS: dict[str, tuple[str, Callable[[Process, Mapping, Mapping], object]]] = {
    "mmap": ("mmap", lambda process, mapping, _: process.mmap(mapping.region, WC)),
    "munmap of all": ("close", lambda process, mapping, _: process.munmap(mapping)),
    "munmap of the middle": (
        "open",
        lambda process, mapping, _: process.munmap(mapping, offset=1, pages=2),
    ),
    "mprotect of a half": ("open", lambda process, mapping, _: process.mprotect(mapping, "r", offset=2)),
    "mremap": ("open", lambda process, mapping, _: process.mremap(mapping, move=True)),
    "mremap of a part": (
        "close",
        lambda process, mapping, _: process.mremap(mapping, offset=1, pages=2, move=True),
    ),
    "fork": ("open", lambda process, _mapping, _: process.fork("child")),
    "touch": ("fault", lambda process, _, inserted: process.read(inserted, page=2)),
    "exec": ("close", lambda process, _mapping, _: process.exec()),
}


def mapped(process: Process, region: Region, memtype: MemType) -> Mapping:
    outcome = process.mmap(region, memtype)
    assert outcome.accepted
    assert outcome.mapping is not None
    return outcome.mapping


def owners(guest: Guest, region: Region) -> list[str]:
    return sorted(each.owner for each in guest.tracked(region))


@pytest.mark.parametrize(("via", "memtype"), WAYS)
def test_exec(guest: Guest, via: str, memtype: MemType) -> None:
    """exec() takes all mappings, and the process goes on: same name, same pid."""
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    outcome = process.mmap(bar, memtype, via=via)
    assert outcome.mapping is not None
    child = process.fork("Y")

    process.exec()

    assert owners(guest, bar) == ["Y"]
    assert process.vmas() == ()
    with pytest.raises(AgentError, match="has no mapping"):
        process.read(outcome.mapping, page=0)
    again = process.mmap(bar, memtype, via=via)
    assert again.verdict.accepted
    assert again.mapping is not None
    assert again.mapping.handle != outcome.mapping.handle
    assert owners(guest, bar) == ["X", "Y"]
    process.exit()
    child.exit()
    assert guest.tracked(bar) == ()
    assert guest.memtype_list(bar) == ()


@pytest.mark.parametrize("uid", [0, 1000])
def test_kill(guest: Guest, uid: int) -> None:
    """When kill() returns the mappings are gone; a process that isn't there is one clear error."""
    bar = guest.mmio(pages=4)
    process = guest.process("X", uid=uid)
    mapping = mapped(process, bar, WC)

    process.kill()

    assert guest.tracked(bar) == ()
    assert guest.memtype_list(bar) == ()
    with pytest.raises(AgentError, match=r"^munmap: there is no process X$"):
        process.munmap(mapping)


def test_killed_by_somebody(guest: Guest) -> None:
    """The next operation says so, once; the agent goes on."""
    bar = guest.mmio(pages=4)
    process, other = guest.process("X"), guest.process("Y")
    mapping = mapped(process, bar, WC)
    assert guest.shell(f"kill -9 {process.pid}").status == 0

    with pytest.raises(ProcessDied, match=rf"^process X \(pid {process.pid}\) died in the middle of munmap$"):
        process.munmap(mapping)

    assert guest.tracked(bar) == ()
    assert mapped(other, bar, UC_MINUS)


@pytest.mark.parametrize("death", DEATHS)
def test_killed_in_the_middle(guest: Guest, death: str) -> None:
    """SIGKILL arrives inside the kernel's function: half of it is done, all of it is cleaned up."""
    bar, touched = guest.mmio(pages=4), guest.mmio(pages=4)
    process, other = guest.process("X"), guest.process("Y")
    mapping = mapped(process, bar, WC)
    kept = mapped(other, bar, WC)
    inserted = process.mmap(touched, WC, via="insert_pfn").mapping
    assert inserted is not None
    moment, operation = DEATHS[death]
    process.kill(at=moment)

    with pytest.raises(ProcessDied, match=rf"^process X \(pid {process.pid}\) died in the middle of "):
        operation(process, mapping, inserted)

    assert [(each.owner, each.region, each.memtype) for each in guest.tracked(bar)] == [("Y", bar, WC)]
    assert guest.tracked(touched) == ()
    assert other.page_table(kept, guest.registers()[0]) == (WC,) * 4
    # The agent is well, and the name is free.
    assert guest.process("X").mmap(bar, WC).accepted
