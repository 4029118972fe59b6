"""The copy of a tree with faults in it. Its Makefile builds nothing: it notes what make would have built."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_memtype.errors import KernelError, UsageError
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels import mutant_tree
from pytest_memtype.kernels.mutant_catalogue import Mutant
from pytest_memtype.kernels.mutant_tree import PlantedTree, planted
from pytest_memtype.kernels.sandbox import bwrap_problem
from pytest_memtype.kernels.spec import BuildSpec, parse

pytestmark = pytest.mark.skipif(bwrap_problem() is not None, reason="no bubblewrap")

RELEASE = "6.12.0-own"

MAKEFILE = """\
VERSION = 6
PATCHLEVEL = 12

bzImage modules:
\tpwd > where
\t! grep -qs broken mm/memory.c || { echo "mm/memory.c:1: error: it is broken"; exit 1; }
\tcp mm/memory.c built-$@.c || [ ! -e mm/memory.c ]
"""

CONFIG = (
    "X86_64",
    "BLK_DEV_INITRD",
    "DEVTMPFS",
    "PROC_FS",
    "SYSFS",
    "PCI",
    "SERIAL_8250_CONSOLE",
    "MODULES",
    "BINFMT_ELF",
    "PRINTK",
    "FILE_LOCKING",
    "NET",
    "UNIX",
    "STACKTRACE",
)

MEMORY = "int map(int size)\n{\n\treturn size + 1;\n}\n"

MAP = Mutant("map-size", "mm/memory.c", "map", "size + 1", "size", "too small")
LATER = Mutant("later", "mm/memory.c", "map", "size + 2", "size", "too small", since="6.16")
LOST = Mutant("lost", "mm/memory.c", "map", "size + 3", "size", "too small")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "linux"
    for folder in ("include/generated", "include/linux", "arch/x86/boot", "arch/x86/mm/pat", "mm", ".git"):
        (path / folder).mkdir(parents=True)
    (path / "Makefile").write_text(MAKEFILE)
    (path / ".config").write_text("".join(f"CONFIG_{name}=y\n" for name in CONFIG) + gcc())
    (path / "Module.symvers").write_text("")
    (path / "include/generated/utsrelease.h").write_text(f'#define UTS_RELEASE "{RELEASE}"\n')
    image = bytearray(0x400)
    image[0x202:0x206] = b"HdrS"
    image[0x20E:0x210] = b"\x00\x01"
    image[0x300 : 0x300 + len(RELEASE)] = RELEASE.encode()
    (path / "arch/x86/boot/bzImage").write_bytes(image)
    (path / "arch/x86/mm/pat/Makefile").write_text("obj-y := memtype.o\n")
    (path / "mm/memory.c").write_text(MEMORY)
    return path


def gcc() -> str:
    """The line of a configuration that names this host's compiler."""
    done = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True, timeout=30)
    major, minor, patch = (int(part) for part in done.stdout.split("."))
    return f"CONFIG_GCC_VERSION={major * 10000 + minor * 100 + patch}\n"


def plant_in(tree: Path, *mutants: Mutant, work: Path, chosen: bool = True) -> PlantedTree:
    spec = parse(f"tree:{tree}")
    assert isinstance(spec, BuildSpec)
    work.mkdir(parents=True, exist_ok=True)
    return planted(spec, mutants, work=work, chosen=chosen, progress=silent)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_copy_is_built_in_the_tree_s_place(tree: Path, tmp_path: Path) -> None:
    before, work = contents(tree), tmp_path / "work"
    made = plant_in(tree, MAP, LATER, LOST, work=work)
    assert contents(tree) == before, "nothing in the tree itself is changed"
    copy = work / "tree"
    assert made == PlantedTree(
        f"tree:{copy}", (MAP,), {"lost": "map() has the code in 'old' 0 times, not once"}
    )
    # What the build has seen as its folder is what it had been before.
    assert (copy / "where").read_text().strip() == str(tree)
    assert "(MEMTYPE_MUTANT(1) ? (size) : (size + 1))" in (copy / "built-bzImage.c").read_text()
    assert (copy / "built-modules.c").exists()
    assert (copy / "arch/x86/mm/pat/memtype_mutant_names.h").read_text() == '"none",\n"map-size",\n"",\n'
    assert (
        copy / "arch/x86/mm/pat/Makefile"
    ).read_text() == "obj-y := memtype.o\nobj-y += memtype_mutant.o\n"
    assert (copy / "include/linux/memtype_mutant.h").exists()
    assert not (copy / ".git").exists()


