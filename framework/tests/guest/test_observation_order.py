"""Two CPUs reserve and free the same page at once: the module takes that in the kernel's order."""

from __future__ import annotations

from pathlib import Path

import pytest
from memtype_support.tiny_program import install_program

from pytest_memtype import Hardware
from pytest_memtype.plugin.fixtures import GuestFactory

SERIES = ["debian:bullseye", "debian:bookworm", "debian:trixie", "debian:trixie-backports"]

TIMES = 60
"""In a round. What was seen comes over the serial port, some 25 KB."""

ROUNDS = 24


@pytest.mark.parametrize("spec", SERIES)
def test_what_is_freed_is_no_alias_of_what_comes_after(
    guest_factory: GuestFactory, tmp_path: Path, spec: str
) -> None:
    """Linux gives a mapping the type of the one in the way, or refuses. One that it gave what was asked for
    had none of another type in its way, and one that it changed had: memtype_check_conflict() in
    arch/x86/mm/pat/memtype_interval.c, 5.10 to 7.3."""
    guest = guest_factory(kernel=spec, hardware=Hardware(cpus=2))
    bar = guest.mmio(pages=1)
    mapper = install_program(guest, tmp_path, "map_again")
    device = guest._agent.call("hello").content["device"]
    resource = f"/sys/bus/pci/devices/{device['address']}/resource{device['bar']}_wc"
    offset = bar.start - device["start"]
    seen, wrong = 0, []
    for _ in range(ROUNDS):
        combining = f"{mapper} {resource} {offset:x} {TIMES}"
        uncached = f"{mapper} /dev/mem {bar.start:x} {TIMES}"
        done = guest.shell(f"{combining} & {uncached}; status=$?; wait $! && exit $status")
        assert (done.status, done.output) == (0, "")
        observed = guest.observed(bar)
        assert guest.observation().complete
        seen += len(observed)
        wrong += [each for each in observed if (each.rule == "alias") != (each.granted is not each.requested)]
        assert guest.tracked(bar) == ()
        guest.reset()
    assert seen >= 2 * TIMES * ROUNDS
    assert [str(each) for each in wrong] == []
