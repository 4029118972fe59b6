"""Drivers for observation, and the order in which they are loaded."""

from __future__ import annotations

from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.kernels.drivers import WANTED, drivers
from pytest_memtype.kernels.module_tree import dependencies, load_order


def module(depends: str) -> bytes:
    """The part of a module that matters here, as MODULE_INFO() lays it out (include/linux/moduleparam.h)."""
    return b"\x7fELF...\0license=GPL\0depends=" + depends.encode() + b"\0retpoline=Y\0"


def test_dependencies() -> None:
    assert dependencies(module("virtio,virtio_ring")) == ["virtio", "virtio_ring"]
    assert dependencies(module("scsi-mod")) == ["scsi_mod"]
    assert dependencies(module("")) == []
    assert dependencies(b"no module at all") == []


def test_each_module_comes_behind_what_it_depends_on() -> None:
    modules = {
        "net": module("virtio,failover"),
        "pci": module("virtio,ring"),
        "virtio": module("ring"),
        "ring": module(""),
        "failover": module(""),
    }
    order = list(load_order(("net", "pci", "builtin"), modules.get))
    assert sorted(order) == sorted(modules)
    for name, content in modules.items():
        for dependency in dependencies(content):
            assert order.index(dependency) < order.index(name)


def test_the_drivers_of_a_real_kernel() -> None:
    """Debian's 6.1 cloud configuration: NVMe built in, VMware's and virtio's as modules, no DRM."""
    found = drivers(bundle("debian:bookworm"))
    assert found is not None
    assert {"vmxnet3", "vmw_pvscsi", "virtio_pci"} <= set(found.order)
    assert found.built_in == ("nvme",)
    assert {"bochs", "e1000e"} <= set(found.missing)
    assert {*found.order, *found.built_in, *found.missing} >= set(WANTED)
    archive = found.archive.read_bytes()
    assert all(f"drivers/{name}.ko\0".encode() in archive for name in found.order)


def test_they_are_made_once() -> None:
    made = bundle("debian:bookworm")
    first, second = drivers(made), drivers(made)
    assert first is not None
    assert second is not None
    assert first.archive.stat().st_mtime_ns == second.archive.stat().st_mtime_ns
