"""What several files of the suite ask of their guests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_memtype import Guest
from pytest_memtype.errors import Unavailable, Unreachable


def pytest_itemcollected(item: pytest.Item) -> None:
    """Say which options of the kernel a test of the suite needs, beside those that its own markers name."""
    # Nearly every file compares with the kernel's own list of reservations, which is in debugfs.
    options = ["X86_PAT", "MTRR", "DEBUG_FS"]
    # Parameters have it in their names: via="devmem".
    if "devmem" in item.name:
        options.append("DEVMEM")
    item.add_marker(pytest.mark.needs_config(*options))


@pytest.fixture
def nothing_is_left(guest: Guest) -> Iterator[None]:
    """Whatever a test did, the records of processes that are gone are gone.

    Those of mappings that the kernel's own drivers made stay.
    """
    yield
    guest.reset()
    # Without the module there are no records.
    with contextlib.suppress(Unavailable):
        assert [each.owner for each in guest.tracked() if not each.observed] == []


@pytest.fixture
def load(guest: Guest) -> Callable[..., Any]:
    """``guest.load()`` of a driver in bugs/; a skip without a network and the kernel's compiler."""

    def loaded(name: str, **parameters: str) -> object:
        try:
            return guest.load(Path(__file__).with_name("bugs") / name, parameters=parameters)
        except Unreachable as error:
            pytest.skip(str(error))

    return loaded
