"""Build trees, images and the running kernel."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from memtype_support.build_tree import build_tree, debian_kernel, needs_its_compiler

from pytest_memtype import MemType
from pytest_memtype.errors import KernelError
from pytest_memtype.kernels.bundle import Bundle, bundle, resolve
from pytest_memtype.kernels.local import LocalKernel, find_local
from pytest_memtype.kernels.requirements import settings
from pytest_memtype.kernels.spec import BuildSpec, parse
from pytest_memtype.plugin.fixtures import GuestFactory

DEFAULT = "debian:bookworm"

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def debian() -> Bundle:
    return debian_kernel(DEFAULT)


@pytest.fixture
def tree(debian: Bundle, tmp_path: Path) -> Path:
    return build_tree(tmp_path / "tree", debian)


def local(spec: str) -> LocalKernel:
    wanted = parse(spec)
    assert isinstance(wanted, BuildSpec)
    return find_local(wanted)


def test_a_guest_of_a_tree(guest_factory: GuestFactory, tree: Path, debian: Bundle) -> None:
    needs_its_compiler(tree)
    spec = f"tree:{tree}"
    before = sorted(path for path in tree.rglob("*"))
    made = bundle(spec)
    try:
        assert sorted(path for path in tree.rglob("*")) == before, "a build changes nothing in the tree"
        assert (made.spec, made.release) == (spec, debian.release)
        # The upstream version, which Debian's release lacks.
        assert made.version == debian.version.partition("-")[0]
        assert (made.is_debians, debian.is_debians) == (False, True)
        assert resolve(spec) == spec
        assert made.module is not None
        assert bundle(f"image:{debian.image},build={tree}").release == made.release
        guest = guest_factory(kernel=spec)
        assert guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC).accepted
    finally:
        shutil.rmtree(made.directory)


def test_a_tree_built_again_is_another_kernel(tree: Path) -> None:
    needs_its_compiler(tree)
    before = local(f"tree:{tree}").identity
    with (tree / "Module.symvers").open("a") as file:
        file.write("0x12345678\tanother_symbol\tvmlinux\tEXPORT_SYMBOL_GPL\t\n")
    assert local(f"tree:{tree}").identity != before


def remove_image(tree: Path) -> None:
    (tree / "arch" / "x86" / "boot" / "bzImage").unlink()


def spoil_image(tree: Path) -> None:
    (tree / "arch" / "x86" / "boot" / "bzImage").write_bytes(bytes(4096))


def remove_symbols(tree: Path) -> None:
    (tree / "Module.symvers").unlink()


def remove_config(tree: Path) -> None:
    (tree / ".config").unlink()


def switch_modules_off(tree: Path) -> None:
    text = (tree / ".config").read_text()
    (tree / ".config").write_text(text.replace("CONFIG_MODULES=y", "# CONFIG_MODULES is not set"))


def configure_another_release(tree: Path) -> None:
    (tree / "include" / "generated" / "utsrelease.h").write_text('#define UTS_RELEASE "6.1.0-other"\n')


def build_with_another_compiler(tree: Path) -> None:
    version = settings((tree / ".config").read_text())["GCC_VERSION"]
    text = (tree / ".config").read_text()
    (tree / ".config").write_text(text.replace(f"CONFIG_GCC_VERSION={version}", "CONFIG_GCC_VERSION=30400"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove_image, "build the kernel first (make bzImage)"),
        (spoil_image, "is no bzImage of an x86 kernel"),
        (remove_symbols, "has no Module.symvers; finish the build there"),
        (remove_config, "has no .config"),
        (switch_modules_off, "lacks CONFIG_MODULES=y"),
        (configure_another_release, "builds modules for 6.1.0-other; name two that belong together"),
        (build_with_another_compiler, "gcc 3.4.0 is not on the PATH"),
    ],
)
def test_a_tree_that_can_not_be_used(tree: Path, change: Callable[[Path], None], message: str) -> None:
    change(tree)
    with pytest.raises(KernelError) as caught:
        bundle(f"tree:{tree}")
    assert caught.value.message.startswith(f"kernel 'tree:{tree}': ")
    assert message in caught.value.message
    assert "\n" not in caught.value.message


@pytest.fixture
def folder_of_somebody_else(tmp_path: Path) -> Iterator[Path]:
    """Root may enter every folder, and is nobody for the time of the test."""
    path = tmp_path / "closed"
    (path / "tree").mkdir(parents=True)
    path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield path
    if root:
        os.seteuid(0)
    path.chmod(0o700)


def test_a_tree_in_a_folder_one_may_not_enter(folder_of_somebody_else: Path) -> None:
    spec = f"tree:{folder_of_somebody_else}/tree"
    with pytest.raises(KernelError) as caught:
        local(spec)
    assert caught.value.message.startswith(f"kernel {spec!r}: {folder_of_somebody_else}/tree")
    assert caught.value.message.endswith(": Permission denied; make it readable for you")


CONFIG = (
    *("X86_64", "BLK_DEV_INITRD", "DEVTMPFS", "PROC_FS", "SYSFS", "PCI", "SERIAL_8250_CONSOLE", "BINFMT_ELF"),
    *("PRINTK", "FILE_LOCKING", "NET", "UNIX", "MODULES", "STACKTRACE"),
)


@pytest.fixture
def read_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is read of a tree before anything is built, and no more."""
    (tmp_path / "arch/x86/boot").mkdir(parents=True)
    (tmp_path / "include/generated").mkdir(parents=True)
    # Documentation/arch/x86/boot.rst: where the header and the version are.
    image = bytearray(1024)
    image[0x202:0x206], image[0x20E] = b"HdrS", 0x40
    image[0x240:0x246] = b"6.1.0 "
    (tmp_path / "arch/x86/boot/bzImage").write_bytes(image)
    (tmp_path / "include/generated/utsrelease.h").write_text('#define UTS_RELEASE "6.1.0"\n')
    (tmp_path / "Module.symvers").touch()
    # It is asked for its version alone.
    gcc = tmp_path / "bin" / "gcc"
    gcc.parent.mkdir()
    gcc.write_text("#!/bin/sh\necho 12.2.0\n")
    gcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(gcc.parent), prepend=os.pathsep)
    lines = [*(f"CONFIG_{name}=y" for name in CONFIG), "CONFIG_GCC_VERSION=120200"]
    (tmp_path / ".config").write_text("\n".join(lines) + "\n")
    return tmp_path


