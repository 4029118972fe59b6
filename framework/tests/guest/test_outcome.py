"""What pytest shows of an outcome and an observation when an assertion about them fails."""

from __future__ import annotations

from dataclasses import replace

from _pytest._io.saferepr import saferepr

from pytest_memtype import KernelAnswer, MemType, Outcome, Region, TrackedMapping, Verdict
from pytest_memtype.guest.observation import Observation

LONGEST = "a-driver-of-thirty-one-bytes-xy"
CONFLICT = TrackedMapping(LONGEST, Region(0x1FD000000, 16), MemType.UC_MINUS, "kernel")
OUTCOME = Outcome(
    operation="set_pages_array",
    actor=LONGEST,
    region=Region(0x1FD000000, 16),
    requested_or_none=MemType.UC_MINUS,
    verdict_or_none=Verdict(accepted=False, rule="alias", errno=16, conflict=CONFLICT, hazards=()),
    kernel=KernelAnswer(asked=True, accepted=True, errno=0, log=("a line", "another") * 10),
    granted_pages=(MemType.WC,) * 16,
    effective_pages=(MemType.WC,) * 16,
    mapping=None,
)


def test_nothing_is_cut_of_the_longest_outcome() -> None:
    assert saferepr(OUTCOME) == (
        f"({LONGEST} set_pages_array UC- [mem 0x1fd000000-0x1fd00ffff]: "
        f"verifier EBUSY alias with {LONGEST}: UC- [mem 0x1fd000000-0x1fd00ffff], "
        "kernel accepted, page table WC)"
    )


def test_an_accepted_one_tells_its_hazards_and_what_was_substituted() -> None:
    accepted = Verdict(accepted=True, rule=None, errno=0, conflict=None, hazards=("mtrr-mixed",))
    types = (MemType.WC, None, MemType.WC)
    shown = repr(replace(OUTCOME, verdict_or_none=accepted, granted_pages=types))
    assert shown.endswith(": verifier accepted (mtrr-mixed), kernel accepted, page table WC/-)")


def test_without_a_verifier_and_without_a_mapping() -> None:
    refused = KernelAnswer(asked=True, accepted=False, errno=22, log=())
    shown = repr(replace(OUTCOME, verdict_or_none=None, kernel=refused, granted_pages=()))
    assert shown.endswith(": verifier -, kernel EINVAL, page table -)")


def test_an_observation_tells_the_rule_and_what_is_in_the_way() -> None:
    observation = Observation(
        start=0xFD000000,
        pages=1,
        requested=MemType.UC_MINUS,
        granted=MemType.WC,
        errno=0,
        kind="kernel",
        caller="probe+0x10/0x40 [toy]",
        task="insmod",
        pid=7,
        rule="alias",
        conflict=replace(CONFLICT, owner="drm"),
    )
    assert saferepr(observation) == (
        "probe+0x10/0x40 [toy], insmod:7: UC- -> WC [mem 0xfd000000-0xfd000fff], "
        "alias with drm: UC- [mem 0x1fd000000-0x1fd00ffff]"
    )
