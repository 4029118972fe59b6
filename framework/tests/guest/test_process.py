"""Processes and the agent's side of them, in a real guest that all tests of this file share."""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType, SyscallAnswer, SyscallRefused
from pytest_memtype.errors import AgentError, ProcessDied, UsageError
from pytest_memtype.guest.process import Process

pytestmark = pytest.mark.shared_guest

WC = MemType.WC


def test_what_a_process_is_asked_in_vain(guest: Guest) -> None:
    process = guest.process("X")
    bar = guest.mmio(pages=2)
    with pytest.raises(UsageError, match=r"can't map via 'ioctl'; it knows driver, insert_pfn, "):
        process.mmap(bar, WC, via="ioctl")
    with pytest.raises(UsageError, match=r"can't be killed at 'noon'; it can at mmap, open, "):
        process.kill(at="noon")
    mapping = guest.driver("drm").ioremap(bar, WC).mapping
    assert mapping is not None
    with pytest.raises(UsageError, match="is a driver's"):
        process.mremap(mapping)


@pytest.mark.parametrize(
    ("verb", "fields", "error"),
    [
        ("mremap", {"process": "X", "handle": 1}, "mremap: the process has no mapping 1"),
        ("kill_at", {"process": "X", "kill_point": "noon"}, "kill_at: kill_point=noon is not known"),
        ("kill", {"process": "nobody"}, "kill: there is no process nobody"),
        ("mremap", {"handle": 1}, "mremap: there is no such verb without a process"),
        ("bogus", {"process": "X"}, "bogus: there is no such verb"),
        ("zap", {"start": 0xFD000001, "pages": 1}, "zap: the module says Invalid argument"),
        ("zap", {"start": 0xFD000000, "pages": 1 << 52}, "zap: the module says Invalid argument"),
    ],
)
def test_malformed_requests(guest: Guest, verb: str, fields: dict[str, str | int], error: str) -> None:
    """Each is one line, and the agent goes on."""
    guest.process("X")
    with pytest.raises(AgentError, match=f"^{error}$"):
        guest._agent.call(verb, **fields)
    assert guest.tracked(guest.mmio(pages=1)) == ()


@pytest.mark.parametrize("part", ["part_first=5", "part_first=1 part_pages=4", "part_pages=0"])
def test_malformed_parts(guest: Guest, part: str) -> None:
    guest.process("X")
    bar = guest.mmio(pages=4)
    fields = dict(field.split("=") for field in part.split())
    with pytest.raises(AgentError, match=r"^mmap: part_first=\d part_pages=\d is no part of 4 pages$"):
        guest._agent.call(
            "mmap", process="X", via="driver", start=bar.start, pages=4, memtype=int(WC), **fields
        )
    assert guest.tracked(bar) == ()


def test_no_size_is_too_large(guest: Guest) -> None:
    process = guest.process("X")
    mapping = process.mmap(guest.mmio(pages=1), WC).mapping
    assert mapping is not None
    with pytest.raises(AgentError, match="is more than there is"):
        process.mremap(mapping, new_pages=1 << 60, move=True)
    with pytest.raises(OSError, match="mremap"):
        process.mremap(mapping, new_pages=1 << 40, move=True)


def test_all_system_calls_answer_alike(guest: Guest) -> None:
    """Those that give something raise where there is none, with the same in the exception."""
    process = guest.process("X")
    mapping = process.mmap(guest.mmio(pages=2), WC).mapping
    assert mapping is not None
    protected = process.mprotect(mapping, "r", offset=1)
    assert (protected.accepted, protected.rejected, protected.errno) == (True, False, 0)
    assert protected == 0
    unmapped = process.munmap(mapping, pages=1)
    assert (unmapped.accepted, str(unmapped)) == (True, "accepted")
    refused = SyscallAnswer(errno.EINVAL)
    assert (refused.accepted, refused.rejected, refused.errno, str(refused)) == (False, True, 22, "EINVAL")
    assert refused == errno.EINVAL
    with pytest.raises(SyscallRefused) as caught:
        process.mremap(mapping, offset=1, dont_unmap=True)
    moved = caught.value
    assert (moved.accepted, moved.rejected, moved.errno, moved.log) == (False, True, errno.EINVAL, ())
    added = process.mtrr_add(0xFD000000, 4097, WC)
    assert (added.accepted, added.rejected, added.errno) == (False, True, errno.EINVAL)


