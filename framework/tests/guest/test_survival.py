"""Nonsense on every way into the agent: no oops, no warning, no leak, one error for each bad line.

Quick by default; with ``MEMTYPE_TEST_EFFORT=long`` 20,000 damaged lines, 100,000 requests and 120,000 ioctls.
"""

from __future__ import annotations

import json
import random
import time
import zlib
from collections.abc import Iterator

import pytest
from memtype_support.effort import effort

from pytest_memtype import Guest
from pytest_memtype.guest.protocol import decode_line, request_text

pytestmark = [pytest.mark.shared_guest, pytest.mark.timeout(effort(quick=300, long=3600))]

LINES = effort(quick=500, long=20_000)
REQUESTS = effort(quick=5000, long=100_000)
STEPS = effort(quick=8000, long=160_000)
"""About three in four of them call ioctl()."""

LINES_AT_ONCE = 50
REQUESTS_AT_ONCE = 500
STEPS_AT_ONCE = 2000
RCU_SECONDS = 20
"""Files and page tables that are gone are freed when no CPU can look at them any more. A leak never is."""

NOISE = 128
"""Objects by which looks at an idle guest differ: Linux 6.1 had 404 to 529 of kmalloc-96, 42 in a slab."""

# Of which the module, or the kernel for its sake, takes objects.
CACHES = ("kmalloc-", "vm_area_struct", "radix_tree_node", "maple_node", "filp", "kernfs_node_cache")


def slabs(guest: Guest) -> dict[str, int]:
    """Live objects by cache. Shrinking gives back what CPUs keep, which counts as live (mm/slub.c,
    count_partial() and flush_all(), 5.10 to 7.3)."""
    listing = guest.shell("for each in /sys/kernel/slab/*/shrink; do echo 1 >$each; done; cat /proc/slabinfo")
    fields = [line.split() for line in listing.output.splitlines()[2:]]
    return {name: int(live) for name, live, *_ in fields if name.startswith(CACHES)}


def fewest(guest: Guest) -> dict[str, int]:
    """Of some looks: what the look before took, such as open files, may not be freed yet."""
    looks = [slabs(guest) for _ in range(4)]
    return {name: min(each[name] for each in looks) for name in looks[0]}


