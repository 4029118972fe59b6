"""Clones are what boots are, but for the time and the random numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from memtype_support.small_files import files_at_most

from pytest_memtype import Guest, MemType
from pytest_memtype.errors import HostError, LayoutError, TemplateError
from pytest_memtype.host.checksum import checksum_of
from pytest_memtype.host.progress import silent
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.kernels.firmware import flash
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout_file import load_layout
from pytest_memtype.machine.template import sealed
from pytest_memtype.run.boot import GuestPlan, booted, cloned

SMALL = Hardware(memory="96M")

#: What a kernel says when a clock jumped under it (kernel/time/clocksource.c, kernel/rcu/tree_stall.h,
#: kernel/watchdog.c and kernel/hung_task.c of Linux 5.10 to 7.3). Not "hrtimer: interrupt took": that tells
#: of a busy host, in booted guests too.
CLOCK_TROUBLE = re.compile(
    r"unstable|rcu.*(?:stall|starved)|soft lockup|hard LOCKUP|blocked for more than"
    r"|WARNING|BUG"
)

CLONES = 200
PARTS = 4
TOGETHER = 6

Start = Callable[..., Guest]


def plan_of(layout: str = "firmware", hardware: Hardware = SMALL) -> GuestPlan:
    made = bundle("debian:bookworm", progress=silent)
    return GuestPlan(
        made.image, made.initramfs, load_layout(layout, []), hardware, flash=flash(hardware.firmware)
    )


@pytest.fixture
def templates() -> Path:
    """The user's own cache, which may have the templates already."""
    return cache_directory() / "templates"


@pytest.fixture
def start(tmp_path: Path, templates: Path) -> Iterator[Start]:
    """Starts guests of a plan, each with its own logs."""
    with ExitStack() as stack:

        def start_guest(plan: GuestPlan, *, fresh: str = "clone", cache: Path = templates) -> Guest:
            logs = tmp_path / f"logs{len(list(tmp_path.glob('logs*')))}"
            if fresh == "boot":
                guest = booted(plan, logs=logs)
            else:
                guest = cloned(plan, logs=logs, cache=cache, progress=silent)
            stack.callback(guest.machine.close)
            return guest

        yield start_guest


def seen(guest: Guest) -> dict[str, Any]:
    """What a test can read of a guest in which nothing has been done, but for what changes with its age.

    A second after the boot the kernel has calibrated the TSC and says so; which guest has is chance.
    """
    return {
        # The physical address of the agent's page table is the allocator's choice.
        "registers": [dataclasses.replace(each, cr3=0) for each in guest.registers()],
        "memtype list": guest.memtype_list(),
        "tracked": guest.tracked(),
        "module": guest.shell("cut -d' ' -f1-3,5 /proc/modules").output,
        "mtrr": guest.shell("cat /proc/mtrr").output,
        "cpus": guest.shell("grep -c ^processor /proc/cpuinfo").output,
        "command line": guest.shell("cat /proc/cmdline").output,
        "release": guest.release,
        "free device memory": guest.mmio(pages=1),
    }


@pytest.mark.parametrize(
    ("layout", "hardware"),
    [
        ("firmware", SMALL),
        ("wb-device", SMALL),
        ("firmware", dataclasses.replace(SMALL, cpus=2, cpu="qemu64,-mtrr")),
        ("firmware", Hardware(firmware="ovmf")),
        ("firmware", Hardware(memory="2816M")),
    ],
    ids=["firmware", "boot-rom", "two-cpus", "ovmf", "ram-above-4-gib"],
)
def test_a_clone_is_what_a_boot_is(start: Start, layout: str, hardware: Hardware) -> None:
    plan = plan_of(layout, hardware)
    clone, boot = start(plan), start(plan, fresh="boot")
    assert seen(clone) == seen(boot)
    # And it answers the same to the same.
    verdicts = []
    for guest in (clone, boot):
        bar = guest.mmio(pages=2)
        guest.driver("drm").ioremap(bar, MemType.WC)
        guest.driver("fbdev").ioremap(bar, MemType.UC_MINUS)
        # What the kernel says meanwhile is a matter of age, too.
        entries = [{**entry, "log": ()} for entry in guest.journal.entries]
        verdicts.append((entries, guest.tracked(), guest.memtype_list(bar)))
    assert verdicts[0] == verdicts[1]


def test_a_layout_that_the_firmware_can_not_be_given_is_one_line(start: Start) -> None:
    with pytest.raises(LayoutError, match=r"^layout 'wb-device': .* a boot ROM, which .* 'ovmf' doesn't"):
        start(plan_of("wb-device", Hardware(firmware="ovmf")))


