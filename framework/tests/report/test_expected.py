from __future__ import annotations

from typing import Any

import pytest

from pytest_memtype.report.expected import MODEL, unexpected

BAR = 0xFD000000


def record(step: int, **changes: Any) -> dict[str, Any]:
    return {
        "schema": 2,
        "kernel": "6.1.0-56-cloud-amd64",
        "kernel_version": "6.1.192-2",
        "hardware": {"cpu": "qemu64", "memory": "256M", "cmdline": ""},
        "test": "test_it[K]",
        "tested": "K",
        "case": "test_it",
        "guest": 1,
        "step": step,
        "actor": "drm",
        **changes,
    }


def mapping(step: int, granted: str = "WC", **changes: Any) -> dict[str, Any]:
    return record(
        step,
        operation="ioremap",
        arguments={},
        region={"start": BAR, "pages": 1},
        memory="device",
        mtrr="UC",
        handle=step,
        address=0,
        requested="WC",
        verdict={"accepted": True, "rule": None, "errno": 0, "hazards": [], "conflict": None},
        kernel_answer={"asked": True, "accepted": True, "errno": 0},
        granted=granted,
        effective=granted,
        **changes,
    )


def looked(step: int, result: Any, operation: str = "lookup") -> dict[str, Any]:
    return record(step, operation=operation, arguments={"start": BAR, "pages": 1}, result=result)


def test_what_the_model_expects() -> None:
    listed = [[BAR, 1, "WC"]]
    assert unexpected([mapping(1), looked(2, listed, "memtype_list")]) == []
    (one,) = unexpected([mapping(1), looked(2, [], "memtype_list")])
    assert (one.step, one.expected, one.found, one.source) == (2, "WC 0", "nothing", MODEL)
    assert str(one) == "test_it[K], step 2, memtype_list pages=1: nothing, expected WC 0 (model)"


@pytest.mark.parametrize(
    ("version", "granted"), [("5.10.223-1", "UC-"), ("6.1.192-2", "UC-"), ("6.12.117-1", "WC")]
)
def test_mtrrs_that_are_off_are_as_none(version: str, granted: str) -> None:
    """Up to 6.1 Linux does without a PAT then: "MTRRs disabled, skipping PAT initialization too"."""
    off = {"kernel_version": version, "mtrr_enabled": False}
    assert unexpected([mapping(1, granted) | off]) == []
    (one,) = unexpected([mapping(1, "WB") | off])
    assert (one.expected, one.source) == (granted, MODEL)


def test_after_the_first_surprise_the_model_has_no_say() -> None:
    (one,) = unexpected([mapping(1, "UC-"), mapping(2, "UC-")])
    assert (one.step, one.expected, one.found) == (1, "WC", "UC-")


def test_else_what_it_answered_last() -> None:
    first = [mapping(1), looked(2, "WC")]
    assert unexpected(first, first, run="before") == []
    (one,) = unexpected([mapping(1), looked(2, "UC-")], first, run="before")
    assert (one.expected, one.found, one.source) == ("WC", "UC-", "before")


def test_a_test_that_changed_is_no_surprise() -> None:
    assert unexpected([mapping(1), looked(2, "WC")], [looked(1, "WC")], run="before") == []


def test_a_kernel_of_ones_own_is_modelled_by_its_version() -> None:
    own = mapping(1, "UC-")
    (one,) = unexpected([{**own, "kernel_version": "6.12.118"}])
    assert (one.expected, one.found, one.source) == ("WC", "UC-", "model")


@pytest.mark.parametrize("version", ["target", "local"])
def test_a_kernel_of_no_known_version_is_not_modelled(version: str) -> None:
    """A target's; and one built on a host, in a record of an older run."""
    own = mapping(1, "UC-")
    assert unexpected([{**own, "kernel_version": version}]) == []


def devmem(start: int, *, errno: int, via: str = "devmem") -> list[dict[str, Any]]:
    """A process maps a page, and the kernel refuses it or not."""
    process = record(1, operation="process", actor="test", arguments={"name": "tool", "uid": 0}, result=None)
    asked = mapping(2, "UC-") | {
        "operation": f"mmap {via}",
        "actor": "tool",
        "region": {"start": start, "pages": 1},
        "arguments": {"via": via, "private": 0, "protection": "rw"},
        "requested": "UC-",
        "kernel_answer": {"asked": True, "accepted": not errno, "errno": errno},
    }
    return [process, asked | ({"granted": None, "effective": None, "handle": None} if errno else {})]


@pytest.mark.parametrize(
    "start", [0xFEC00000, 0xFED00000, 0xFEE00000, 0xB0000000, 0xFEBF9000], ids="{:#x}".format
)
@pytest.mark.parametrize("errno", [0, 1])
def test_a_busy_resource_is_beyond_the_model(start: int, errno: int) -> None:
    """IOAPIC, HPET, local APIC, MMCONFIG, AHCI: refused or not, by CONFIG_IO_STRICT_DEVMEM and drivers."""
    assert unexpected(devmem(start, errno=errno)) == []


def test_what_nobody_claims_is_not_refused() -> None:
    assert unexpected(devmem(BAR, errno=0)) == []
    (one,) = unexpected(devmem(BAR, errno=1))
    assert (one.step, one.source) == (2, MODEL)


@pytest.mark.parametrize(("pages", "errno"), [(1, 0), (2, 22)])
def test_sysfs_maps_no_more_than_the_bar(pages: int, errno: int) -> None:
    """pci_mmap_fits(): EINVAL for what begins in the last page of the BAR and ends behind it."""
    last = 0xFE000000 - 0x1000
    *before, asked = devmem(last, errno=errno, via="sysfs")
    assert unexpected([*before, asked | {"region": {"start": last, "pages": pages}}]) == []
    *before, asked = devmem(last, errno=22 - errno, via="sysfs")
    assert len(unexpected([*before, asked | {"region": {"start": last, "pages": pages}}])) == 1


def test_only_dev_mem_is_refused_there() -> None:
    (one,) = unexpected(devmem(0xFEC00000, errno=1, via="driver"))
    assert (one.step, one.source) == (2, MODEL)
