"""``lscpu`` and ``/proc/cpuinfo``."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from pytest_memtype.dumps.cpu_facts import Cpu
from pytest_memtype.dumps.text import Cursor

_FIELD: Final = re.compile(r"^\s*(?P<name>[A-Za-z][\w() -]{1,24}?)\s*:\s+(?P<value>\S.*)$")
_BITS: Final = re.compile(r"(\d{2}) bits physical")


def lscpu(cursor: Cursor, found: Cpu) -> Cpu:
    """The CPU, with what a listing of its fields adds.

    :param cursor: The text.
    :param found: What is known of the CPU already; it stays, where a listing says nothing.
    """
    for index, row in enumerate(cursor.rows):
        if ":" not in row.message or row.prefixed:
            continue
        match = _FIELD.match(row.message)
        if match is None:
            continue
        fields = _fields(match["name"].strip().lower(), match["value"].strip())
        if fields:
            cursor.use(index)
            found = replace(found, **fields)
    return found


def _fields(name: str, value: str) -> dict[str, Any]:
    number = int(value) if re.fullmatch(r"\d{1,5}", value) else None
    if name in ("vendor id", "vendor_id") and re.fullmatch(r"[A-Za-z ]{4,12}", value):
        return {"vendor": value}
    if name == "model name":
        return {"model": value[:100]}
    if name in ("address sizes", "address size") and (bits := _BITS.search(value)):
        return {"physical_bits": int(bits[1])}
    if name == "cpu family" and number is not None:
        return {"family": number}
    if name == "model" and number is not None:
        return {"model_number": number}
    if name == "stepping" and number is not None:
        return {"stepping": number}
    if name == "cpu(s)" and number is not None:
        return {"count": number}
    if name == "flags" and " " in value:
        flags = set(value.split())
        # They come in the order of CPUID's bits, so that a cut line still has these.
        return {"has_mtrr": "mtrr" in flags, "has_pat": "pat" in flags} if {"fpu", "msr"} <= flags else {}
    return {}
