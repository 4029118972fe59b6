"""The tests that this host could run if the network went away now."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype.errors import MemtypeError
from pytest_memtype.host import resources
from pytest_memtype.kernels import firmware
from pytest_memtype.kernels.bundle import bundle_path, kept_kernels, source_hash
from pytest_memtype.kernels.fetch import kit_path
from pytest_memtype.kernels.index import choose, suites_of
from pytest_memtype.kernels.kept_indexes import age_text, ages, kept_indexes
from pytest_memtype.kernels.sets import DEFAULT, kernel_set
from pytest_memtype.kernels.spec import DebianSpec, parse


@dataclass(frozen=True)
class Readiness:
    """The contents of the cache, as a run without a network would find them.

    :param kernel: Release of the default kernel by the last index; None when no index names it.
    :param built: Whether its bundle is there. Then a first test takes a boot, or less.
    :param buildable: Whether its toolchain is there. Then a bundle can be built, in half a minute.
    :param templates: Number of templates (booted guests) of it, from which others are cloned in milliseconds.
    :param kernels: Number of kernels in all that could be tested.
    :param firmware: Whether OVMF is there, for tests that want UEFI.
    :param indexes: Age in seconds of the last index of each suite, negative by a clock set back.
    """

    kernel: str | None
    built: bool
    buildable: bool
    templates: int
    kernels: int
    firmware: bool
    indexes: dict[str, float]

    @property
    def ready(self) -> bool:
        """Whether ``memtype run --offline`` would find its kernel."""
        return self.built or self.buildable

    def line(self) -> str:
        """The readiness as one line of text."""
        if self.indexes:
            age = max(self.indexes.values())
            oldest = f"indexes {'up to ' if age >= 0 else ''}{age_text(age)}"
        else:
            oldest = "no index"
        if self.kernel is None:
            return f"no: {oldest} says which kernel is the default"
        if not self.ready:
            return f"no: the default kernel {self.kernel} is not in the cache; {oldest}"
        state = "built" if self.built else "to be built"
        extra = ", OVMF" if self.firmware else ", no OVMF"
        count = f"{self.templates} templates of it, {self.kernels} kernels in all"
        return f"{self.kernel} {state}, {count}{extra}, {oldest}"


def readiness(cache: Path) -> Readiness:
    """Look at what the cache has. No mirror is asked, and nothing is changed.

    :param cache: The cache folder.
    """
    sources = source_hash(resources.guest_sources())
    kept = kept_kernels(cache, sources)
    kernel = None
    with suppress(MemtypeError):
        spec = parse(kernel_set(DEFAULT[0].partition(":")[2])[0])
        if isinstance(spec, DebianSpec):
            own = [each for each in kept if each.release == spec.release]
            found = kept_indexes(cache, suites_of(spec))
            kernel = own[0] if own else choose(spec, found) if found else None
    return Readiness(
        kernel=kernel.release if kernel else None,
        built=kernel is not None and bundle_path(kernel, sources, cache=cache).is_dir(),
        buildable=kernel is not None and kit_path(kernel, cache=cache).is_dir(),
        templates=_templates(cache, kernel.release) if kernel else 0,
        kernels=len(kept),
        firmware=bool(firmware.kept(cache)),
        indexes=ages(cache),
    )


def _templates(cache: Path, release: str) -> int:
    """The number of templates of a kernel, by their own notes: templates belong to a room above."""
    count = 0
    for path in (cache / "templates").glob("*/ready/template.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            count += json.loads(path.read_bytes())["notes"]["greeting"]["release"] == release
    return count
