"""Guests by the names of ``--guest``: the minimal guest, or a distribution with the kernel's own drivers."""

from __future__ import annotations

from typing import Final

from pytest_memtype.distribution.distribution import Distribution
from pytest_memtype.distribution.image import SUITES, image
from pytest_memtype.distribution.modules import modules
from pytest_memtype.errors import KernelError, UsageError
from pytest_memtype.host.nearest import unknown
from pytest_memtype.host.progress import Progress
from pytest_memtype.kernels.bundle import Bundle, resolve

#: The guest that has nothing but the agent.
MINIMAL: Final = "minimal"

_CLOUD = "-cloud-amd64"


def check_guest(name: str) -> str:
    """Check that there is a guest of a name, and return the name.

    :param name: The name as the user wrote it.
    :raises UsageError: there is no such guest.
    """
    if name != MINIMAL and name not in (f"debian:{suite}" for suite in SUITES):
        known = (MINIMAL, *(f"debian:{suite}" for suite in SUITES))
        raise UsageError(f"guest {name!r}: not known{unknown(name, known)}")
    return name


def own_kernel(name: str, *, progress: Progress) -> str:
    """The spec of the kernel that a distribution's users have: not the cloud kernel, which has no DRM.

    Both are built from one source package, so the newest cloud kernel has a twin.

    :param name: The name of a distribution, "debian:bookworm".
    :param progress: Called with a line where an index is read.
    :raises KernelError: no index is there to look it up in.
    """
    return resolve(name, progress=progress).replace(_CLOUD, "-amd64")


def distribution(name: str, bundle: Bundle, *, progress: Progress) -> Distribution:
    """A distribution with the kernel of a bundle, from the cache or built.

    :param name: The name of a distribution, "debian:bookworm".
    :param bundle: The bundle of one of Debian's kernels.
    :param progress: Called with a line at the start of each slow stage.
    :raises UsageError: the kernel isn't Debian's.
    :raises KernelError: a package can't be had or installed, or there is no module for the kernel.
    :raises HostError: the host lacks a program, a user namespace or space.
    """
    if bundle.stripped_module is None:
        # As on a target, the agent of a system that has users doesn't work without.
        raise KernelError(
            f"guest {name}: the agent needs a module there, and none can be built for {bundle.release}: its "
            "headers are gone; leave out --guest, or name another kernel"
        )
    tree, archive = modules(bundle, progress=progress)
    suite = name.partition(":")[2]
    return Distribution(
        name, (image(suite, progress=progress), tree), archive, bundle.agent, bundle.stripped_module
    )
