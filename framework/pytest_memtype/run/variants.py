"""Variants that a run tests: each kernel in each guest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_memtype.distribution.system import MINIMAL, check_guest, own_kernel
from pytest_memtype.host.progress import Progress, Remark
from pytest_memtype.kernels.at_hand import check_at_hand
from pytest_memtype.kernels.bundle import resolve
from pytest_memtype.kernels.lock import LOCK, pinned, read_lock
from pytest_memtype.kernels.sets import DEFAULT

_OWN: Final = "own"


@dataclass(frozen=True)
class Variant:
    """A kernel in a guest.

    :param name: Its name in the ids of tests: the kernel as the user wrote it, which an update leaves alone.
    :param kernel: Its spec, for this process.
    :param system: ``minimal``, or a distribution such as ``debian:bookworm``.
    :param tested: Its name in records and tables, with the exact kernel; the name where none is given.
    """

    name: str
    kernel: str
    system: str = MINIMAL
    tested: str = ""

    def __post_init__(self) -> None:
        if not self.tested:
            object.__setattr__(self, "tested", self.name)

    @property
    def exact(self) -> str:
        """The exact spec of its kernel, which means the same on each machine."""
        return self.tested if self.system == MINIMAL else self.tested.rpartition("@")[0]


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

    Each is named by its kernel as it was given, ``debian:bookworm``; with a distribution after it,
    ``debian:6.1@trixie``, or ``own@trixie`` with that one's own kernel. Two specs may mean the same kernel,
    which is tested once, under the first's name. What the current folder's ``memtype-kernels.lock`` pins is
    taken from there.

    :param kernels: Specs of kernels; None for the default set, and for a distribution's own kernel.
    :param guests: Names of guests; None for the minimal one.
    :param progress: Called with one line at the start of each slow stage.
    :raises UsageError: there is no such kernel or guest.
    :raises KernelError: a kernel can't be found, or isn't in the cache of a run that asks no mirror.
    """
    lock = read_lock(Path.cwd())
    found: dict[str, Variant] = {}
    exact: list[str] = []
    for system in dict.fromkeys(guests or (MINIMAL,)):
        check_guest(system)
        if kernels or system == MINIMAL:
            named = pinned(kernels or DEFAULT, lock, progress=progress)
            for spec, name in named.items():
                if spec != name and (name in lock or any(spec in each for each in lock.values())):
                    progress(Remark(f"{LOCK}: {name} is {spec}"))
        else:
            named = {own_kernel(system, progress=progress): _OWN}
        for spec, name in named.items():
            exact.append(resolve(spec, progress=progress))
            tested = _name(exact[-1], system)
            found.setdefault(tested, Variant(_name(name, system), spec, system, tested))
    check_at_hand(exact, asked=kernels or guests or DEFAULT, progress=progress)
    return list(found.values())


def _name(kernel: str, system: str) -> str:
    return kernel if system == MINIMAL else f"{kernel}@{system.partition(':')[2]}"
