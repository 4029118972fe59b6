"""The parts that a distribution's guest is put together from."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype.distribution.system import distribution
from pytest_memtype.errors import KernelError
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import bundle_in


def test_a_kernel_without_a_module_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """The agent would end with its usage, and the boot wait for it or tell that systemd is degraded."""
    release = "6.1.0-50-cloud-amd64"
    bundle = bundle_in(
        tmp_path, spec=f"debian:{release}", release=release, version="6.1", key="", kit=tmp_path
    )
    with pytest.raises(
        KernelError, match=f"debian:bookworm: the agent needs a module.* for {release}: its headers"
    ):
        distribution("debian:bookworm", bundle, progress=silent)
