"""The CPU of a text's machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cpu:
    """The CPU of the machine, as far as the text names it.

    :param vendor: ``GenuineIntel``, ``AuthenticAMD``, ``HygonGenuine``, ...
    :param model: Its name, ``AMD EPYC 7742 64-Core Processor``.
    :param family: Its family (CPUID), a number.
    :param model_number: Its model (CPUID).
    :param stepping: Its stepping.
    :param physical_bits: Bits of a physical address.
    :param count: How many CPUs the machine has.
    :param has_mtrr: Whether it has MTRRs; None if the text doesn't say.
    :param has_pat: Whether it has a PAT.
    """

    vendor: str | None = None
    model: str | None = None
    family: int | None = None
    model_number: int | None = None
    stepping: int | None = None
    physical_bits: int | None = None
    count: int | None = None
    has_mtrr: bool | None = None
    has_pat: bool | None = None