def grown(before: dict[str, int], after: dict[str, int], lost: int) -> dict[str, int]:
    """Where there are more than before.

    :param lost: Entries that Linux's own list has lost count of; each is a struct memtype of 56 bytes.
    """
    allowed = {name: STEPS // 100 + NOISE + (lost if name == "kmalloc-64" else 0) for name in after}
    more = {name: live - before.get(name, 0) for name, live in after.items()}
    return {name: count for name, count in more.items() if count > allowed[name]}


def module_users(guest: Guest) -> str:
    """The module's reference count."""
    return guest.shell("grep ^memtype /proc/modules | cut -d' ' -f3").output


@pytest.fixture
def unharmed(guest: Guest) -> Iterator[None]:
    """After the test the guest must be as it was before."""
    guest.reset()
    tracked = guest.tracked()
    yield
    guest.reset()
    assert guest.reports() == ()
    assert guest.tracked() == tracked
    assert guest.shell("echo alive").output == "alive\n"


def words(dice: random.Random) -> dict[str, str | int]:
    """Fields none of which has a value that any verb can do something with."""
    number: list[str | int] = [-1, 1 << 64, 1 << 200, "", "0x", "1e3", "\0", "\xff\xfe", "1 ", "x" * 300]
    fields: dict[str, str | int] = {
        "start": dice.choice([0, 1, 4095, 1 << 38, (1 << 64) - 4096, (1 << 64) - 1]),
        "pages": dice.choice([0, 1 << 40, 1 << 52, (1 << 64) - 1]),
        "memtype": dice.choice([2, 3, 8, 255, 1 << 31, (1 << 32) + 2]),
        "handle": dice.choice([0, 1 << 31, 1 << 32, (1 << 64) - 1]),
        "owner": dice.choice(["", "x" * 31, "x" * 32, "\0", "\n\r", "\xff", "%", "\x1b[2J"]),
        "process": dice.choice(["", "nobody", "\0", "x" * 100]),
    }
    for key in dice.sample(sorted(fields), k=dice.randrange(1, 6)):
        del fields[key]
    for _ in range(dice.randrange(0, 2)):
        fields[dice.choice([*fields, "nonsense"])] = dice.choice(number)
    return fields


VERBS = (
    *("ioremap", "memremap", "set_memory", "set_pages_array", "reserve_wc", "phys_wc_add", "release"),
    *("page_table", "ram", "mmap", "munmap", "mremap", "mprotect", "read", "write", "fork", "exec", "exit"),
    *("kill", "mtrr_add", "mtrr_delete", "user_page_table", "batch", "batch_rest", "benchmark", "process"),
    *("refresh", "fuzz", "shell", "", "x" * 200, "IOREMAP", "\xff\xfe", "verify", "lookup"),
)


def request(dice: random.Random) -> bytes:
    """A request that is none, or that can't be carried out."""
    text = request_text("verb", words(dice))
    return dice.choice(VERBS).encode("latin-1").replace(b"\n", b"") + text.removeprefix(b"verb")


def framed(payload: bytes) -> bytes:
    return payload + b" *%08x" % zlib.crc32(payload)


def damaged(dice: random.Random) -> bytes:
    """A line without its newline that can't pass for a request."""
    line = bytearray(framed(b"@%d:0af " % dice.randrange(1, 1 << 40) + request(dice)))
    match dice.randrange(6):
        case 0:
            line = bytearray(dice.randbytes(dice.randrange(200)))
        case 1:
            del line[dice.randrange(len(line)) :]
        case 2:
            line[dice.randrange(len(line))] ^= 1 << dice.randrange(8)
        case 3:
            line = bytearray(framed(dice.choice([b"@0:0af ", b"@1 ", b"@1: "]) + request(dice)))
        case 4:
            line[dice.randrange(len(line))] = 0
        case 5 if dice.randrange(20) == 0:
            # Longer than the agent has room for.
            line = bytearray(dice.randbytes(5000))
        case _:
            line[-8:] = b"%08x" % dice.randrange(1 << 32)
    return bytes(line).replace(b"\n", b"")


def answers(guest: Guest, message: bytes, count: int) -> list[bytes]:
    port = guest.machine.agent_port
    port.send(message)
    lines = []
    for _ in range(count):
        port.expect_exact(b"\n")
        lines.append(port.before or b"")
    return lines


@pytest.mark.usefixtures("unharmed")
def test_each_damaged_line_is_answered_with_one_error(guest: Guest) -> None:
    dice = random.Random(1)
    for start in range(0, LINES, LINES_AT_ONCE):
        lines = [damaged(dice) for _ in range(LINES_AT_ONCE)]
        # The last is a request: were there more answers than lines, it would not be the last answer.
        last = framed(b"@%d:0af log" % (1 << 50 | start))
        said = answers(guest, b"\n".join([*lines, last, b""]), len(lines) + 1)
        decoded = [decode_line(line) for line in said]
        for line, answer in zip(lines, decoded[:-1], strict=True):
            assert (answer.sequence, answer.content) == (0, {"error": "damaged line"}), line
        assert decoded[-1].sequence == 1 << 50 | start


def failed(reply: dict[str, object]) -> bool:
    """Is it an error, or a verdict that refuses?"""
    if "error" in reply or reply.get("errno"):
        return True
    verdict = reply.get("verdict")
    return isinstance(verdict, dict) and not verdict["accepted"] and reply.get("handle") is None


@pytest.mark.usefixtures("unharmed")
def test_each_request_that_makes_no_sense_is_answered_with_one_error(guest: Guest) -> None:
    """Well framed, so that it comes as far as the verbs."""
    dice = random.Random(2)
    guest.policy.enforce = True
    mailbox = guest._agent.mailbox
    for _ in range(0, REQUESTS, REQUESTS_AT_ONCE):
        requests = [request(dice) for _ in range(REQUESTS_AT_ONCE)]
        notice = guest._agent.call("batch", first=1, **mailbox.write(b"\n".join(requests))).content
        text = mailbox.read(notice)
        while len(text) < notice["total"]:
            text += mailbox.read(guest._agent.call("batch_rest", offset=len(text)).content)
        said = text.splitlines()
        for each, answer in zip(requests, said, strict=True):
            assert failed(json.loads(answer)["reply"]), (each, answer)


@pytest.mark.usefixtures("unharmed")
def test_ioctls_and_mappings_at_random_do_no_harm_and_leak_nothing(guest: Guest) -> None:
    def run(seeds: range) -> int:
        return sum(
            guest._agent.call("fuzz", seed=seed, steps=STEPS_AT_ONCE).content["refused"] for seed in seeds
        )

    # What is made once, such as the kernel's own caches, is there after a first round.
    run(range(1))
    guest.reset()
    before, listed, users = fewest(guest), len(guest.memtype_list()), module_users(guest)
    assert run(range(1, 1 + STEPS // STEPS_AT_ONCE)) > STEPS // 4
    guest.reset()
    # Linux to 6.12 loses entries of its own list when a part of a mapping goes ("freeing invalid memtype").
    lost = len(guest.memtype_list()) - listed
    deadline = time.monotonic() + RCU_SECONDS
    while leaked := grown(before, slabs(guest), lost):
        assert time.monotonic() < deadline, leaked
    assert module_users(guest) == users
