"""The shortest sequence that still disagrees.

Hypothesis would find it too, but knows nothing of operations: it took hundreds of guests where leaving out
operations takes dozens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from memtype_support.differential.operations import Operation

Disagrees = Callable[[Sequence[Operation]], bool]


def shrink(operations: Sequence[Operation], disagrees: Disagrees) -> list[Operation]:
    """Leave out operations, halves first and single ones last, as long as the rest disagrees."""
    left = list(operations)
    size = max(1, len(left) // 2)
    while True:
        before = len(left)
        for start in range(len(left) - size, -1, -size):
            shorter = left[:start] + left[start + size :]
            if disagrees(shorter):
                left = shorter
        if size > 1:
            size //= 2
        elif len(left) == before:
            return left
