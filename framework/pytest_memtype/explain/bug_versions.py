"""Whether the kernel of a report has a bug, by the catalogue's versions."""

from __future__ import annotations

from typing import Final

from pytest_memtype.bugs.facts import Bug
from pytest_memtype.dumps.kernel_facts import Kernel
from pytest_memtype.explain.linux_source import Age
from pytest_memtype.spec.linux_versions import parse_version

UPDATES: Final = 400
"""More than any series has had (4.4 ended with 302)."""


def presence(bug: Bug, known: Age) -> bool | None:
    """Whether a kernel has a bug, by the catalogue's versions; None where the text doesn't say enough.

    A release such as 6.1.0-18 may be any update of 6.1, and what a distribution of long support has mended
    isn't known.

    :param bug: The bug.
    :param known: What the text says of its kernel's version.
    """
    kernel = known.kernel
    if kernel is None:
        introduced = [parse_version(each) for each in bug.introduced]
        if introduced and known.before is not None and known.before <= min(introduced):
            return False
        return None if bug.introduced or bug.fixed else True
    major, minor, patch = kernel.version
    updates = [patch] if kernel.exact else range(UPDATES)
    possible = {bug.present((major, minor, each)) for each in updates} | {bug.present(kernel.newest)}
    return next(iter(possible)) if len(possible) == 1 else None


def version_words(kernel: Kernel | None, there: bool | None) -> str:
    """The words on whether a kernel has a bug.

    :param kernel: The kernel; None if the text names none.
    :param there: Whether it has it, as :func:`presence` says.
    """
    if kernel is None:
        return "whether the kernel has it can't be said, as the text names no kernel"
    if there is None and kernel.newest != kernel.version:
        return f"{kernel.release} may have it or not, as commits were added to that release"
    if there is None:
        return f"some updates of {kernel.series} have it, and {kernel.release} doesn't say which it is"
    return f"{kernel.release} has it"
