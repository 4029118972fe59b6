"""Registers of a CPU as a guest reads them, made by hand."""

from __future__ import annotations

from pytest_memtype import Registers
from pytest_memtype.x86.effective import Vendor
from pytest_memtype.x86.pat import LINUX_PAT

NO_MTRRS = Registers(
    cpu=0,
    vendor=Vendor.AMD,
    physical_bits=40,
    mtrr=None,
    has_pat=True,
    pat_value=LINUX_PAT,
    cr0=0,
    cr3=0,
    cr4=0,
)