def test_clones_know_nothing_of_each_other(start: Start) -> None:
    plan = plan_of()
    one = start(plan)
    template = one.machine.config.ram_file
    assert template is not None
    before = hashlib.sha256(template.read_bytes()).digest()
    assert one.driver("drm").ioremap(one.mmio(pages=1), MemType.WC).accepted
    assert one.shell("echo mine > /tmp/file").status == 0
    two = start(plan)
    assert two.tracked(observed=False) == ()
    assert two.shell("cat /tmp/file").status == 1
    assert hashlib.sha256(template.read_bytes()).digest() == before


def test_clones_have_random_numbers_of_their_own(start: Start) -> None:
    plan = plan_of()
    read = "head -c 32 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid"
    outputs = [line for _ in range(3) for line in start(plan).shell(read).output.splitlines()]
    assert len(outputs) == 9
    assert len(set(outputs)) == 9


def test_a_clone_knows_the_time_of_day(start: Start) -> None:
    before = time.time()
    guest = start(plan_of())
    now = int(guest.shell("busybox date +%s").output)
    # The guest's clock has whole seconds, and goes on while it answers.
    assert int(before) <= now <= time.time() + 1


@pytest.mark.parametrize("part", range(PARTS))
def test_no_clone_complains_about_its_clock(tmp_path: Path, templates: Path, part: int) -> None:
    plan = plan_of()
    with ExitStack() as stack:
        alive: list[Guest] = []
        for number in range(CLONES // PARTS):
            logs = tmp_path / f"{part}-{number}"
            alive.append(cloned(plan, logs=logs, cache=templates, progress=silent))
            stack.callback(alive[-1].machine.close)
            # Each lives while others start, which is a busy host: what upsets a guest's clocks.
            if len(alive) == TOGETHER:
                check_clock(alive.pop(0))
        for guest in alive:
            check_clock(guest)


def check_clock(guest: Guest) -> None:
    """Look at what the kernel said, and end it."""
    found = [line for line in guest.log if CLOCK_TROUBLE.search(line)]
    guest.machine.close()
    assert found == []


def footprint() -> tuple[list[str], int, set[str]]:
    """Descriptors, threads and temporary files of this process."""
    links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    # Sockets and pipes have a number in their name, and each guest's is another.
    kinds = sorted(os.path.realpath(path).partition("[")[0] for path in links)
    return kinds, threading.active_count(), {path.name for path in Path(tempfile.gettempdir()).iterdir()}


def test_fifty_clones_leave_nothing(tmp_path: Path, templates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand, and memory: ``framework/benchmarks/endurance.py``."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    plan = plan_of()
    # The first starts the background thread, which stays.
    for number in range(51):
        guest = cloned(plan, logs=tmp_path / str(number), cache=templates, progress=silent)
        guest.machine.close()
        if number == 0:
            before = footprint()
    assert footprint() == before


def test_a_template_that_can_not_be_restored_is_one_line(start: Start, tmp_path: Path) -> None:
    plan, cache = plan_of(), tmp_path / "templates"
    good = start(plan, cache=cache).machine.config
    assert good.state is not None
    facts = good.state.with_name("template.json")
    good_facts = facts.read_text()
    # QEMU's own checks find it: the checksum is that of the damaged state.
    good.state.write_bytes(b"QEVM nonsense" * 1000)
    content = json.loads(good_facts)
    sums = {**content["sums"], "state": checksum_of(good.state)}
    facts.write_text(sealed({**content, "sums": sums}))
    with pytest.raises(TemplateError) as caught:
        start(plan, cache=cache)
    assert "\n" not in str(caught.value)
    assert re.match(r"QEMU \(process \d+\) ended with status 1", str(caught.value))


def test_notes_that_make_no_sense_are_one_line(start: Start, tmp_path: Path) -> None:
    plan, cache = plan_of(), tmp_path / "templates"
    good = start(plan, cache=cache).machine.config
    assert good.state is not None
    facts = good.state.with_name("template.json")
    facts.write_text(sealed({**json.loads(facts.read_text()), "notes": None}))
    with pytest.raises(TemplateError, match="the template's notes make no sense"):
        start(plan, cache=cache)


def test_a_clock_that_a_busy_host_has_put_out_makes_no_template(start: Start, tmp_path: Path) -> None:
    """Told to the kernel, because how busy a host must be is beyond a test."""
    plan = plan_of(hardware=Hardware(cmdline="tsc_early_khz=200000"))
    with pytest.raises(HostError, match=r"the guest's clock counts \S+ seconds for each"):
        start(plan, cache=tmp_path / "templates")
    assert not list((tmp_path / "templates").rglob("ram"))


def test_files_that_may_not_grow_are_one_line(start: Start, tmp_path: Path) -> None:
    """Not as large as the guest's RAM."""
    plan = plan_of()
    with files_at_most(64 << 20), pytest.raises(TemplateError, match="File too large"):
        start(plan, cache=tmp_path / "templates")
    left = [path.name for path in (tmp_path / "templates").rglob("*") if path.is_file()]
    assert left == ["lock"]