def test_what_did_not_change_is_not_built_again(tree: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    plant_in(tree, MAP, work=work)
    source, mark = work / "tree/mm/memory.c", work / "tree/mark"
    mark.write_text("of the first copy")
    first = source.stat().st_mtime_ns
    plant_in(tree, MAP, work=work)
    assert source.stat().st_mtime_ns == first
    # A fault that the catalogue has no longer is taken out of the source.
    plant_in(tree, LOST, work=work)
    assert source.read_text() == MEMORY
    assert mark.exists()
    # Another build of the tree is another kernel.
    (tree / "Module.symvers").write_text("0x1\tone\tvmlinux\tEXPORT_SYMBOL\t\n")
    plant_in(tree, MAP, work=work)
    assert not mark.exists()


def apart(tree: Path, build: Path) -> None:
    """Move what a build with O= has made to a folder of its own, in which make builds with the sources."""
    build.mkdir(parents=True)
    for part in (".config", "Module.symvers", "include", "arch"):
        shutil.move(tree / part, build / part)
    for folder in ("include/linux", "arch/x86/mm/pat"):
        (tree / folder).mkdir(parents=True)
    shutil.move(build / "arch/x86/mm/pat/Makefile", tree / "arch/x86/mm/pat/Makefile")
    (build / "source").symlink_to(tree)
    (build / "Makefile").write_text(f"include {tree}/Makefile\n".replace("Makefile\n", "rules\n"))
    (tree / "rules").write_text(f"bzImage modules:\n\tcp {tree}/mm/memory.c built-$@.c\n")


def test_sources_apart_from_the_build(tree: Path, tmp_path: Path) -> None:
    build = tmp_path / "build"
    apart(tree, build)
    before = contents(tree) | contents(build)
    plant_in(build, MAP, work=tmp_path / "work")
    assert contents(tree) | contents(build) == before
    assert "MEMTYPE_MUTANT(1)" in (tmp_path / "work/tree/built-bzImage.c").read_text()


@pytest.mark.parametrize("name", ["build", "out/x86"])
def test_a_build_inside_its_sources(tree: Path, tmp_path: Path, name: str) -> None:
    """Its mount is in front of that of the sources, which would hide it."""
    build, work = tree / name, tmp_path / "work"
    apart(tree, build)
    plant_in(build, MAP, work=work)
    assert "MEMTYPE_MUTANT(1)" in (work / "tree/built-bzImage.c").read_text()
    assert not list((work / "source").rglob("built-bzImage.c"))
    assert not list((work / "source").rglob("bzImage")), "the build is copied once"


def test_a_tree_that_a_link_leads_to(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)
    made = plant_in(tmp_path / "link", MAP, work=tmp_path / "work")
    assert made.mutants == (MAP,)
    assert (tmp_path / "work/tree/where").read_text().strip() == str(tree)


def test_the_command_in_the_tree_itself(tree: Path) -> None:
    """Where it keeps its copy is not copied into itself, nor are other runs."""
    work = tree / ".memtype/mutants/linux-1a2b3c4d"
    (tree / ".memtype/runs").mkdir(parents=True)
    plant_in(tree, MAP, work=work)
    assert (work / "tree/mm/memory.c").exists()
    assert not (work / "tree/.memtype").exists()


def test_the_command_in_a_build_inside_its_sources(tree: Path) -> None:
    build = tree / "build"
    apart(tree, build)
    work = build / ".memtype/mutants/build-1a2b3c4d"
    plant_in(build, MAP, work=work)
    assert "MEMTYPE_MUTANT(1)" in (work / "tree/built-bzImage.c").read_text()
    assert not list(work.rglob(".memtype"))


@pytest.mark.parametrize("name", [".", "mm", "mm/work"])
def test_a_folder_among_the_tree_s_own(tree: Path, name: str) -> None:
    before = contents(tree)
    with pytest.raises(UsageError, match=r"is among what is copied, .*; name a folder elsewhere with --work"):
        plant_in(tree, MAP, work=tree / name)
    assert contents(tree) == before


def test_a_folder_with_files_of_others_stays(tree: Path, tmp_path: Path) -> None:
    """The copy of an earlier call is removed for a new one, and "source" is what many a folder is called."""
    work = tmp_path / "project"
    (work / "tree").mkdir(parents=True)
    (work / "tree" / "oak").touch()
    with pytest.raises(
        UsageError, match="has files that are not of memtype mutate's making; name a new folder"
    ):
        plant_in(tree, MAP, work=work)
    assert (work / "tree" / "oak").exists()


def test_a_copy_that_an_earlier_version_was_interrupted_in(tree: Path, tmp_path: Path) -> None:
    """It made no mark before the copy. Nobody but this command has files in the folder of its own choice."""
    work = tmp_path / ".memtype/mutants/linux-1a2b3c4d"
    (work / "tree").mkdir(parents=True)
    (work / "tree" / "half").touch()
    assert plant_in(tree, MAP, work=work, chosen=False).mutants == (MAP,)
    assert not (work / "tree" / "half").exists()


def test_a_kernel_that_does_not_build(tree: Path, tmp_path: Path) -> None:
    broken = Mutant("broken", "mm/memory.c", "map", "size + 1", "broken", "it doesn't compile")
    with pytest.raises(KernelError, match=r"doesn't build with the faults in it.*build\.log") as caught:
        plant_in(tree, broken, work=tmp_path / "work")
    assert "mm/memory.c:1: error: it is broken" in caught.value.details


def test_a_tree_without_sources(tree: Path, tmp_path: Path) -> None:
    (tree / "mm/memory.c").unlink()
    made = plant_in(tree, MAP, work=tmp_path / "work")
    assert made.misfits == {"map-size": "there is no mm/memory.c"}
    (tree / "Makefile").write_text("all:\n")
    with pytest.raises(KernelError, match="names no version"):
        plant_in(tree, MAP, work=tmp_path / "work")


def test_a_copy_that_was_cut_off_is_made_again(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    with monkeypatch.context() as context:
        context.setattr(mutant_tree, "_COPY_SECONDS", 0)
        with pytest.raises(Exception, match="was not copied in 0 s"):
            plant_in(tree, MAP, work=work)
    assert plant_in(tree, MAP, work=work).mutants == (MAP,)


def test_a_tree_that_is_not_built(tree: Path, tmp_path: Path) -> None:
    (tree / "arch/x86/boot/bzImage").unlink()
    with pytest.raises((KernelError, UsageError), match="bzImage"):
        plant_in(tree, MAP, work=tmp_path / "work")
