"""What several files of the suite ask of their guests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from pytest_memtype import Guest
from pytest_memtype.errors import Unavailable


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