def test_no_two_mappings_share_a_handle_or_an_address(guest: Guest) -> None:
    """Not those of two processes, and not those before and after exec()."""
    bar = guest.mmio(pages=1)
    x, y = guest.process("X"), guest.process("Y")
    seen = set()
    for process in (x, y):
        for _ in range(3):
            mapping = process.mmap(bar, WC).mapping
            assert mapping is not None
            seen.add(mapping.handle)
            if process is x:
                assert process.munmap(mapping) == 0
        process.exec()
    child = x.fork("Z")
    for process in (x, y, child):
        mapping = process.mmap(bar, WC).mapping
        assert mapping is not None
        seen.add(mapping.handle)
    assert len(seen) == 9
    first, second = (child.mmap(bar, WC).address for _ in range(2))
    assert first != second


def test_exec_keeps_the_user(guest: Guest) -> None:
    process = guest.process("X", uid=1000)
    process.exec()
    status = guest.shell(f"cat /proc/{process.pid}/status").output
    assert "Name:\tX\n" in status
    assert "Uid:\t1000\t1000\t1000\t1000\n" in status
    assert process.mmap(guest.mmio(pages=1), WC).accepted


def test_nobody_else_can_pass_for_a_process(guest: Guest) -> None:
    """No socket of the agent's can be connected to, and who a process is the kernel says."""
    process = guest.process("X", uid=1000)
    child = process.fork("Y")
    sockets = guest.shell("cat /proc/net/unix").output.splitlines()[1:]
    assert sockets
    # __SO_ACCEPTCON, which the fourth column shows for sockets that listen: include/uapi/linux/net.h.
    assert [line for line in sockets if int(line.split()[3], 16) & 1 << 16] == []
    status = guest.shell(f"cat /proc/{child.pid}/status").output
    assert "Name:\tY\n" in status
    assert f"PPid:\t{process.pid}\n" in status


def test_no_other_user_can_keep_an_agent_out(guest: Guest) -> None:
    """What one agent locks is root's alone."""
    assert guest.shell("ls -l /proc/vmallocinfo").output.startswith("-r--------")


def give_away(guest: Guest, process: Process) -> None:
    """End a process behind the agent's back; the next that starts in the guest has its number."""
    guest.shell(f"kill -9 {process.pid}")
    # A request of its own: before each one the agent waits for its children that have ended.
    assert guest.shell(f"echo {process.pid - 1} > /proc/sys/kernel/ns_last_pid").status == 0


def bystander_with_the_number_of(guest: Guest, process: Process) -> None:
    guest.shell(f"kill -9 {process.pid}")
    before = f"echo {process.pid - 1} > /proc/sys/kernel/ns_last_pid"
    started = guest.shell(f"{before}; sleep 1000 </dev/null >/dev/null 2>&1 & echo $!")
    assert int(started.output) == process.pid


def test_who_has_got_the_number_of_a_process_is_not_killed_for_it(guest: Guest) -> None:
    process = guest.process("X")
    bystander_with_the_number_of(guest, process)
    process.kill()
    assert guest.shell(f"cat /proc/{process.pid}/comm").output == "sleep\n"
    # Nor when the guest is given back.
    other = guest.process("Y")
    bystander_with_the_number_of(guest, other)
    guest.reset()
    assert guest.shell(f"cat /proc/{other.pid}/comm").output == "sleep\n"


def test_who_has_got_the_number_of_a_process_is_not_asked_for_its_areas(guest: Guest) -> None:
    process = guest.process("X")
    bystander_with_the_number_of(guest, process)
    with pytest.raises(ProcessDied, match=f"^process X \\(pid {process.pid}\\) died"):
        process.vmas()


def test_who_has_got_the_number_of_a_process_is_not_killed_at_its_moment(guest: Guest) -> None:
    process = guest.process("X")
    process.kill(at="mmap")
    give_away(guest, process)
    heir = guest.process("Y")
    assert heir.pid == process.pid
    assert heir.mmap(guest.mmio(pages=1), WC).accepted


def test_who_has_got_the_number_of_a_process_does_not_fail_for_it(guest: Guest) -> None:
    process = guest.process("X")
    with guest.faults.fail("remap_pfn_range", task=process, returns=-errno.ENOMEM) as fault:
        give_away(guest, process)
        heir = guest.process("Y")
        assert heir.pid == process.pid
        assert heir.mmap(guest.mmio(pages=1), WC).accepted
        assert fault.counts.calls == 0
