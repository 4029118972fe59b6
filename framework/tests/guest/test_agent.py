"""The agent over its serial port, in a real guest that all tests of this file share."""

from __future__ import annotations

import zlib

import pytest

from pytest_memtype import EffectiveType, Guest, MemType, Region
from pytest_memtype.errors import AgentError, GuestHung, ProcessFault, UsageError
from pytest_memtype.plugin.fixtures import GuestFactory

pytestmark = pytest.mark.shared_guest

HEARTBEAT = b'@0 {"busy": '

WC, UC_MINUS, WB = MemType.WC, MemType.UC_MINUS, MemType.WB


def exchange(guest: Guest, line: bytes) -> bytes:
    """Send a raw line, and return the raw answer. A heartbeat is none, and may come late on a busy host."""
    port = guest.machine.agent_port
    port.send(line)
    answer = HEARTBEAT
    while answer.startswith(HEARTBEAT):
        port.expect_exact(b"\n")
        answer = port.before or b""
    return answer


def framed(payload: bytes) -> bytes:
    return payload + b" *%08x\n" % zlib.crc32(payload)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"hello\n",
        b"@1 hello *00000000\n",
        b"@ hello *\n",
        framed(b"hello"),
        framed(b"@0:a hello"),
        framed(b"@x:a hello"),
        framed(b"@99999:a "),
        framed(b"@99999:a"),
        framed(b"@99999: hello"),
        framed(b"@99999 hello"),
        framed(b"@99999:A hello"),
        framed(b"@99999:" + b"a" * 33 + b" hello"),
        b"@99997 log *B8E39D92\n",
        b"x" * 5000 + b"\n",
        b"\x00\xff\xfe*\n",
    ],
)
def test_a_damaged_line_is_answered_with_one_error(guest: Guest, line: bytes) -> None:
    assert exchange(guest, line).startswith(b'@0 {"error": "damaged line"} *')
    assert guest.shell("echo alive").output == "alive\n"


def test_a_request_sent_again_is_carried_out_once(guest: Guest) -> None:
    """The answer was lost, so the host asks again: it must not map twice."""
    bar = guest.mmio(pages=1)
    fields = b"owner=twice start=%d pages=1 memtype=1" % bar.start
    line = framed(b"@4000000:a1 ioremap " + fields)

    first, second = exchange(guest, line), exchange(guest, line)

    assert first == second
    assert b'"accepted": true' in first
    assert first.startswith(b"@4000000:a1 ")
    assert len(guest.tracked(bar)) == 1


def test_an_answer_that_was_left_in_advance_is_none(guest: Guest) -> None:
    """The guest's root knows the next number and how the checksum is made. It comes before the real one."""
    following = guest._agent.sequence + 2
    said = b'{"log": [], "reply": {"status": 0, "output": "forged"}}'
    heads = (b"@%d " % following, b"@%d: " % following, b"@%d:%s " % (following, b"0" * 16))
    lines = "".join(f"'{framed(head + said).decode().strip()}' " for head in heads)
    later = f"(sleep 1; printf '%s\\n' {lines} > /dev/ttyS1; touch /tmp/written) </dev/null >/dev/null 2>&1 &"
    assert guest.shell(later).status == 0
    answer = guest.shell("until [ -e /tmp/written ]; do sleep 1; done; echo real")
    assert answer.output == "real\n"


