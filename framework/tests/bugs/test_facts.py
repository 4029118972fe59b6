"""Facts of bugs, and observations that agree with them or don't."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_memtype.bugs.facts import Sighting, Status, facts
from pytest_memtype.errors import UsageError
from pytest_memtype.guest.guest import Guest
from pytest_memtype.spec.linux_versions import Version

FACTS: dict[str, Any] = {"id": "leak", "title": "it leaks", "core": "Process.write"}


@pytest.mark.parametrize(
    ("version", "present"),
    [
        ((3, 6, 11), False),
        ((5, 10, 262), True),
        ((6, 1, 161), True),
        ((6, 1, 162), False),
        ((6, 2, 0), True),
        ((6, 12, 24), True),
        ((6, 12, 25), False),
        ((6, 14, 11), True),
        ((6, 15, 0), False),
        ((7, 3, 4), False),
    ],
)
def test_fixed_with_backports(version: Version, present: bool) -> None:
    bug = facts(
        {**FACTS, "introduced": "3.7", "fixed": "6.15", "backports": ("6.1.162", "6.12.25")}, where="here"
    )
    assert bug.present(version) == present


@pytest.mark.parametrize(
    ("version", "present"),
    [
        ((5, 10, 215), False),
        ((5, 10, 216), True),
        ((5, 15, 9), False),
        ((6, 9, 0), True),
        ((6, 16, 0), False),
    ],
)
def test_introduced_by_a_backport(version: Version, present: bool) -> None:
    bug = facts({**FACTS, "introduced": ("6.9", "5.10.216"), "fixed": "6.16"}, where="here")
    assert bug.present(version) == present


def test_without_versions_every_kernel_has_it() -> None:
    bug = facts({**FACTS, "kind": "by design"}, where="here")
    assert bug.present((2, 6, 26))
    assert bug.present((7, 3, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"title": "x", "core": "y"}, "missing 1 required positional argument: 'id'"),
        ({**FACTS, "since": "6.1"}, "unexpected keyword argument 'since'"),
        ({**FACTS, "fixed": "soon"}, "no kernel version in 'soon'"),
        ({**FACTS, "kind": "nasty"}, "kind 'nasty' is none of known, by design, observed"),
        ({**FACTS, "backports": ("6.1.5",)}, "say in which"),
        ({**FACTS, "backports": "6.1.5"}, "say in which"),
        ({**FACTS, "id": 5}, "id 5 is no text of one line"),
        ({**FACTS, "title": 5}, "title 5 is no text of one line"),
        ({**FACTS, "core": None}, "core None is no text of one line"),
        ({**FACTS, "title": "it\nleaks"}, "title 'it.*leaks' is no text of one line"),
        ({**FACTS, "id": "../../leak"}, "use letters, digits"),
        ({**FACTS, "id": "[/red]"}, "use letters, digits"),
        ({**FACTS, "id": "--kernel"}, "use letters, digits"),
    ],
)
def test_facts_that_cannot_be_used(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^here: marker bug: .*{message}"):
        facts(arguments, where="here")


def sighting(*, present: bool) -> Sighting:
    bug = facts({**FACTS, "fixed": "6.16"}, where="here")
    guest = cast(Guest, SimpleNamespace(release="6.12.117+deb13-cloud-amd64"))
    return Sighting(bug, (6, 12, 117) if present else (6, 16, 3), guest, expect=lambda _match: None)


@pytest.mark.parametrize(("present", "status"), [(True, Status.REPRODUCED), (False, Status.ABSENT)])
def test_what_agrees_with_the_facts(present: bool, status: Status) -> None:
    seen = sighting(present=present)
    seen.harm(present, "the list")
    seen.harm(present, "the page table")
    assert seen.judge() is status
    assert seen.evidence == [
        f"{'harm' if present else 'no harm'}: the list",
        f"{'harm' if present else 'no harm'}: the page table",
    ]


@pytest.mark.parametrize("present", [True, False])
def test_one_harm_that_disagrees_is_enough(present: bool) -> None:
    seen = sighting(present=present)
    seen.harm(present, "the list")
    seen.harm(not present, "the page table")
    claim = "has the bug" if present else "doesn't have the bug"
    with pytest.raises(AssertionError, match=rf"{claim}, by what is known of it.*\n.*page table"):
        seen.judge()


def test_saying_nothing_is_no_absence() -> None:
    with pytest.raises(AssertionError, match="never reported"):
        sighting(present=False).judge()
