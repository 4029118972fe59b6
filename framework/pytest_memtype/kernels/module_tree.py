"""The modules of a Debian kernel, unpacked from its packages."""

from __future__ import annotations

import lzma
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype.errors import KernelError
from pytest_memtype.kernels.bundle import Bundle
from pytest_memtype.kernels.fetch import kernel_of
from pytest_memtype.kernels.index import Kernel
from pytest_memtype.kernels.mmdebstrap import unpack
from pytest_memtype.kernels.sources import sources_of

HOOK = """
mkdir "$1/package"
cd "$1/package"
apt-get download -qq {packages}
for package in ./*.deb; do dpkg-deb -x "$package" .; rm "$package"; done
"""
"""The shell lines that unpack the packages; part of the key of all that is made of the modules."""

# MODULE_INFO() of the kernel: strings "name=value" that end with NUL, in the section .modinfo.
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


@dataclass(frozen=True)
class ModuleTree:
    """The unpacked modules of a kernel.

    :param folder: ``lib/modules/RELEASE``.
    :param built_in: Names of the modules that are part of the kernel itself.
    """

    folder: Path
    built_in: frozenset[str]

    def load_order(self, wanted: Iterable[str]) -> dict[str, bytes]:
        """The contents of modules and all that they depend on, by name, in the order of loading."""
        files = {module_name(path.name.partition(".ko")[0]): path for path in self.folder.rglob("*.ko*")}
        return load_order(wanted, lambda name: module_contents(files[name]) if name in files else None)


def packaged(bundle: Bundle) -> Kernel:
    """The Debian kernel that a bundle was made from.

    :param bundle: A bundle of one of Debian's kernels.
    :raises KernelError: neither the bundle nor its kit says which kernel it was.
    """
    kernel = kernel_of(bundle.kit) or kernel_of(bundle.directory)
    if kernel is None:
        raise KernelError(
            f"{bundle.kit}: the kit of {bundle.release} is gone; remove that kernel (memtype kernels "
            "remove) and fetch it again"
        )
    return kernel


def unpacked(kernel: Kernel, root: Path, *, what: str, cache: Path) -> ModuleTree:
    """Fetch the packages of a kernel's modules, and unpack them.

    :param kernel: The kernel.
    :param root: A new folder to unpack the packages in.
    :param what: The thing that is made of the modules, as the beginning of an error's message.
    :param cache: The cache folder, for a note that the mirror is unreachable.
    :raises KernelError: a package can't be had, or makes no sense.
    :raises HostError: the host lacks a program or space.
    """
    hook = HOOK.format(packages=module_packages(kernel))
    unpack(sources_of(kernel.suite), root, hook=hook, what=what, cache=cache)
    # In /lib, or from 6.19 on in /usr/lib.
    builtin = next((root / "package").glob(f"**/lib/modules/{kernel.release}/modules.builtin"), None)
    if builtin is None:
        raise KernelError(f"{what}: {module_packages(kernel)} don't list what is built in")
    names = frozenset(module_name(Path(line).stem) for line in builtin.read_text().splitlines())
    return ModuleTree(builtin.parent, names)


def module_packages(kernel: Kernel) -> str:
    """The names and versions of the packages with the modules and the list of built-in modules."""
    # 6.19 split the package: linux-base-X lists the built-in modules, linux-modules-X has the others.
    split = kernel.image.startswith("linux-binary-")
    parts = ("linux-base", "linux-modules")
    names = [f"{part}-{kernel.release}" for part in parts] if split else [kernel.image]
    return " ".join(f'"{name}={kernel.version}"' for name in names)


def load_order(wanted: Iterable[str], read: Callable[[str], bytes | None]) -> dict[str, bytes]:
    """The contents of modules and all that they depend on, each behind the modules that it depends on.

    :param wanted: Names of modules.
    :param read: Called with a module's name; returns its contents, or None when there is no such module. A
        module that is built into the kernel is none.
    :returns: the contents by name, in the order of loading.
    """
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found or (content := read(name)) is None:
            return
        for dependency in dependencies(content):
            add(dependency)
        found[name] = content

    for name in wanted:
        add(name)
    return found


def dependencies(module: bytes) -> list[str]:
    """The names of the modules that a module wants loaded first.

    depmod's modules.dep, which has them too, is written when the package is installed.
    """
    match = _DEPENDS.search(module)
    return [module_name(name) for name in match[1].decode().split(",") if name] if match else []


def module_contents(path: Path) -> bytes:
    """A module as the kernel loads it. Debian 13 compresses its modules with xz."""
    match path.suffix:
        case ".ko":
            return path.read_bytes()
        case ".xz":
            return lzma.decompress(path.read_bytes())
        case other:
            raise KernelError(f"{path.name}: modules compressed as {other} can't be read")


def module_name(name: str) -> str:
    # A module's file may have "-" where its name has "_".
    """The name of a module, from the name of its file."""
    return name.replace("-", "_")
