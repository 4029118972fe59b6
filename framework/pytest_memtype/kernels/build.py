"""Building the guest's module, agent and initramfs inside a kit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pytest_memtype.errors import KernelError
from pytest_memtype.kernels import initramfs, sandbox

# Whatever else lies in a checkout, such as the products of a build by hand, is neither copied nor hashed.
_SOURCE_PATTERNS = ("Kbuild", "Makefile", "*.c", "*.h", "*.S", "*.list")
# The verifier's build for user space is none of a guest's.
_NOT_FOR_GUESTS = "host"
_LIST = Path("initramfs") / "initramfs.list"
_LIMIT_SECONDS = 600
_DETAIL_LINES = 20

# The compiler comes with linux-headers, from gcc-14 on under its long name alone.
# Debug information would make the module ten times larger in the guest's memory.
_SCRIPT = """
set -eu
compiler=$(cd /usr/bin && echo x86_64-linux-gnu-gcc-[0-9]*)
make -s -j{jobs} -C /usr/src/linux-headers-{release} M=/src/guests/module KCFLAGS=-Werror modules
make -s -j{jobs} -C /src/guests/agent CC="$compiler" agent
strip --strip-debug -o /src/memtype.ko /src/guests/module/memtype.ko
cp /src/guests/agent/agent "$(command -v busybox)" /src
"""


def source_files(sources: Path) -> Iterator[Path]:
    """Everything under ``guests/`` that a build reads, in a fixed order."""
    found = {path for pattern in _SOURCE_PATTERNS for path in sources.rglob(pattern)}
    # kbuild's own products: memtype.mod.c.
    found = {path for path in found if path.is_file() and not path.name.endswith(".mod.c")}
    return iter(sorted(path for path in found if path.relative_to(sources).parts[0] != _NOT_FOR_GUESTS))


def build(kit: Path, *, release: str, sources: Path, work: Path, target: Path) -> None:
    """Build ``memtype.ko`` (with debug information) and ``initramfs.cpio`` into ``target``.

    Warnings of the compiler are errors.

    :param kit: Root folder with the kernel's headers and compiler.
    :param release: The kernel's, as ``uname -r`` prints it.
    :param sources: The folder that holds ``module/``, ``agent/`` and ``initramfs/initramfs.list``.
    :param work: An empty folder to build in.
    :raises KernelError: the build failed; the compiler's last lines are in its details.
    :raises HostError: the host has no way to build inside the kit.
    """
    for path in source_files(sources):
        copy = work / "guests" / path.relative_to(sources)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    script = _SCRIPT.format(release=release, jobs=os.cpu_count() or 1)
    done = sandbox.run(kit, source=work, script=script, limit=_LIMIT_SECONDS)
    if done.status != 0:
        raise KernelError(
            f"kernel {release}: the guest's module or agent doesn't build; the compiler's last lines follow",
            details=tuple(done.output.splitlines()[-_DETAIL_LINES:]),
        )
    shutil.copyfile(work / "guests" / "module" / "memtype.ko", target / "memtype.ko")
    listing = sources / _LIST
    files = {name: work / name for name in ("agent", "busybox", "memtype.ko")}
    entries = initramfs.read_list(listing.read_text(), files=files, where=str(listing))
    initramfs.write(target / "initramfs.cpio", entries)
