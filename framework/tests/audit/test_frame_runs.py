"""Runs of frames, against one frame at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pytest_memtype.audit.frame_runs import FrameRuns, concatenate, merge_overlapping, runs_of_bitmap

END = 40
RUNS = st.lists(
    st.tuples(st.integers(0, END - 1), st.integers(1, 8), st.sampled_from([1, 2, 4, 6])), max_size=8
)
Run = tuple[int, int, int]


def pieces(runs: list[Run]) -> FrameRuns:
    columns = [np.array([run[column] for run in runs], np.int64) for column in range(3)]
    return FrameRuns(*columns)


def by_frame(found: FrameRuns) -> dict[int, int]:
    """Every frame with its bits; none may be in two pieces."""
    frames = [(frame, bits) for first, count, bits in found for frame in range(first, first + count)]
    assert len({frame for frame, _ in frames}) == len(frames)
    return dict(frames)


def union(runs: list[Run]) -> dict[int, int]:
    bits: dict[int, int] = {}
    for first, count, mask in runs:
        for frame in range(first, first + count):
            bits[frame] = bits.get(frame, 0) | mask
    return bits


@given(RUNS)
def test_overlaid(runs: list[Run]) -> None:
    assert by_frame(merge_overlapping(pieces(runs))) == union(runs)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_dense(seen: list[int]) -> None:
    found = runs_of_bitmap(np.array(seen, np.uint8))
    assert by_frame(found) == {frame: bits for frame, bits in enumerate(seen) if bits}
    # As few as can be.
    assert all(a[2] != b[2] or a[0] + a[1] < b[0] for a, b in zip(list(found), list(found)[1:], strict=False))


@given(RUNS, st.integers(0, END), st.integers(0, END))
def test_within(runs: list[Run], first: int, last: int) -> None:
    apart = merge_overlapping(pieces(runs))
    expected = {frame: bits for frame, bits in union(runs).items() if first <= frame < last}
    assert by_frame(apart.within(first, last)) == expected
    assert apart.any_within(first, last) == bool(expected)


@given(RUNS, st.sets(st.integers(0, END + 10)))
def test_cut(runs: list[Run], borders: set[int]) -> None:
    apart = merge_overlapping(pieces(runs))
    found = apart.cut(np.array(sorted(borders), np.int64))
    assert by_frame(found) == union(runs)
    assert not [border for border in borders for first, count, _ in found if first < border < first + count]
    # Nowhere else.
    kept = {first for first, _, _ in apart} | borders
    assert {first for first, _, _ in found} <= kept


def test_together_and_only() -> None:
    both = concatenate([pieces([(1, 2, 1)]), pieces([(9, 1, 2)])])
    assert list(both) == [(1, 2, 1), (9, 1, 2)]
    assert list(both.only(both.bits == 2)) == [(9, 1, 2)]
    assert list(concatenate([])) == []
