"""The kernel's own tests that touch memory types, built from Debian's newest package of its sources.

They are built once, statically, so that the newest kernel's tests run on older kernels, too.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_memtype.errors import KernelError
from pytest_memtype.host.progress import Progress, silent
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.host.store import build_dir, exclusive, made_once, seal, staged, temp_dir
from pytest_memtype.kernels import initramfs, sandbox
from pytest_memtype.kernels.fetch import digest, fetch_tools, tools_path
from pytest_memtype.kernels.mmdebstrap import require_network
from pytest_memtype.kernels.source_package import VERSION, recipe, unpack_sources
from pytest_memtype.kernels.stage import Stage, Step

FOLDER: Final = "selftests"
"""The folder of the programs: in the guest, and in the cache."""

ARCHIVE: Final = "selftests.cpio"


@dataclass(frozen=True)
class Program:
    """A program of the kernel's ``tools/testing/selftests``.

    :param folder: Its folder there.
    :param sources: Its C files.
    """

    folder: str
    sources: tuple[str, ...]


PROGRAMS: Final = {
    # Mappings of frames without a struct page: their reservations when split, moved, shrunk and forked.
    "pfnmap": Program("mm", ("pfnmap.c", "vm_util.c")),
    # mremap() of mappings whose page tables move and whose VMA stays.
    "mremap_dontunmap": Program("mm", ("mremap_dontunmap.c",)),
    # mremap() of a special mapping, which is made of frames as well.
    "test_mremap_vdso": Program("x86", ("test_mremap_vdso.c",)),
}
"""The programs, by name. pfnmap came with 6.16, the others are older than any kernel of ours."""

# The newest sources of a stable release's backports: sid's may be of a release candidate.
_SUITE: Final = "trixie-backports"
_WHAT: Final = "the kernel's own tests"
_HEADERS = (
    *("Makefile", "Kbuild", "scripts", "include/uapi", "include/asm-generic/Kbuild"),
    *("arch/x86/Makefile*", "arch/x86/include/uapi", "arch/x86/include/asm/Kbuild"),
    *("arch/x86/entry/syscalls", "arch/x86/tools", "tools/include/tools"),
)
_MEMBERS = (*_HEADERS, *(f"tools/testing/selftests/{name}" for name in ("kselftest*.h", "mm", "x86")))
# The headers are those of the tests' own kernel: they use what the tools' libc doesn't know yet.
_SCRIPT = """
set -eu
cd /src/linux
make -s headers
cd tools/testing/selftests
{commands}
"""
_COMPILE = (
    "gcc -O2 -static -pthread -D_GNU_SOURCE= -I. -isystem ../../../usr/include -s -o /src/{name} {sources}"
)
_LIMIT_SECONDS = 600
_DETAIL_LINES = 20


@dataclass(frozen=True)
class Selftests:
    """The programs, built.

    :param archive: A cpio archive with ``/selftests/NAME`` for each of :data:`PROGRAMS`.
    :param version: The package that they are from, with its version.
    """

    archive: Path
    version: str


def selftests(*, progress: Progress = silent) -> Selftests:
    """The programs, from the cache, or built from Debian's package.

    :param progress: Called with a line before a download and a build.
    :raises KernelError: the package can't be had, or a program doesn't build.
    :raises HostError: the host lacks a program or space.
    """
    cache = cache_directory()
    script = _SCRIPT.format(commands="\n".join(_commands()))
    parts = (recipe(_SUITE, "", _MEMBERS), script, tools_path(cache=cache).name)
    folder = cache / FOLDER / digest(parts)

    def make(place: Path) -> None:
        _make(folder, script, cache=cache, place=place, progress=progress)

    made_once(folder, make, cache=cache, work=f"selftests-{folder.name}", progress=progress)
    return Selftests(folder / ARCHIVE, (folder / VERSION).read_text().strip())


def _commands() -> list[str]:
    return [
        _COMPILE.format(name=name, sources=" ".join(f"{each.folder}/{source}" for source in each.sources))
        for name, each in PROGRAMS.items()
    ]


def _make(folder: Path, script: str, *, cache: Path, place: Path, progress: Progress) -> None:
    with temp_dir(place) as work, staged(folder, cache=place) as target:
        require_network(_WHAT, cache=cache)
        progress(Step(Stage.DOWNLOADING, f"{_WHAT}, in 140 MB of its sources, for once"))
        sources = unpack_sources(work / "root", _MEMBERS, suite=_SUITE, what=_WHAT, cache=cache)
        build = work / "build"
        build.mkdir()
        sources.rename(build / "linux")
        kit = tools_path(cache=cache)
        # The lock of the kit covers what is built in it: a build without bubblewrap writes to the kit.
        tools = build_dir(cache, kit.name)
        with exclusive(tools, progress):
            if not kit.is_dir():
                progress(Step(Stage.DOWNLOADING, "the tools for the guest"))
                fetch_tools(cache=cache, place=tools)
            progress(Step(Stage.BUILDING, _WHAT))
            done = sandbox.run(kit, source=build, script=script, limit=_LIMIT_SECONDS)
        if done.status != 0:
            raise KernelError(
                f"{_WHAT} don't build; the compiler's last lines follow",
                details=tuple(done.output.splitlines()[-_DETAIL_LINES:]),
            )
        target.mkdir()
        programs = {name: (build / name).read_bytes() for name in PROGRAMS}
        initramfs.write_folder(target / ARCHIVE, FOLDER, programs, mode=0o755)
        shutil.copyfile(work / "root" / VERSION, target / VERSION)
        seal(target)
