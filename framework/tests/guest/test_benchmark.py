"""The verb that measures the verifier beside the kernel, in a real guest. Not how fast they are."""

from __future__ import annotations

import pytest

from pytest_memtype import Guest
from pytest_memtype.errors import AgentError

pytestmark = pytest.mark.shared_guest

FIELDS = {"records": 100, "operations": 3, "rounds": 2}


@pytest.mark.parametrize("overlapping", [0, 1])
def test_it_measures_and_leaves_nothing(guest: Guest, overlapping: int) -> None:
    before = guest.memtype_list(), guest.tracked()
    content = guest._agent.call("benchmark", overlapping=overlapping, **FIELDS).content
    for name in ("check_cycles", "track_cycles", "kernel_cycles"):
        assert len(content[name]) == 2
        assert all(cycles > 0 for cycles in content[name])
    assert (guest.memtype_list(), guest.tracked()) == before
    assert guest.reports() == ()


def test_a_record_is_no_larger_than_two_cache_lines(guest: Guest) -> None:
    """The bound that issue 4 sets, with what the allocator adds."""
    assert 64 <= guest._agent.call("benchmark", **FIELDS).content["bytes_per_record"] <= 128


def test_the_kernel_can_be_left_out(guest: Guest) -> None:
    assert guest._agent.call("benchmark", kernel=0, **FIELDS).content["kernel_cycles"] == []


@pytest.mark.parametrize(
    "fields",
    [{"records": 0}, {"records": 100_001}, {"operations": 0}, {"operations": 100_001}, {"rounds": 161}],
)
def test_what_would_never_end_is_refused(guest: Guest, fields: dict[str, int]) -> None:
    with pytest.raises(AgentError, match="Invalid argument"):
        guest._agent.call("benchmark", **{**FIELDS, **fields})
