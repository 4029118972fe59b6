"""What QEMU says of a CPU, from its answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from pytest_memtype.audit.features import Features, features
from pytest_memtype.errors import UsageError
from pytest_memtype.machine.qmp import Qmp
from pytest_memtype.x86.effective import Vendor

AMD = {"vendor": "AuthenticAMD", "phys-bits": 0, "mtrr": True, "lm": True}


def qemu(properties: dict[str, object]) -> Qmp:
    """Answers as QEMU 7.2 gives them (qapi/machine.json, qapi/qom.json)."""

    def answer(command: str, arguments: dict[str, Any]) -> Any:
        if command == "query-cpus-fast":
            return [{"cpu-index": 0, "qom-path": "/machine/unattached/device[0]"}]
        assert arguments["path"] == "/machine/unattached/device[0]"
        if command == "qom-list":
            return [{"name": name, "type": "?"} for name in properties]
        return properties[arguments["property"]]

    def ask(kind: Any, command: str, arguments: dict[str, Any] | None = None) -> Any:
        return msgspec.convert(answer(command, arguments or {}), kind)

    return cast(Qmp, SimpleNamespace(ask=ask))


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        # 0 is TCG's own width (QEMU 7.2, TCG_PHYS_ADDR_BITS).
        (AMD, Features(Vendor.AMD, 40, True)),
        ({**AMD, "vendor": "GenuineIntel", "phys-bits": 46}, Features(Vendor.INTEL, 46, True)),
        ({**AMD, "mtrr": False}, Features(Vendor.AMD, 40, False)),
    ],
)
def test_of_a_cpu(properties: dict[str, object], expected: Features) -> None:
    assert features(qemu(properties)) == expected


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"vendor": "ARM"}, "runs no x86-64 guest"),
        ({**AMD, "vendor": "CyrixInstead"}, "can't be audited: no table"),
    ],
)
def test_of_what_cannot_be_audited(properties: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        features(qemu(properties))