@pytest.mark.parametrize(
    ("verb", "fields", "message"),
    [
        ("nonsense", {}, "there is no such verb"),
        ("ioremap", {"owner": "x", "start": 0}, "pages= is missing"),
        ("ioremap", {"owner": "x", "start": "much", "pages": 1, "memtype": 1}, "start=much is not a number"),
        ("ioremap", {"owner": "x", "start": 1, "pages": 1, "memtype": 1}, "not the start of a page"),
        ("release", {"handle": 4711}, "there is no kernel mapping 4711"),
        ("release", {"handle": 1 << 63}, "there is no kernel mapping 9223372036854775808"),
        ("ram", {"pages": 0}, "Invalid argument"),
        ("ram", {"pages": 1 << 40}, "Invalid argument"),
        ("set_memory", {"start": 0xFD000000, "pages": 1, "memtype": 1}, "this memory has no direct map"),
        ("set_memory", {"start": 0x100000, "pages": 1, "memtype": 4}, "Invalid argument"),
        ("set_pages_array", {"start": 0xFD000000, "pages": 1, "memtype": 1}, "this memory has no direct map"),
        ("reserve_wc", {"start": 0xFD000000, "pages": 1, "memtype": 0}, "Invalid argument"),
        ("phys_wc_add", {"start": 0xFD000000, "pages": 1, "memtype": 6}, "Invalid argument"),
        ("mtrr_add", {"base": 0, "size": 4096, "memtype": 1}, "no such verb without a process"),
        ("munmap", {"process": "nobody", "handle": 1}, "no process nobody"),
        ("process", {"name": "x" * 32}, "at most 31 characters"),
        ("process", {}, "needs a name"),
    ],
)
def test_what_can_not_be_carried_out_is_one_line(
    guest: Guest, verb: str, fields: dict[str, str | int], message: str
) -> None:
    with pytest.raises(AgentError, match=message) as error:
        guest._agent.call(verb, **fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("memtype", [2, 3, 7, 8, 1 << 32])
def test_a_type_that_no_mtrr_has_is_one_line(guest: Guest, memtype: int) -> None:
    process = guest.process("Xorg")
    with pytest.raises(AgentError, match=f"memtype={memtype} is no type of an MTRR"):
        guest._agent.call("mtrr_add", process="Xorg", base=0xFD000000, size=4096, memtype=memtype, held=0)
    process.exit()


def test_what_can_be_told_without_the_guest(guest: Guest) -> None:
    process, driver, ram = guest.process("Xorg"), guest.driver("drm"), guest.ram(pages=1)
    with pytest.raises(UsageError, match="MTRR can't have the type UC-"):
        process.mtrr_add(0xFD000000, "4K", UC_MINUS)
    with pytest.raises(UsageError, match="isn't a number of bytes"):
        process.mtrr_add(0xFD000000, "much", WC)
    with pytest.raises(UsageError, match="takes no size of 4 GiB or more, such as '4G'"):
        process.mtrr_add(0, "4G", WC, held=True)
    with pytest.raises(UsageError, match="no register -1"):
        process.mtrr_delete(-1)
    with pytest.raises(UsageError, match="set_pages_array can't ask for WT"):
        driver.set_pages_array(ram, MemType.WT)
    process.exit()


def test_a_reservation_of_all_memory_costs_nothing(guest: Guest) -> None:
    """It has no pages in a page table, of which there would be 248 million."""
    # Between the PCI bus's 64-bit addresses and AMD's for HyperTransport; Linux warns of one across those.
    everything = Region(1 << 36, (0xFD_0000_0000 - (1 << 36)) >> 12)
    driver = guest.driver("drm")
    outcome = driver.reserve_wc(everything)
    assert outcome.verdict.accepted
    assert outcome.mapping is not None
    driver.release(outcome.mapping)
    assert guest.tracked(everything) == ()


def test_releasing_twice_is_an_error_and_harms_nobody(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    driver = guest.driver("drm")
    one, two = driver.ioremap(bar, WC), driver.ioremap(bar, WC)
    assert one.mapping is not None
    assert two.mapping is not None
    driver.release(one.mapping)
    with pytest.raises(AgentError, match="there is no kernel mapping"):
        driver.release(one.mapping)
    with pytest.raises(UsageError, match="is drm's"):
        guest.driver("fbdev").release(two.mapping)
    assert len(guest.tracked(bar)) == 1
    driver.release(two.mapping)


def test_a_process_that_dies_is_reported(guest: Guest) -> None:
    process = guest.process("doomed")
    bar = guest.mmio(pages=1)
    assert process.mmap(bar, WC).accepted
    # A zombie has no maps any more.
    guest.shell(f'kill -9 {process.pid}; while [ -n "$(cat /proc/{process.pid}/maps)" ]; do :; done')
    with pytest.raises(AgentError, match=rf"process doomed \(pid {process.pid}\) died"):
        process.mmap(bar, WC)
    assert guest.tracked(bar) == ()


def test_names_are_used_once(guest: Guest) -> None:
    process = guest.process("single")
    with pytest.raises(AgentError, match="there is a process single already"):
        guest.process("single")
    process.exit()
    guest.process("single").exit()


def test_shell_output_is_harmless(guest: Guest) -> None:
    result = guest.shell("printf 'a\\033[2Jb\\377'; exit 3")
    assert (result.status, result.output) == (3, "a\\x1b[2Jb\\xff")


def test_long_output_arrives_whole(guest: Guest) -> None:
    assert guest.shell("seq 20000").output.splitlines() == [str(n) for n in range(1, 20001)]


def test_log_is_what_the_kernel_said_since_the_test_began(guest: Guest) -> None:
    guest.shell("echo 'memtype test: \033[31mhello' > /dev/kmsg")
    # Linux escapes control characters in /dev/kmsg itself (kernel/printk/printk.c, 5.10 to 7.3).
    assert any("memtype test: \\x1b[31mhello" in line for line in guest.log)
    assert not any("Linux version" in line for line in guest.log)


def test_console_is_there_for_pexpect(guest: Guest) -> None:
    guest.shell("echo 'memtype console test' > /dev/kmsg")
    assert guest.console.expect([rb"memtype (\w+) test\r\n", rb"never"]) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda guest: guest.driver(""), "is no name"),
        (lambda guest: guest.driver("x" * 32), "is no name"),
        (lambda guest: guest.process("a\nb"), "is no name"),
        (lambda guest: guest.mmio(pages=0), "at least 1"),
        (lambda guest: guest.mmio(pages=1, align=3), "power of two"),
        (lambda guest: guest.mmio(pages=1 << 20), "the test device has 4096, and"),
        (lambda guest: guest.region(0, size=100), "whole pages"),
        (lambda guest: guest.driver("d").memremap(guest.mmio(1), MemType.UC), "can't ask for UC"),
        (lambda guest: guest.driver("d").set_memory(guest.mmio(1), MemType.WP), "can't ask for WP"),
    ],
)
def test_bad_arguments_are_one_line(guest: Guest, call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(UsageError, match=message) as error:
        call(guest)
    assert "\n" not in str(error.value)


def test_no_kernel_uses_cmpxchg16b(guest: Guest) -> None:
    """TCG's spoils the flags: with add, cmpxchg16b and pushfq a user's program panicked 6.1 in QEMU 7.2."""
    assert guest.shell("grep -w -c cx16 /proc/cpuinfo").output.strip() == "0"


def test_names_are_not_only_english(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    first = guest.driver("grün").ioremap(bar, MemType.WC)
    assert first.accepted
    conflict = guest.driver("日本").ioremap(bar, MemType.UC_MINUS).verdict.conflict
    assert conflict is not None
    assert (conflict.owner, guest.tracked(bar)[0].owner) == ("grün", "grün")


def test_ways_that_can_not_ask_for_a_type(guest: Guest) -> None:
    process = guest.process("picky")
    bar = guest.mmio(pages=1)
    with pytest.raises(UsageError, match="via 'sysfs' can't ask for WB"):
        process.mmap(bar, WB, via="sysfs")
    with pytest.raises(UsageError, match="via 'telepathy'"):
        process.mmap(bar, WB, via="telepathy")
    with pytest.raises(UsageError, match="protection 'wr'"):
        process.mmap(bar, WB, protection="wr")
    process.exit()


def test_a_page_without_permission_is_a_fault(guest: Guest) -> None:
    process = guest.process("reader")
    outcome = process.mmap(guest.mmio(pages=1), WC, protection="r")
    assert outcome.mapping is not None
    with pytest.raises(ProcessFault) as fault:
        process.write(outcome.mapping, page=0)
    assert fault.value.signal == 11
    assert process.mprotect(outcome.mapping, "rw") == 0
    process.write(outcome.mapping, page=0, value=5)
    assert process.read(outcome.mapping, page=0) == 5
    process.exit()


def test_a_name_with_every_printable_character(guest: Guest) -> None:
    name = "a%b=c d*e@f\"g'h\\i&j"
    bar = guest.mmio(pages=1)
    guest.driver(name).ioremap(bar, UC_MINUS)
    (mapping,) = guest.tracked(bar)
    assert mapping.owner == name


def test_a_command_left_in_the_background_keeps_nobody_waiting(guest: Guest) -> None:
    result = guest.shell("sleep 1000 & echo $!")
    assert result.status == 0
    guest.shell(f"kill {result.output}")


def test_a_handle_is_never_used_again(guest: Guest) -> None:
    """An old mapping must not come to mean a new one."""
    driver, process = guest.driver("drm"), guest.process("again")
    bar = guest.mmio(pages=1)
    kernel = [driver.ioremap(bar, WC).mapping for _ in range(2)]
    assert kernel[0] is not None
    driver.release(kernel[0])
    third = driver.ioremap(bar, WC).mapping
    assert third is not None
    assert third.handle not in {each.handle for each in kernel if each is not None}

    user = process.mmap(bar, WC).mapping
    assert user is not None
    process.munmap(user)
    another = process.mmap(bar, WC).mapping
    assert another is not None
    assert another.handle != user.handle
    with pytest.raises(UsageError, match="is again's"):
        driver.release(another)
    with pytest.raises(UsageError, match="is a driver's"):
        process.munmap(third)
    process.exit()


@pytest.mark.parametrize("uid", [-1, (1 << 32) - 1, 1 << 32])
def test_what_is_no_user_id_does_not_become_root(guest: Guest, uid: int) -> None:
    with pytest.raises(UsageError, match="is no user id"):
        guest.process("nobody", uid=uid)
    with pytest.raises(AgentError, match=r"is no user id|is not a number"):
        guest._agent.call("process", name="nobody", uid=uid)


def test_effective_types_follow_what_is_unmapped(guest: Guest) -> None:
    bar = guest.mmio(pages=3)
    process = guest.process("partly")
    mapping = process.mmap(bar, WC).mapping
    assert mapping is not None
    process.munmap(mapping, offset=1, pages=1)
    # The firmware's MTRRs make the device UC, and UC x WC is WC in both vendors' tables.
    assert guest.effective(bar) == (EffectiveType.WC, None, EffectiveType.WC)
    process.exit()
    assert guest.effective(bar) == (None, None, None)


def test_a_long_request_is_accompanied_by_a_heartbeat(guest: Guest) -> None:
    """The shell's sleep is what is waited for, not the clock."""
    guest.shell("sleep 3")
    said = (guest.machine.logs / "agent.log").read_bytes().decode("latin-1")
    assert '@0 {"busy": ' in said
    # It ends with its request.
    assert guest.shell("echo next").output == "next\n"


def test_a_busy_agent_is_told_by_the_limit_of_its_request(guest_factory: GuestFactory) -> None:
    """Not by what was left of it after its last sign of life."""
    guest = guest_factory()
    guest._agent.timeout = 3
    message = (
        r"no answer for 3 s \(waiting for the answer to 'shell'; the agent lives, and is still busy with it"
    )
    with pytest.raises(GuestHung, match=message):
        guest.shell("while :; do :; done")
    # The next test has another: this one never comes back.
    guest.machine.close()


def test_a_guest_that_hangs_is_noticed(guest_factory: GuestFactory) -> None:
    """Suspended to idle, with nothing that could wake it: no process runs any more, the agent included."""
    guest = guest_factory()
    # One that lives says so once a second, so that this limit tells it from one that is slow.
    guest._agent.heartbeat = 3
    assert guest.shell("sleep 4").status == 0
    with pytest.raises(GuestHung, match=r"no answer for 3 s \(waiting for the answer to 'shell'") as error:
        guest.shell("echo freeze > /sys/power/state")
    assert any("console.log" in line for line in error.value.details)
    guest.machine.close()


@pytest.mark.parametrize("size", [400_000, 20_000_000])
def test_a_long_output_is_cut_and_said_and_spoils_nothing(guest: Guest, size: int) -> None:
    """A NUL takes six bytes of an answer."""
    done = guest.shell(f"head -c {size} /dev/zero; exit 3")
    limit = 256 << 10
    assert done.output == r"\x00" * limit + f"\n[more than {limit} bytes: the rest is left out]\n"
    assert done.status == 3
    assert guest.shell("echo next").output == "next\n"


def test_an_output_below_the_limit_is_whole(guest: Guest) -> None:
    assert guest.shell("head -c 262144 /dev/zero").output == r"\x00" * 262144
