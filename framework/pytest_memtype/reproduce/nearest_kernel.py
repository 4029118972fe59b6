"""The kernels to try a report on: the nearest to the report's that can be had, and the newest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_memtype.errors import KernelError
from pytest_memtype.host.progress import Progress
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.index import Kernel, in_order
from pytest_memtype.kernels.kept_indexes import every
from pytest_memtype.kernels.ready import cached
from pytest_memtype.spec.linux_versions import Version, behaviours, parse_version


@dataclass(frozen=True)
class Candidate:
    """A kernel that can be had.

    :param spec: Its spec, of one release.
    :param version: Its upstream version.
    """

    spec: str
    version: Version

    @property
    def series(self) -> str:
        """The series of the kernel, ``6.1``."""
        return f"{self.version[0]}.{self.version[1]}"


def candidates(*, progress: Progress) -> list[Candidate]:
    """A kernel of each series that can be had, the oldest first: one in the cache, else the newest.

    :param progress: Called with a line where an index is read.
    :raises KernelError: there is none.
    """
    here = [each.kernel for each in cached() if each.kernel is not None and each.bundles]
    others: Sequence[Kernel] = ()
    if mirror.unasked() is None or not here:
        try:
            others = every(cache=cache_directory(), progress=progress)
        except KernelError:
            if not here:
                raise
    by_series: dict[str, Kernel] = {}
    for each in (*in_order(others), *in_order(here)):
        if each.headers and each.cloud:
            by_series[each.series] = each
    if not by_series:
        raise KernelError("no kernel can be had to reproduce a report on; memtype kernels fetch gets one")
    return [
        Candidate(f"debian:{each.release}", parse_version(each.version))
        for each in in_order(by_series.values())
    ]


def nearest(version: Version | None, known: Sequence[Candidate]) -> Candidate:
    """The kernel that is nearest to a report's.

    The same series; else the fewest differences of behaviour that are known, and of those the nearest series.

    :param version: The report's version; None for the newest kernel.
    :param known: The kernels that can be had, at least one.
    """
    if version is None:
        return known[-1]
    return min(known, key=lambda each: (each.version[:2] != version[:2], *_distance(version, each.version)))


def by_distance(version: Version | None, known: Iterable[Candidate]) -> list[Candidate]:
    """The kernels that can be had, the nearest to a report's first."""
    if version is None:
        return list(reversed(list(known)))
    return sorted(known, key=lambda each: _distance(version, each.version))


def _distance(one: Version, other: Version) -> tuple[int, int]:
    before, after = behaviours(one), behaviours(other)
    differences = sum(before[topic] is not after[topic] for topic in before)
    return differences, abs(_number(one) - _number(other))


def _number(version: Version) -> int:
    """The number of a series, counted through: 4.20, 5.0; 5.19, 6.0; 6.19, 7.0."""
    return version[0] * 20 + min(version[1], 19)
