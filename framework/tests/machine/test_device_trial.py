"""Which guests with further devices can be cloned, by this host's QEMU."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_memtype.errors import UsageError
from pytest_memtype.machine.device_trial import why_not_saved
from pytest_memtype.machine.hardware import Hardware

MEMORY = "memory-backend-ram,id=m,size=1M"


def why(devices: Sequence[str], objects: Sequence[str] = ()) -> str | None:
    return why_not_saved(Hardware(devices=devices, objects=objects), "tcg")


def test_devices_without_a_state() -> None:
    assert why(["edu"]) == "QEMU doesn't save the state of edu"
    behind = [
        "pcie-root-port,id=r,chassis=1",
        "virtio-balloon-pci,bus=r",
        "pci-testdev,membar=1M",
        "edu,id=e",
    ]
    assert why(behind) == "QEMU doesn't save the state of pci-testdev, edu"


def test_devices_that_forbid_it() -> None:
    reason = why(["ivshmem-plain,memdev=m"], [MEMORY])
    assert reason is not None
    assert "peer mode" in reason
    reason = why(["ivshmem-plain,memdev=m,master=on"], [f"{MEMORY},share=on"])
    assert reason == "QEMU can't restore the memory m, which is shared (share=off makes it private)"


def test_devices_that_are_saved() -> None:
    assert why([]) is None
    assert why(["ivshmem-plain,memdev=m,master=on"], [MEMORY]) is None
    assert (
        why(["virtio-net-pci,romfile=", "pcie-root-port,id=r,chassis=1", "virtio-balloon-pci,bus=r"]) is None
    )


@pytest.mark.parametrize(
    ("devices", "objects", "says"),
    [
        (["nosuch"], [], "hardware: QEMU says: -device nosuch: 'nosuch' is not a valid device model name"),
        (["edu,colour=red"], [], "-device edu,colour=red: "),
        (["edu"], ["memory-backend-nosuch,id=m"], "-object memory-backend-nosuch,id=m: "),
    ],
)
def test_qemus_own_words(devices: list[str], objects: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        why(devices, objects)
    assert says in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("devices", ["edu", [1], ["edu -monitor"], ["edu\n"], 5])
def test_what_is_no_list_of_arguments(devices: object) -> None:
    with pytest.raises(UsageError, match="hardware: devices"):
        Hardware(devices=devices)  # type: ignore[arg-type]
