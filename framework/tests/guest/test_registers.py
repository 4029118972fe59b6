"""What differs from a layout is named by CPU and register."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

from memtype_support.made_registers import NO_MTRRS

from pytest_memtype.guest.registers import Registers, decode_registers, register_changes
from pytest_memtype.x86.amd import AmdMemory
from pytest_memtype.x86.mtrr import MtrrState
from pytest_memtype.x86.pat import LINUX_PAT
from pytest_memtype.x86.smrr import Smrr

INTENDED = MtrrState(0x508, 0xC06, (0x0606060606060606,) * 11, ((0xC0000000, 0xFFC0000800), *[(0, 0)] * 7))


def cpu(number: int, mtrr: MtrrState | None) -> Registers:
    return replace(NO_MTRRS, cpu=number, mtrr=mtrr)


def test_no_change() -> None:
    assert register_changes(INTENDED, [cpu(0, INTENDED), cpu(1, None)]) == ()


def test_each_kind_of_register() -> None:
    # Intel SDM vol. 4: 0x2FF is the default type, 0x200 + 2n and 0x201 + 2n a pair, 0x26F the last fixed one.
    found = dataclasses.replace(
        INTENDED,
        default_type_register=0x806,
        fixed=(*INTENDED.fixed[:10], 0),
        variable=(*INTENDED.variable[:7], (0xD0000001, 0xFFF0000800)),
    )
    changes = register_changes(INTENDED, [cpu(0, INTENDED), cpu(1, found)])
    assert [str(change) for change in changes] == [
        "CPU 1: MTRR 0x2ff is 0x806, not 0xc06",
        "CPU 1: MTRR 0x20e is 0xd0000001, not 0x0",
        "CPU 1: MTRR 0x20f is 0xfff0000800, not 0x0",
        "CPU 1: MTRR 0x26f is 0x0, not 0x606060606060606",
    ]


def test_what_firmware_sets_beside_the_mtrrs() -> None:
    content = {
        "cpu": 0,
        "vendor": "AuthenticAMD",
        "physical_bits": 40,
        "has_mtrr": True,
        "has_pat": True,
        "capability": 0x508,
        "default_type": 0xC00,
        "fixed": [0] * 11,
        "variable": [[0, 0]] * 8,
        "smrr": [0x7F000006, 0xFF000800],
        "amd": [0x740000, 0x80000000, 9200 << 20],
        "pat": LINUX_PAT,
        "cr0": 0,
        "cr3": 0,
        "cr4": 0,
    }
    mtrr = decode_registers(content).mtrr
    assert mtrr is not None
    assert mtrr.smrr == Smrr(0x7F000006, 0xFF000800)
    assert mtrr.amd == AmdMemory(0x740000, 0x80000000, 9200 << 20)
    # What isn't in use, or reads as 0 because there is nothing.
    mtrr = decode_registers({**content, "smrr": [0x2, 0], "amd": [0, 0, 0]}).mtrr
    assert mtrr is not None
    assert (mtrr.smrr, mtrr.amd) == (None, None)
    mtrr = decode_registers({**content, "smrr": None, "amd": None}).mtrr
    assert mtrr is not None
    assert (mtrr.smrr, mtrr.amd) == (None, None)
