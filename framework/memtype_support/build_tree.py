"""A kernel's build tree for tests, arranged of a Debian kernel's own headers and image."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pytest_memtype.errors import KernelError
from pytest_memtype.kernels.bundle import Bundle, bundle
from pytest_memtype.kernels.local import find_local
from pytest_memtype.kernels.spec import BuildSpec, parse


def debian_kernel(spec: str) -> Bundle:
    """A Debian kernel with what it was built with; the test is skipped where that was removed."""
    made = bundle(spec)
    if not made.kit.is_dir():
        pytest.skip(f"the kit of {made.release} was removed from the cache")
    return made


def build_tree(path: Path, debian: Bundle) -> Path:
    """Make what ``make bzImage modules`` leaves of a build tree, as far as modules need it.

    :param path: The folder to make.
    :param debian: The kernel.
    """
    source = debian.kit / "usr" / "src"
    shutil.copytree(source / f"linux-headers-{debian.release}", path)
    makefile = (path / "Makefile").read_text()
    (path / "Makefile").write_text(makefile.replace("/usr/src/", f"{source}/"))
    boot = path / "arch" / "x86" / "boot"
    boot.mkdir(parents=True)
    shutil.copyfile(debian.image, boot / "bzImage")
    return path


def needs_its_compiler(tree: Path) -> None:
    """Skip the test where the compiler that a tree was built with is not on this host."""
    wanted = parse(f"tree:{tree}")
    assert isinstance(wanted, BuildSpec)
    try:
        find_local(wanted)
    except KernelError as error:
        if "it was built with" in error.message:
            pytest.skip(error.message)
        raise
