"""A copy of a kernel's build tree with faults planted in it, built from what the tree has built.

Nothing of the user's tree is changed; ``.memtype`` alone appears there, with the copy, where the command is
run in the tree. The copy is built where the tree is: bubblewrap mounts the copy over it. So the paths that a
build has noted still hold, and make builds only what the faults have changed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_memtype.errors import HostError, KernelError, UsageError, reason
from pytest_memtype.host.program import run_to_end
from pytest_memtype.host.progress import Progress
from pytest_memtype.kernels.local import LocalKernel, find_local
from pytest_memtype.kernels.mutant_catalogue import NONE, Mutant, catalogue_file
from pytest_memtype.kernels.mutant_source import plant
from pytest_memtype.kernels.sandbox import bwrap_problem
from pytest_memtype.kernels.spec import BuildSpec

_HEADER: Final = Path("include/linux/memtype_mutant.h")
_SWITCH: Final = Path("arch/x86/mm/pat/memtype_mutant.c")
_NAMES: Final = Path("arch/x86/mm/pat/memtype_mutant_names.h")
_MAKEFILE: Final = Path("arch/x86/mm/pat/Makefile")
_RULE: Final = "obj-y += memtype_mutant.o\n"
_COPIED: Final = "copied.json"
# Beside the mark of a copy: what the command makes before there is one.
_LOCK: Final = "lock"
_RUNS: Final = ".memtype"

# A tree that has to be built whole, on two busy processors.
_BUILD_SECONDS = 4 * 3600
_COPY_SECONDS = 3600
_DETAIL_LINES = 20


@dataclass(frozen=True)
class PlantedTree:
    """A kernel with faults in it.

    :param spec: Its build tree as ``--kernel`` takes it, ``tree:PATH``.
    :param mutants: The faults in it.
    :param misfits: The reasons of faults that don't fit its sources though it should have them, by name.
    """

    spec: str
    mutants: tuple[Mutant, ...]
    misfits: dict[str, str]


def planted(
    spec: BuildSpec, mutants: Sequence[Mutant], *, work: Path, chosen: bool, progress: Progress
) -> PlantedTree:
    """Plant faults in a copy of a kernel's build tree, and build it.

    :param spec: The tree, built.
    :param mutants: The faults; those that its version doesn't have are left out.
    :param work: The folder for the copy, which exists. What an earlier call has left there is used.
    :param chosen: Whether the user has named the folder, so that it may have files of another's.
    :param progress: Called with a line before each slow stage.
    :raises UsageError: the folder for the copy lies among the tree's own, or has files of another's.
    :raises KernelError: the tree isn't built, or the kernel with the faults doesn't build.
    :raises HostError: there is no room, or no bubblewrap.
    """
    kernel = find_local(spec)
    # bubblewrap mounts nothing over a link.
    build = spec.build.resolve()
    source = (build / "source").resolve() if (build / "source").exists() else build
    version = _version_of(source, spec.text)
    tree, sources = work / "tree", work / ("tree" if source == build else "source")
    _copy(
        kernel,
        source,
        work=work.resolve(),
        chosen=chosen,
        copies={build: tree, source: sources},
        progress=progress,
    )
    here = [mutant for mutant in mutants if mutant.is_of(version)]
    try:
        misfits = _plant(here, {mutant.file for mutant in mutants}, source=source, target=sources)
    except OSError as error:
        raise KernelError(f"kernel {spec.text!r}: {reason(error)}") from None
    fitting = tuple(mutant for mutant in here if mutant.name not in misfits)
    progress(f"building {kernel.release} with {len(fitting)} faults in it")
    _build(kernel, build, mounts={tree: build, sources: source}, log=work / "build.log")
    return PlantedTree(f"tree:{tree}", fitting, misfits)


def _version_of(source: Path, what: str) -> tuple[int, int]:
    try:
        makefile = (source / "Makefile").read_text(errors="replace")
    except OSError as error:
        raise KernelError(f"kernel {what!r}: {reason(error)}; faults are planted in its sources") from None
    found = re.search(r"^VERSION = (\d+)\nPATCHLEVEL = (\d+)$", makefile, re.MULTILINE)
    if found is None:
        raise KernelError(f"kernel {what!r}: {source / 'Makefile'} names no version; name a kernel's sources")
    return int(found[1]), int(found[2])


def _copy(
    kernel: LocalKernel,
    source: Path,
    *,
    work: Path,
    chosen: bool,
    copies: dict[Path, Path],
    progress: Progress,
) -> None:
    """Copy the build tree, and the sources where they are apart, unless this very build was copied before."""
    for original in copies:
        if work.is_relative_to(original) and _RUNS not in work.relative_to(original).parts:
            raise UsageError(
                f"{work} is among what is copied, {original}; name a folder elsewhere with --work"
            )
    mark = work / _COPIED
    # An earlier version of this package may have been interrupted before it made the mark.
    if chosen and not mark.exists() and any(each.name != _LOCK for each in work.iterdir()):
        raise UsageError(
            f"{work}: has files that are not of memtype mutate's making; name a new folder with --work"
        )
    wanted = {"build": str(kernel.build), "source": str(source), "identity": kernel.identity}
    try:
        if json.loads(mark.read_text()) == wanted:
            return
    except (OSError, ValueError):
        pass
    try:
        mark.write_text("{}")
        for original, copy in copies.items():
            shutil.rmtree(copy, ignore_errors=True)
            progress(f"copying {original}")
            # The history is as large as all the rest, and a build needs it for nothing but a name.
            left_out = {original / ".git", original / _RUNS, work, *(copies.keys() - {original})}
            _copy_folder(original, copy, left_out)
        mark.write_text(json.dumps(wanted))
    except OSError as error:
        raise HostError(f"{reason(error)}; the copy of the kernel's tree goes there") from None
    except subprocess.TimeoutExpired:
        raise HostError(f"{kernel.build} was not copied in {_COPY_SECONDS} s") from None


def _copy_folder(original: Path, copy: Path, left_out: Set[Path]) -> None:
    copy.mkdir(parents=True)
    parts = []
    for each in sorted(set(original.iterdir()) - left_out):
        if any(each in path.parents for path in left_out):
            _copy_folder(each, copy / each.name, left_out)
        else:
            parts.append(str(each))
    if not parts:
        return
    done = run_to_end(["cp", "-a", "--reflink=auto", "--", *parts, str(copy)], timeout=_COPY_SECONDS)
    if done.returncode:
        raise HostError(f"{original} can't be copied: {done.stdout.strip().rpartition(chr(10))[2]}")


def _plant(mutants: Sequence[Mutant], files: set[str], *, source: Path, target: Path) -> dict[str, str]:
    """Write the sources with the faults, and what switches them; returns the reasons of those that don't fit.

    :param mutants: The faults.
    :param files: All files that an earlier call may have planted faults in.
    :param source: The top of the sources as they are.
    :param target: The top of their copy.
    """
    misfits: dict[str, str] = {}
    texts: dict[str, str] = {}
    numbered = list(enumerate(mutants, start=1))
    for file in sorted(files):
        of_file = [(number, mutant) for number, mutant in numbered if mutant.file == file]
        path = source / file
        if not path.is_file():
            misfits |= {mutant.name: f"there is no {file}" for _, mutant in of_file}
            continue
        texts[file], reasons = plant(path.read_text(errors="surrogateescape"), of_file)
        misfits |= reasons
    for file, text in texts.items():
        _write(target / file, text)
    parts = catalogue_file().parent
    _write(target / _HEADER, (parts / _HEADER.name).read_text())
    _write(target / _SWITCH, (parts / _SWITCH.name).read_text())
    # A fault's number is its place; those that don't fit keep theirs, which nothing asks for.
    names = [NONE, *("" if mutant.name in misfits else mutant.name for mutant in mutants)]
    _write(target / _NAMES, "".join(f'"{name}",\n' for name in names))
    _write(target / _MAKEFILE, (source / _MAKEFILE).read_text() + _RULE)
    return misfits


def _write(path: Path, text: str) -> None:
    """Write a file, unless it says that already: make looks at its time."""
    data = text.encode(errors="surrogateescape")
    if not path.exists() or path.read_bytes() != data:
        path.write_bytes(data)


def _build(kernel: LocalKernel, place: Path, *, mounts: dict[Path, Path], log: Path) -> None:
    problem = bwrap_problem()
    if problem is not None:
        raise HostError(f"bwrap: {problem}; the copy of the tree is built inside it: install bubblewrap")
    jobs = len(os.sched_getaffinity(0))
    make = ["make", "-s", f"-j{jobs}", *kernel.compiler, "bzImage", "modules"]
    # What is mounted first would be hidden by what is mounted above it.
    mounted = [
        word
        for copy, original in sorted(mounts.items(), key=lambda mount: len(mount[1].parts))
        for word in ("--bind", str(copy), str(original))
    ]
    inside = ["bwrap", "--dev-bind", "/", "/", *mounted, "--die-with-parent", "--chdir", str(place)]
    try:
        done = run_to_end([*inside, *make], timeout=_BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        raise KernelError(f"kernel {kernel.name!r}: not built in {_BUILD_SECONDS} s") from None
    log.write_text(done.stdout)
    if done.returncode:
        raise KernelError(
            f"kernel {kernel.name!r}: it doesn't build with the faults in it; the whole of it is in {log}",
            details=tuple(_errors(done.stdout)),
        )


def _errors(output: str) -> list[str]:
    lines = output.splitlines()
    wrong = [line for line in lines if "error:" in line or "Error" in line]
    return (wrong or lines)[-_DETAIL_LINES:]
