"""Variants that a run tests: each kernel in each guest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_memtype.distribution.system import MINIMAL, check_guest, own_kernel
from pytest_memtype.host.progress import Progress
from pytest_memtype.kernels.at_hand import check_at_hand
from pytest_memtype.kernels.bundle import resolve
from pytest_memtype.kernels.sets import DEFAULT, expand


@dataclass(frozen=True)
class Variant:
    """A kernel in a guest.

    :param name: Its name in the ids of tests and in records.
    :param kernel: Its spec, as the user wrote it.
    :param system: ``minimal``, or a distribution such as ``debian:bookworm``.
    """

    name: str
    kernel: str
    system: str = MINIMAL


@dataclass(frozen=True)
class Resolved:
    """A plugin for pytest by which ``memtype run`` hands in what it has found: no spec is looked up twice.

    It is good for the options that it was made from. pytest's settings (``addopts``) may add to them.

    :param kernels: The values of ``--kernel``, none where it wasn't given.
    :param guests: The values of ``--guest``, likewise.
    :param variants: All kernels in all guests that these mean.
    """

    kernels: tuple[str, ...]
    guests: tuple[str, ...]
    variants: tuple[Variant, ...]

    def is_of(self, kernels: Sequence[str] | None, guests: Sequence[str] | None) -> bool:
        """Whether it was made from these options.

        :param kernels: The value of ``--kernel`` as pytest has it.
        :param guests: The value of ``--guest`` as pytest has it.
        """
        return (self.kernels, self.guests) == (tuple(kernels or ()), tuple(guests or ()))


def all_variants(
    kernels: Sequence[str] | None, guests: Sequence[str] | None, *, progress: Progress
) -> list[Variant]:
    """The variants that ``--kernel`` and ``--guest`` ask for.

    Each is named by the exact kernel, ``debian:6.1.0-56-cloud-amd64``; with a distribution after it,
    ``debian:6.1.0-56-amd64@bookworm``. Two specs may mean the same kernel, which is tested once.

    :param kernels: Specs of kernels; None for the default set, and for a distribution's own kernel.
    :param guests: Names of guests; None for the minimal one.
    :param progress: Called with one line at the start of each slow stage.
    :raises UsageError: there is no such kernel or guest.
    :raises KernelError: a kernel can't be found, or isn't in the cache of a run that asks no mirror.
    """
    found: dict[str, Variant] = {}
    exact: list[str] = []
    for system in dict.fromkeys(guests or (MINIMAL,)):
        check_guest(system)
        own = DEFAULT if system == MINIMAL else (own_kernel(system, progress=progress),)
        for spec in expand(kernels or own, progress=progress):
            exact.append(resolve(spec, progress=progress))
            name = _name(exact[-1], system)
            found.setdefault(name, Variant(name, spec, system))
    check_at_hand(exact, asked=kernels or guests or DEFAULT, progress=progress)
    return list(found.values())


def _name(kernel: str, system: str) -> str:
    return kernel if system == MINIMAL else f"{kernel}@{system.partition(':')[2]}"
