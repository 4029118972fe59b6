"""A cache with a small kernel, for tests of kernels in a file."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from memtype_support.small_indexes import DAY, fill_with_indexes, pretend_kit, small_kernel
from pytest_memtype.cli import main
from pytest_memtype.host.resources import guest_sources
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.bundle import bundle_path, source_hash

KERNEL = "6.1.0-56-cloud-amd64"


FILES = ("image", "agent", "initramfs.cpio", "launcher.so", "config")


def memtype(*arguments: str | Path) -> Result:
    # Each command is a process of its own outside of tests.
    mirror.forget()
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fill(cache: Path, *, release: str = KERNEL, sources: str = "") -> Path:
    """A cache with a kernel, and indexes that are two days old."""
    fill_with_indexes(cache, age=2 * DAY, suites=("bookworm", "trixie"))
    kernel = small_kernel(release)
    kit = pretend_kit(cache, release)
    (kit / "usr" / "bin").mkdir(parents=True)
    (kit / "usr" / "bin" / "gcc-12").write_text("compiler")
    (kit / "usr" / "bin" / "gcc-12").chmod(0o4755)
    (kit / "usr" / "bin" / "gcc").symlink_to("gcc-12")
    (kit / "bin").symlink_to("/usr/bin")
    # As Debian's have it: through other links, and back out of what those lead to.
    (kit / "usr" / "bin" / "cc").symlink_to("../../bin/gcc")
    (kit / "lib").symlink_to("usr/lib")
    (kit / "usr" / "lib").mkdir()
    (kit / "usr" / "lib" / "awk").symlink_to("/lib/../bin/mawk")
    (kit / "dev").mkdir()
    # mmdebstrap makes them.
    (kit / "dev" / "fd").symlink_to("/proc/self/fd")
    folder = bundle_path(kernel, sources or source_hash(guest_sources()), cache=cache)
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(f"{name} of {release}")
    (folder / "agent").chmod(0o755)
    return folder


def contents(cache: Path) -> dict[str, bytes]:
    """Everything in a cache but locks."""
    return {
        str(path.relative_to(cache)): path.read_bytes()
        for path in cache.rglob("*")
        if path.is_file() and not path.is_relative_to(cache / "work")
    }
