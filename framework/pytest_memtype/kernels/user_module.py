"""A kernel module of the user's own, built for a kernel under test by that kernel's compiler.

It is a folder with a Kbuild file or a Makefile, a single ``.c`` file, a ``.ko`` that was built elsewhere, or
the name of a module in the kernel's package. What was built is kept in the cache by what it was built from.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pytest_memtype.errors import KernelError, ModuleBroken, ModuleMissing, UsageError, reason
from pytest_memtype.host import resources
from pytest_memtype.host.files import read_file
from pytest_memtype.host.nearest import unknown
from pytest_memtype.host.progress import Progress, silent
from pytest_memtype.host.store import made_once, seal, staged, temp_dir
from pytest_memtype.kernels import mirror, sandbox
from pytest_memtype.kernels.build import build_out_of_tree
from pytest_memtype.kernels.bundle import Bundle
from pytest_memtype.kernels.fetch import fetch
from pytest_memtype.kernels.local import find_local
from pytest_memtype.kernels.module_tree import dependencies, module_name, packaged, unpacked
from pytest_memtype.kernels.spec import DebianSpec, parse
from pytest_memtype.kernels.stage import Stage, Step

FOLDER: Final = "user-modules"
"""The folder of modules in the cache: those of users, and those of kernels' packages that they need."""

# Part of every module's key: raise it when this file makes other files from the same sources.
_RECIPE: Final = "1"
_LIMIT_SECONDS: Final = 600
#: Bytes of the largest file, and of all files of a folder.
_LARGEST: Final = 64 << 20
_MOST_FILES: Final = 2000
_DETAIL_LINES: Final = 60
# Products of an earlier build by hand are neither copied nor hashed.
_PRODUCTS: Final = re.compile(r".*\.(o|ko|mod|mod\.c|cmd|symvers|order|a|d)")
_VERMAGIC: Final = re.compile(rb"\0vermagic=([^\0 ]*)")
_NAME: Final = re.compile(rb"\0name=([^\0]*)\0")
_PLAIN_NAME: Final = re.compile(r"[\w-]+")
_BUILDABLE: Final = re.compile(r"[\w.+-]+")

_MODULE_SCRIPT: Final = """
make -s -j{jobs} -C /usr/src/linux-headers-{release} M=/src/{folder} KCFLAGS="{flags}" modules 2>&1
"""
# What __FILE__ and the debug information say is a path that means something to the user.
_FLAGS: Final = "-g -ffile-prefix-map=/src/="
_STRIP: Final = "for each in $(find /src -name '*.ko'); do strip --strip-debug -o $each.stripped $each; done"


