import math
import os
from collections.abc import Iterator

import pytest

from pytest_memtype.machine.wait import deadline_after, poll


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_nothing_until_the_deadline(pipe: tuple[int, int]) -> None:
    assert poll([pipe[0]], (), deadline_after(0.01)) == set()


def test_passed_deadline_still_looks(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    assert poll([pipe[0]], (), deadline_after(-5)) == {pipe[0]}


@pytest.mark.parametrize("timeout", [math.inf, 1e12])
def test_a_deadline_that_is_too_far_for_the_system(pipe: tuple[int, int], timeout: float) -> None:
    os.write(pipe[1], b"x")
    assert poll([pipe[0]], (), deadline_after(timeout)) == {pipe[0]}


def test_readable_and_writable(pipe: tuple[int, int]) -> None:
    assert poll([pipe[0]], [pipe[1]], deadline_after(60)) == {pipe[1]}
    os.write(pipe[1], b"x")
    assert poll([pipe[0]], [pipe[1]], deadline_after(60)) == set(pipe)


def test_end_of_file_counts_as_readable() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    assert poll([reader], (), deadline_after(60)) == {reader}
    os.close(reader)
