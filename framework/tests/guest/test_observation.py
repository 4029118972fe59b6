"""What the module sees of mappings that nobody asked it for."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from memtype_support.tiny_program import install_program

from pytest_memtype import Hardware, MemType
from pytest_memtype.errors import AgentError
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.observation import decode_observation, decode_status
from pytest_memtype.plugin.fixtures import GuestFactory

SERIES = ["debian:bullseye", "debian:bookworm", "debian:trixie", "debian:trixie-backports"]
UC_MINUS, WC = MemType.UC_MINUS, MemType.WC

# 7.x maps for a driver after its mmap_prepare() has said what; before, the driver calls remap_pfn_range().
CALLERS = ("mmap_mem+", "mmap_action_complete+")

CONTENT: dict[str, Any] = {
    "start": 0xFD000000,
    "pages": 1,
    "requested": int(UC_MINUS),
    "granted": int(WC),
    "errno": 0,
    "kind": "user",
    "pid": 70,
    "seeded": False,
    "task": "devmem",
    "caller": "mmap_mem+0xef/0x110",
    "verdict": {"accepted": True, "rule": None, "errno": 0, "hazards": [], "conflict": None},
}


@pytest.fixture(params=SERIES)
def guest(request: pytest.FixtureRequest, guest_factory: GuestFactory) -> Guest:
    return guest_factory(kernel=request.param)


def devmem(guest: Guest, address: int) -> None:
    """Map a page through /dev/mem with O_SYNC (UC-, drivers/char/mem.c), read it, unmap it."""
    assert guest.shell(f"busybox devmem {address:#x}").status == 0


def test_decoding() -> None:
    observation = decode_observation(CONTENT)
    assert (observation.requested, observation.granted, observation.task) == (UC_MINUS, WC, "devmem")
    assert not observation.seeded


def test_nobody_knows_who_mapped_before_the_probes() -> None:
    observation = decode_observation({**CONTENT, "seeded": True, "task": "", "caller": "", "pid": 0})
    assert observation.seeded
    assert (observation.requested, observation.caller, observation.task) == (None, None, None)
    assert observation.granted is WC


def test_what_the_kernel_refused_was_granted_nothing() -> None:
    observation = decode_observation({**CONTENT, "errno": errno.EBUSY})
    assert observation.granted is None
    assert "busy" in str(observation)


def test_why_a_probe_is_of_no_use() -> None:
    probes = [
        {"function": "memtype_reserve", "errno": errno.ENOENT, "armed": False},
        {"function": "memtype_free", "errno": 0, "armed": False},
    ]
    status = decode_status({"probes": probes, "missed": 0, "dropped": 0})
    assert not status.works
    assert [str(probe) for probe in status.probes] == [
        "memtype_reserve: can't be attached: No such file or directory",
        "memtype_free: attached, but switched off",
    ]


def test_without_a_probe_nothing_was_observed() -> None:
    status = decode_status({"probes": [], "missed": 0, "dropped": 0})
    assert (status.works, status.complete) == (False, False)


def test_records_begin_with_the_kernels_list(guest: Guest) -> None:
    records = guest.tracked()
    listed = guest.memtype_list()
    assert listed
    assert all(record.observed for record in records)
    assert sorted((record.region.start, record.region.pages, record.memtype) for record in records) == sorted(
        (entry.region.start, entry.region.pages, entry.memtype) for entry in listed
    )
    # The list of a guest without drivers holds firmware tables, the HPET and the like: no alias.
    assert [observation.rule for observation in guest.observed()] == [None] * len(listed)
    assert all(observation.seeded for observation in guest.observed())


def test_another_drivers_alias_is_seen(guest: Guest) -> None:
    assert guest.observation().works
    bar = guest.mmio(pages=4)
    guest.driver("drm").ioremap(bar, WC)

    devmem(guest, bar[1].start)

    (observation,) = guest.observed(bar)
    assert observation.region == bar[1]
    # Linux gives the second mapping the type of the first.
    assert (observation.requested, observation.granted, observation.errno) == (UC_MINUS, WC, 0)
    assert observation.caller is not None
    assert observation.caller.startswith(CALLERS)
    assert (observation.task, observation.kind) == ("busybox", "user")
    assert observation.pid > 1
    assert observation.rule == "alias"
    assert observation.conflict is not None
    assert (observation.conflict.owner, observation.conflict.observed) == ("drm", False)
    # It has unmapped it: only ours is left.
    assert [record.owner for record in guest.tracked(bar)] == ["drm"]


def test_what_the_kernel_refuses_others_is_seen_and_not_counted(guest_factory: GuestFactory) -> None:
    guest = guest_factory(kernel="debian:bookworm", layout="wb-device")
    bar = guest.mmio(pages=1)
    # Over WB nothing but strong UC and WB is allowed (reference/kernel-rules.md, 2.3).
    assert guest.driver("cached").ioremap(bar, MemType.WB).granted is MemType.WB

    assert guest.shell(f"busybox devmem {bar.start:#x}").status != 0

    (observation,) = guest.observed(bar)
    assert (observation.requested, observation.rule) == (UC_MINUS, "alias")
    assert [record.owner for record in guest.tracked(bar)] == ["cached"]


def test_our_own_are_asked_not_observed(guest: Guest) -> None:
    assert guest.observation().works
    bar = guest.mmio(pages=4)
    before = guest.observed()
    kernel = guest.driver("drm").ioremap(bar, WC)
    process = guest.process("X")
    for via in ("driver", "sysfs", "devmem"):
        assert process.mmap(bar, WC if via == "driver" else UC_MINUS, via=via).kernel.accepted
    child = process.fork()
    process.exit()
    child.exit()
    assert kernel.mapping is not None
    guest.driver("drm").release(kernel.mapping)

    assert guest.observed() == before
    assert guest.tracked(bar) == ()
    assert guest.observation().missed == 0


def test_switched_off_probes_are_not_said_to_work(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    guest.shell("echo 0 > /sys/kernel/debug/kprobes/enabled")
    status = guest.observation()
    assert [(probe.errno, probe.armed) for probe in status.probes] == [(0, False)] * 2
    devmem(guest, bar.start)
    assert guest.observed(bar) == []

    guest.shell("echo 1 > /sys/kernel/debug/kprobes/enabled")
    assert guest.observation().works
    devmem(guest, bar.start)
    assert len(guest.observed(bar)) == 1


def test_a_stopped_observation_sees_nothing(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    guest.observe(armed=False)
    devmem(guest, bar.start)
    assert guest.observed(bar) == []
    guest.observe(armed=True)
    devmem(guest, bar.start)
    assert len(guest.observed(bar)) == 1


@pytest.mark.parametrize("spec", SERIES[:-1])
def test_without_ftrace_the_module_says_so_and_goes_on(guest_factory: GuestFactory, spec: str) -> None:
    """The probes sit on ftrace's call sites: without ftrace they attach and are never called.

    7.3 answers: "The ftrace_enabled file is deprecated and no longer disables ftrace".
    """
    guest = guest_factory(kernel=spec, hardware=Hardware(cmdline="sysctl.kernel.ftrace_enabled=0"))
    assert not guest.observation().works
    said = guest.shell("dmesg | grep -c 'the probe on memtype_.* doesn.t work'").output
    assert said.strip() == "2"

    bar = guest.mmio(pages=1)
    assert guest.driver("drm").ioremap(bar, WC).accepted
    devmem(guest, bar.start)
    assert guest.observed(bar) == []
    assert [record.owner for record in guest.tracked(bar)] == ["drm"]


@pytest.mark.parametrize(("spec", "works"), [("debian:bullseye", False), ("debian:bookworm", True)])
def test_without_pat_there_is_no_list_to_begin_with(
    guest_factory: GuestFactory, spec: str, works: bool
) -> None:
    """5.10 asks pat_enabled() before it calls memtype_free.part.0: nobody would see a mapping go."""
    guest = guest_factory(kernel=spec, hardware=Hardware(cmdline="nopat"))
    assert guest.observed() == []
    assert guest.observation().works is works

    bar = guest.mmio(pages=1)
    devmem(guest, bar.start)
    assert len(guest.observed(bar)) == works
    assert guest.tracked(bar) == ()


def test_resetting_forgets_what_was_seen_but_for_the_beginning(guest: Guest) -> None:
    seeds = guest.observed()
    devmem(guest, guest.mmio(pages=1).start)
    assert len(guest.observed()) == len(seeds) + 1
    guest.reset()
    assert guest.observed() == seeds


def test_a_list_that_makes_no_sense_leaves_what_is_known(guest: Guest, tmp_path: Path) -> None:
    seeds = guest.observed()
    assert seeds
    program = install_program(guest, tmp_path, "seed_badly")
    assert guest.shell(program).status == 0
    assert [each for each in guest.observed() if each.seeded] == seeds


def test_more_calls_than_the_ring_holds(guest_factory: GuestFactory) -> None:
    """It has room for 512 and is emptied meanwhile. Each pass maps and unmaps: two calls."""
    guest = guest_factory(kernel="debian:bookworm")
    bar = guest.mmio(pages=1)
    once = f"busybox devmem {bar.start:#x} >/dev/null"
    assert guest.shell(f"n=0; while [ $n -lt 300 ]; do {once}; n=$((n+1)); done").status == 0
    assert len(guest.observed(bar)) == 300
    assert guest.observation().missed == 0
    assert guest.tracked(bar) == ()


def test_what_was_stopped_the_benchmark_does_not_start(guest_factory: GuestFactory) -> None:
    guest = guest_factory(kernel="debian:bookworm")
    guest.observe(armed=False)
    guest._agent.call("benchmark", records=10, operations=1, rounds=1)
    assert not guest.observation().works
    guest.observe(armed=True)
    guest._agent.call("benchmark", records=10, operations=1, rounds=1)
    assert guest.observation().works


@pytest.mark.parametrize(("armed", "function"), [(True, "enable_kprobe"), (False, "disable_kprobe")])
def test_both_probes_or_none(guest_factory: GuestFactory, armed: bool, function: str) -> None:
    """One that fails leaves the other as it was before."""
    guest = guest_factory(kernel="debian:bookworm")
    guest.observe(armed=not armed)
    with guest.faults.fail(function, after=1, returns=-errno.EINVAL) as fault:
        with pytest.raises(AgentError, match="Invalid argument"):
            guest.observe(armed=armed)
        assert fault.counts.failed == 1
    assert [probe.armed for probe in guest.observation().probes] == [not armed] * 2
    guest.observe(armed=True)
    assert guest.observation().works


def test_nothing_is_recorded_while_one_probe_is_stopped(guest_factory: GuestFactory) -> None:
    """Neither could be stopped or started as a whole: nobody would see a mapping go."""
    guest = guest_factory(kernel="debian:bookworm")
    bar = guest.mmio(pages=1)
    with (
        # The second is not stopped, nor is the first started again.
        guest.faults.fail("disable_kprobe", after=1, returns=-errno.EINVAL),
        guest.faults.fail("enable_kprobe", returns=-errno.EINVAL),
        pytest.raises(AgentError, match="Invalid argument"),
    ):
        guest.observe(armed=False)
    devmem(guest, bar.start)
    assert guest.observed(bar) == []
    assert guest.tracked(bar) == ()