@dataclass(frozen=True)
class UserModule:
    """A module that is ready to be loaded into guests of one kernel.

    :param name: Its name as the kernel has it.
    :param source: The folder, file or name that the user gave.
    :param file: The module, without debug information where it was built here.
    :param debug: The module with debug information; ``file`` where it wasn't built here.
    :param kit: The root folder with the compiler that it was built by, None for this host's.
    :param folder: The folder that it was built in, as its debug information has it; empty where it wasn't
        built here.
    :param needs: The modules of the kernel's package that it depends on, in the order of loading.
    """

    name: str
    source: str
    file: Path
    debug: Path
    kit: Path | None
    folder: str = ""
    needs: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that a guest needs, in the order of loading."""
        return (*self.needs, self.file)


def check_source(source: str, folder: Path) -> Path | None:
    """The file or folder of a module, None where it is the name of a module in the kernel's package.

    :param source: The folder, file or name, as the user wrote it.
    :param folder: The folder that a relative path starts from.
    :raises UsageError: there is no such file or folder, or nothing that a module can be built from.
    """
    try:
        # "..", too, is a folder with a name.
        path = Path(os.path.normpath(folder / Path(source).expanduser()))
        return _checked(source, path)
    except RuntimeError:
        raise UsageError(f"module {source!r}: there is no such home folder; write the path in full") from None
    except OSError as error:
        raise UsageError(f"module {source!r}: {reason(error)}; name another file or folder") from None


def _checked(source: str, path: Path) -> Path | None:
    if (path.is_dir() or path.suffix == ".c") and path.exists() and not _BUILDABLE.fullmatch(path.name):
        raise UsageError(f"module {source!r}: make can't build what is called {path.name!r}")
    if path.is_dir():
        if not any((path / name).is_file() for name in ("Kbuild", "Makefile")):
            raise UsageError(f"module {source!r}: {path} has neither Kbuild nor Makefile; write obj-m there")
        return path
    if path.suffix in (".c", ".ko") and path.exists():
        return path
    if _PLAIN_NAME.fullmatch(source) and not path.exists():
        return None
    if path.exists():
        raise UsageError(f"module {source!r}: name a folder with a Kbuild file, a .c file or a .ko file")
    near = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UsageError(f"module {source!r}: there is no {path}{unknown(path.name, near)}")


def user_module(source: str, folder: Path, made: Bundle, *, progress: Progress = silent) -> UserModule:
    """A module of the user's, from the cache or built.

    :param source: The folder, file or name, as the user wrote it.
    :param folder: The folder that a relative path starts from.
    :param made: The kernel.
    :param progress: Called with a line at the start of each slow stage.
    :raises UsageError: there is no such file, or it is a module for another kernel.
    :raises ModuleBroken: the compiler refuses it; its words are in the details.
    :raises ModuleMissing: the kernel's headers are gone.
    :raises KernelError: what is needed besides can't be had.
    """
    path = check_source(source, folder)
    if path is None:
        return _of_the_package(source, made, progress=progress)
    if path.suffix == ".ko" and not path.is_dir():
        module = _brought(source, path, made, progress=progress)
    else:
        module = _built(source, path, made, progress=progress)
    wanted = dependencies(module.file.read_bytes())
    needs = _package_files(made, wanted, progress=progress) if wanted else {}
    missing = [name for name, file in needs.items() if file is None]
    if missing:
        raise UsageError(
            f"module {source!r} depends on {', '.join(missing)}, which {made.release} doesn't have"
        )
    return replace(module, needs=tuple(file for file in needs.values() if file is not None))


def _brought(source: str, path: Path, made: Bundle, *, progress: Progress) -> UserModule:
    content = read_file(path, most=_LARGEST)
    match = _VERMAGIC.search(content)
    if match is None:
        raise UsageError(f"module {source!r}: {path} is no kernel module")
    release = match[1].decode("latin-1")
    if release != made.release:
        raise UsageError(
            f"module {source!r}: it is built for {release}, and the guest's kernel is {made.release}; bring "
            "its source, which is built for each kernel"
        )
    # Templates and guests know a file by its path alone, so that another content has to have another one.
    cache = resources.cache_directory()
    key = f"{module_name(path.stem)}-{release}-{hashlib.sha256(content).hexdigest()[:16]}"
    folder = cache / FOLDER / key

    def make(place: Path) -> None:
        with staged(folder, cache=place) as target:
            target.mkdir()
            (target / "module.ko").write_bytes(content)
            seal(target)

    made_once(folder, make, cache=cache, work=key, progress=progress)
    file = folder / "module.ko"
    return UserModule(_name(content, path), source, file, file, None)


def _name(content: bytes, path: Path) -> str:
    match = _NAME.search(content)
    return match[1].decode("latin-1") if match else module_name(path.stem)


def _built(source: str, path: Path, made: Bundle, *, progress: Progress) -> UserModule:
    if made.module is None:
        raise ModuleMissing(f"module {source!r}: a build")
    files = dict(_sources(path))
    # Debian's compilers and headers are those of the kit; the sources of the guest are no part of it.
    kernel = made.kit.name if made.is_debians else made.key
    digest = hashlib.sha256(f"{_RECIPE}\0{kernel}\0{path.name}\0".encode())
    for name, content in files.items():
        # A name may have any bytes.
        digest.update(os.fsencode(name) + f"\0{len(content)}\0".encode() + content)
    cache = resources.cache_directory()
    stem = module_name(_build_folder(path))
    folder = cache / FOLDER / f"{stem}-{made.release}-{digest.hexdigest()[:16]}"

    def make(place: Path) -> None:
        if made.is_debians and not made.kit.is_dir():
            mirror.require(f"the compiler of {made.release}")
            progress(Step(Stage.DOWNLOADING, f"the compiler of {made.release}"))
            fetch(packaged(made), cache=cache, place=place)
        progress(Step(Stage.BUILDING, f"{stem} for {made.release}"))
        with temp_dir(place) as work, staged(folder, cache=place) as target:
            inside = work / _build_folder(path)
            for name, content in files.items():
                file = inside / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            _compile(source, path, inside, made)
            module = _the_module(source, inside)
            target.mkdir()
            shutil.copyfile(module, target / "debug.ko")
            shutil.copyfile(f"{module}.stripped", target / "module.ko")
            seal(target)

    # The lock is the kit's: a build without bubblewrap writes to the kit.
    made_once(folder, make, cache=cache, work=made.kit.name, progress=progress)
    file = folder / "module.ko"
    kit = made.kit if made.is_debians else None
    return UserModule(
        _name(file.read_bytes(), path), source, file, folder / "debug.ko", kit, _build_folder(path)
    )


def _build_folder(path: Path) -> str:
    """The name of the folder that a module is built in, which is its own name, too."""
    return path.stem if path.is_file() else path.name


def _sources(path: Path) -> Iterator[tuple[str, bytes]]:
    """The files to build, by their names in the folder that they are built in."""
    if path.is_file():
        yield path.name, read_file(path, most=_LARGEST)
        yield "Kbuild", f"obj-m := {path.stem}.o\n".encode()
        return
    found = [
        each
        for each in sorted(path.rglob("*"))
        if each.is_file()
        and not _PRODUCTS.fullmatch(each.name)
        and not any(part.startswith(".") for part in each.relative_to(path).parts)
    ]
    if len(found) > _MOST_FILES or sum(each.stat().st_size for each in found) > _LARGEST:
        raise UsageError(
            f"{path}: has more than {_MOST_FILES} files or {_LARGEST >> 20} MiB; name the module's folder"
        )
    for each in found:
        yield str(each.relative_to(path)), read_file(each, most=_LARGEST)


def _compile(source: str, path: Path, inside: Path, made: Bundle) -> None:
    work = inside.parent
    if made.is_debians:
        script = _MODULE_SCRIPT.format(jobs=1, release=made.release, folder=inside.name, flags=_FLAGS)
        done = sandbox.run(made.kit, source=work, script=f"set -eu{script}{_STRIP}", limit=_LIMIT_SECONDS)
        status, output = done.status, done.output
        where = "/src"
    else:
        spec = parse(made.spec)
        if isinstance(spec, DebianSpec):
            raise KernelError(
                f"module {source!r}: {made.release} was built on another machine; build it there"
            )
        local = find_local(spec)
        flags = _FLAGS.replace("/src/", f"{work}/")
        status, output = build_out_of_tree(
            local.build, compiler=local.compiler, module=inside, flags=flags, limit=_LIMIT_SECONDS
        )
        where = str(work)
    if status:
        raise _broken(source, path, output, made, where=where)


def _broken(source: str, path: Path, output: str, made: Bundle, *, where: str) -> ModuleBroken:
    # The user's own paths, which an editor opens.
    text = output.replace(f"{where}/{_build_folder(path)}/", f"{path if path.is_dir() else path.parent}/")
    lines = [line for line in text.splitlines() if not line.startswith("make")]
    first = next((line for line in lines if "error:" in line), lines[-1] if lines else "make failed")
    return ModuleBroken(
        f"module {source!r} doesn't build for {made.release}: {first.strip()}",
        details=tuple(lines[:_DETAIL_LINES]),
    )


def _the_module(source: str, inside: Path) -> Path:
    found = sorted(inside.rglob("*.ko"))
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        raise UsageError(f"module {source!r}: its folder has to build one module, and builds {names}")
    return found[0]


def _of_the_package(source: str, made: Bundle, *, progress: Progress) -> UserModule:
    name = module_name(source)
    files = _package_files(made, [name], progress=progress)
    file = files.pop(name, None)
    if file is None:
        why = "is part of the kernel itself" if name in files else "has no module of that name"
        raise UsageError(f"module {source!r}: there is no such file or folder, and {made.release} {why}")
    needs = tuple(each for each in files.values() if each is not None)
    return UserModule(name, source, file, file, None, needs=needs)


def _package_files(made: Bundle, wanted: Sequence[str], *, progress: Progress) -> dict[str, Path | None]:
    """Modules of a kernel's package with all that they depend on, in the order of loading.

    :param made: The kernel.
    :param wanted: Names of modules. Those that are part of the kernel itself are left out.
    :param progress: Called with a line before a download.
    :returns: their files in the cache; None for names that the package doesn't have.
    """
    if not made.is_debians:
        raise KernelError(
            f"{made.spec}: the modules {', '.join(wanted)} are looked for in Debian's packages alone"
        )
    kernel = packaged(made)
    cache = resources.cache_directory()
    names = "\0".join((_RECIPE, kernel.suite, kernel.version, *sorted(wanted)))
    folder = cache / FOLDER / f"package-{made.release}-{hashlib.sha256(names.encode()).hexdigest()[:16]}"

    def make(place: Path) -> None:
        mirror.require(f"the modules of {made.release}")
        progress(Step(Stage.DOWNLOADING, f"the modules of {made.release}"))
        with temp_dir(place) as work, staged(folder, cache=place) as target:
            tree = unpacked(kernel, work / "root", what=f"the modules of {made.release}", cache=cache)
            found = tree.load_order(wanted)
            target.mkdir()
            for name, content in found.items():
                (target / f"{name}.ko").write_bytes(content)
            facts = {"order": list(found), "built_in": [each for each in wanted if each in tree.built_in]}
            (target / "modules.json").write_text(json.dumps(facts))
            seal(target)

    made_once(folder, make, cache=cache, work=f"package-{made.release}", progress=progress)
    facts = json.loads((folder / "modules.json").read_bytes())
    there: dict[str, Path | None] = {name: folder / f"{name}.ko" for name in facts["order"]}
    lacking = [each for each in wanted if each not in there and each not in facts["built_in"]]
    return there | dict.fromkeys(lacking)