VERSION = """\
#define LINUX_VERSION_CODE 393664
#define KERNEL_VERSION(a,b,c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#define LINUX_VERSION_MAJOR 6
#define LINUX_VERSION_PATCHLEVEL 1
#define LINUX_VERSION_SUBLEVEL 192
"""


@pytest.mark.parametrize(
    ("header", "version"),
    [
        (VERSION, "6.1.192"),
        # Before 5.13.
        ("#define LINUX_VERSION_CODE 330495\n", "5.10.255"),
        # Without the header the release has to do.
        (None, "6.1.0"),
    ],
)
def test_the_version_of_a_tree(read_tree: Path, header: str | None, version: str) -> None:
    if header is not None:
        path = read_tree / "include/generated/uapi/linux/version.h"
        path.parent.mkdir(parents=True)
        path.write_text(header)
    assert local(f"tree:{read_tree}").version == version


@pytest.mark.parametrize("name", [".config", "Module.symvers", "include/generated/utsrelease.h"])
def test_a_tree_with_a_file_that_can_not_be_read(read_tree: Path, name: str) -> None:
    assert local(f"tree:{read_tree}").release == "6.1.0"
    (read_tree / name).unlink()
    # Whoever reads that, and be it root, gets an error.
    (read_tree / name).symlink_to("/proc/self/mem")
    with pytest.raises(KernelError, match="Input/output error") as caught:
        local(f"tree:{read_tree}")
    assert "\n" not in caught.value.message


def test_a_tree_may_have_a_name_of_any_bytes(read_tree: Path) -> None:
    link = read_tree.with_name(os.fsdecode(b"n\xe4chster"))
    link.symlink_to(read_tree)
    assert local(f"tree:{link}").identity != local(f"tree:{read_tree}").identity


def test_an_image_that_is_cut_short(read_tree: Path) -> None:
    (read_tree / "arch/x86/boot/bzImage").write_bytes(bytes(0x202) + b"HdrS")
    with pytest.raises(KernelError, match="bzImage is cut short; build the kernel again"):
        local(f"tree:{read_tree}")


def test_the_running_kernel() -> None:
    if Path("/lib/modules", os.uname().release, "build").is_dir():
        pytest.skip("this host has the headers of its kernel")
    with pytest.raises(KernelError) as caught:
        resolve("host")
    assert caught.value.message.startswith("kernel 'host': the headers of the running kernel ")
    assert f"install its headers (linux-headers-{os.uname().release})" in caught.value.message
    assert "\n" not in caught.value.message
