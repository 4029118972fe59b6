"""Machines whose policy doesn't let the module in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from memtype_support.hand_started import HandStarted, hand_started, one_line

from pytest_memtype.errors import ModuleRefused
from pytest_memtype.target.target import Target

pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("target")]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[HandStarted]:
    """One for each test: lockdown and the signature policy have no way back."""
    (tmp_path / "machine").mkdir()
    with hand_started(tmp_path / "machine") as made:
        yield made


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("echo integrity > /sys/kernel/security/lockdown", "lockdown is integrity"),
        ("echo Y > /sys/module/module/parameters/sig_enforce", "wants a signed one"),
    ],
    ids=["lockdown", "signatures"],
)
def test_a_module_that_is_refused(
    machine: HandStarted, target: Callable[..., Target], policy: str, message: str
) -> None:
    machine.run(policy)
    with pytest.raises(ModuleRefused, match=message) as raised:
        target().guest()
    one_line(raised.value)
    assert machine.left() == ""
