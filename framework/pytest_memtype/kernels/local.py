"""Kernels that were built on this host, and the one it runs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype.errors import KernelError, UsageError, reason
from pytest_memtype.host.files import read_file
from pytest_memtype.kernels import requirements
from pytest_memtype.kernels.spec import BuildSpec, HostSpec

# Documentation/arch/x86/boot.rst: a bzImage has "HdrS" at 0x202, and the place of its version, less 0x200,
# at 0x20e.
_MAGIC = (0x202, b"HdrS")
_VERSION_POINTER = 0x20E
_LONGEST_VERSION = 256
# What modules are built for. Debian's headers have another name in include/config/kernel.release.
_RELEASE = "include/generated/utsrelease.h"
# Made from the Makefile's VERSION, PATCHLEVEL and SUBLEVEL. A release may lack the last (Debian's, before
# 6.12). Before 5.13 there is a number alone, whose last part ends at 255.
_VERSION = "include/generated/uapi/linux/version.h"
_VERSION_PARTS = ("MAJOR", "PATCHLEVEL", "SUBLEVEL")
_COMPILER_SECONDS = 30
# Bytes; a bzImage has 15 MiB, and Module.symvers of all modules 3.
_LARGEST = 1 << 28


@dataclass(frozen=True)
class LocalKernel:
    """A kernel that was built on this host.

    :param name: The spec as the user wrote it.
    :param release: The release as ``uname -r`` prints it.
    :param version: The version of its source's Makefile, "6.12.118".
    :param image: The bzImage.
    :param build: The folder that modules for it are built against.
    :param config: The file of its configuration.
    :param compiler: Arguments of make that name the compiler it was built with.
    :param identity: Hash of its image, configuration, symbols and compiler.
    """

    name: str
    release: str
    version: str
    image: Path
    build: Path
    config: Path
    compiler: tuple[str, ...]
    identity: str


def find_local(spec: BuildSpec | HostSpec) -> LocalKernel:
    """Find a kernel that was built on this host, and check that its parts belong together.

    :param spec: The spec of a build, or of the kernel that this host runs.
    :raises KernelError: a part is missing, can't be read, or doesn't belong to the others.
    """
    what = f"kernel {spec.text!r}"
    try:
        return _find(_of_the_host(spec) if isinstance(spec, HostSpec) else spec, what)
    except OSError as error:
        raise KernelError(f"{what}: {reason(error)}; make it readable for you") from None
    except UsageError as error:
        # The user named the folder, and the error is about a file in it.
        raise KernelError(f"{what}: {error.message}") from None


def _find(spec: BuildSpec, what: str) -> LocalKernel:
    if not spec.build.is_dir():
        raise KernelError(f"{what}: there is no folder {spec.build}; name the one the kernel was built in")
    config = spec.build / ".config"
    if not config.is_file():
        raise KernelError(f"{what}: {spec.build} has no .config; name the folder a kernel was built in")
    requirements.check(config, what=what, module=True)
    release = _release_of(spec.image, what)
    for needed in (_RELEASE, "Module.symvers"):
        if not (spec.build / needed).is_file():
            raise KernelError(
                f"{what}: {spec.build} has no {needed}; finish the build there (make bzImage modules)"
            )
    built = "".join(re.findall('"(.*)"', (spec.build / _RELEASE).read_text(errors="replace")))
    if built != release:
        raise KernelError(
            f"{what}: {spec.image} is {release}, but {spec.build} builds modules for {built}; name two that "
            "belong together"
        )
    compiler = _compiler(requirements.settings(config.read_text(errors="replace")), what)
    return LocalKernel(
        name=spec.text,
        release=release,
        version=_version_of_source(spec.build) or release,
        image=spec.image,
        build=spec.build,
        config=config,
        compiler=compiler,
        identity=_identity(spec, config, compiler),
    )


def _of_the_host(spec: HostSpec) -> BuildSpec:
    release = os.uname().release
    build = Path("/lib/modules", release, "build")
    images = (Path("/boot", f"vmlinuz-{release}"), Path("/lib/modules", release, "vmlinuz"))
    image = next((path for path in images if path.is_file()), None)
    if not build.is_dir():
        raise KernelError(
            f"kernel 'host': the headers of the running kernel {release} are not at {build}; "
            f"install its headers (linux-headers-{release}), or name another kernel"
        )
    if image is None:
        raise KernelError(
            f"kernel 'host': the image of the running kernel {release} is not at {images[0]}; "
            "name it with image:BZIMAGE,build=PATH, or name another kernel"
        )
    return BuildSpec(spec.text, image=image, build=build)


def _release_of(image: Path, what: str) -> str:
    """The release that a bzImage names."""
    try:
        data = read_file(image, most=_LARGEST)
    except UsageError as error:
        if not image.exists():
            raise KernelError(f"{what}: there is no {image}; build the kernel first (make bzImage)") from None
        raise KernelError(f"{what}: {error.message}") from None
    offset, magic = _MAGIC
    if data[offset : offset + len(magic)] != magic:
        raise KernelError(f"{what}: {image} is no bzImage of an x86 kernel")
    if len(data) < _VERSION_POINTER + 2:
        raise KernelError(f"{what}: {image} is cut short; build the kernel again (make bzImage)")
    (pointer,) = struct.unpack_from("<H", data, _VERSION_POINTER)
    text = data[pointer + 0x200 :][:_LONGEST_VERSION].partition(b"\0")[0].decode("latin-1")
    return text.split(" ")[0]


def _version_of_source(build: Path) -> str | None:
    """The version that a build's source has in its Makefile; None where the build doesn't say."""
    header = build / _VERSION
    if not header.is_file():
        return None
    text = header.read_text(errors="replace")
    found = dict(re.findall(r"^#define LINUX_VERSION_(\w+) (\d+)$", text, re.MULTILINE))
    if all(part in found for part in _VERSION_PARTS):
        return ".".join(found[part] for part in _VERSION_PARTS)
    code = int(found.get("CODE", 0))
    return f"{code >> 16}.{code >> 8 & 0xFF}.{code & 0xFF}" if code else None


def _compiler(settings: dict[str, str], what: str) -> tuple[str, ...]:
    clang = settings.get("CC_IS_CLANG") == "y"
    wanted = settings.get("CLANG_VERSION" if clang else "GCC_VERSION", "0")
    # 120200 stands for 12.2.0.
    version = ".".join(str(part) for part in _parts(int(wanted) if wanted.isdigit() else 0))
    name = "clang" if clang else "gcc"
    major = version.partition(".")[0]
    for program in (name, f"{name}-{major}", f"x86_64-linux-gnu-{name}-{major}"):
        if shutil.which(program) and _version_of(program) == version:
            return ("LLVM=1",) if clang and settings.get("LD_IS_LLD") == "y" else (f"CC={program}",)
    raise KernelError(
        f"{what}: it was built with {settings.get('CC_VERSION_TEXT', name)!r}, and {name} {version} is not "
        "on the PATH; install it, or build the kernel with a compiler that is"
    )


def _parts(number: int) -> tuple[int, int, int]:
    return number // 10000, number // 100 % 100, number % 100


def _version_of(program: str) -> str:
    option = "-dumpversion" if "clang" in program else "-dumpfullversion"
    try:
        done = subprocess.run(
            [program, option], capture_output=True, text=True, timeout=_COMPILER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.match(r"\d+\.\d+\.\d+", done.stdout)
    return found[0] if found else ""


def _identity(spec: BuildSpec, config: Path, compiler: tuple[str, ...]) -> str:
    digest = hashlib.sha256(os.fsencode(f"{spec.build}\0{compiler}\0"))
    for path in (spec.image, config, spec.build / "Module.symvers"):
        digest.update(hashlib.sha256(read_file(path, most=_LARGEST)).digest())
    return digest.hexdigest()
