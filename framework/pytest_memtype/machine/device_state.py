"""The registers of each CPU in a device state that QEMU saved: read them, or write others in their place.

QEMU's migration stream ends with a description of itself in JSON, which names every field of every section
and its size (QEMU 7.2, migration/savevm.c, ``should_send_vmdesc``). ``migrate`` writes it;
``xen-save-devices-state``, which needs 3 ms because it leaves RAM out of what a private guest saves, does
not, so that a shape learned once from one stream is applied to others of the same QEMU and machine.

Sections of CPUs are found by their headers, and believed only where their end is where it should be, and
where they follow each other: the guest has its own bytes in them, in general registers say, and may put there
what looks like a header or a footer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from pytest_memtype.errors import DeviceStateError
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.mtrr import MtrrState

#: In bytes. Without the guest's RAM a state has 0.3 MiB, and the memory that its displays have of their own.
LARGEST_STATE: Final = 1 << 30

#: Names of registers and those of the fields they are saved in (QEMU 7.2, target/i386/machine.c,
#: vmstate_x86_cpu). All are numbers of eight bytes, big-endian.
_FIELDS: Final = MappingProxyType(
    {
        "cr0": "env.cr[0]",
        "cr3": "env.cr[3]",
        "cr4": "env.cr[4]",
        "efer": "env.efer",
        "pat_value": "env.pat",
        "mtrr_default_type": "env.mtrr_deftype",
        "mtrr_fixed": "env.mtrr_fixed",
        "mtrr_variable": "env.mtrr_var",
    }
)

_WORD: Final = 8
_SECTION_FULL: Final = b"\x04"
_FOOTER: Final = b"\x7e"
_SUBSECTION: Final = re.compile(rb"\x05.cpu/", re.DOTALL)
_DESCRIPTION: Final = b"\x06"
# Bytes of the field with the description's length, behind that mark.
_LENGTH: Final = 4
_MAGIC: Final = b"QEVM\x00\x00\x00\x03"


@shown_in_hexadecimal(
    "cr0", "cr3", "cr4", "efer", "pat_value", "mtrr_default_type", "mtrr_fixed", "mtrr_variable"
)
@dataclass(frozen=True)
class CpuRegisters:
    """The registers of one CPU that decide on memory types and translate addresses.

    :param cpu: The number of the CPU, from 0.
    :param cr0: CR0: caches off (CD, NW) and paging on (PG).
    :param cr3: CR3: physical address and attributes of the top page table.
    :param cr4: CR4: the kind of paging.
    :param efer: EFER: long mode and no-execute.
    :param pat_value: IA32_PAT: eight memory types, one byte each.
    :param mtrr_default_type: IA32_MTRR_DEF_TYPE: the default type, and the bits E and FE.
    :param mtrr_fixed: The eleven fixed-range registers, 64K first.
    :param mtrr_variable: (base, mask) registers of each variable range.
    """

    cpu: int
    cr0: int
    cr3: int
    cr4: int
    efer: int
    pat_value: int
    mtrr_default_type: int
    mtrr_fixed: tuple[int, ...]
    mtrr_variable: tuple[tuple[int, int], ...]

    @property
    def mtrr(self) -> MtrrState:
        """The MTRRs as the CPU would read them if it had MTRRs."""
        # Beside VCNT, MTRRcap says fixed ranges and WC (QEMU 7.2, target/i386/tcg/sysemu/misc_helper.c).
        capability = 0x500 | len(self.mtrr_variable)
        return MtrrState(
            capability=capability,
            default_type_register=self.mtrr_default_type,
            fixed=self.mtrr_fixed,
            variable=self.mtrr_variable,
        )


@dataclass(frozen=True)
class CpuShape:
    """The way in which QEMU saves a CPU, which :func:`shape_of` learns from a state that describes itself.

    :param version: The version of a CPU's section.
    :param offsets: Register to (offset in bytes from the end of the section's header, count of words of 8
        bytes).
    :param size: Bytes of all fields. Subsections follow, or the footer.
    """

    version: int
    offsets: Mapping[str, tuple[int, int]]
    size: int


def shape_of(state: bytes) -> CpuShape:
    """The shape of the CPUs in a migration stream.

    :param state: A stream that ``migrate`` wrote.
    :raises DeviceStateError: the stream doesn't describe itself, or saves CPUs in a way that isn't known.
    """
    cpu = next((device for device in _description(state) if device.get("name") == "cpu"), None)
    if cpu is None:
        raise DeviceStateError("the device state describes no CPU")
    places: dict[str, tuple[int, int]] = {}
    offset = 0
    try:
        for field in cpu["fields"]:
            count = int(field.get("array_len", 1))
            places.setdefault(str(field["name"]), (offset, int(field["size"]) * count // _WORD))
            offset += int(field["size"]) * count
        return CpuShape(
            version=int(cpu["version"]),
            offsets={name: places[field] for name, field in _FIELDS.items()},
            size=offset,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DeviceStateError(
            f"the device state's description of CPUs isn't understood: {error!r}"
        ) from None


def section_names(state: bytes) -> list[str]:
    """The names of all that a migration stream says of devices, such as ``0000:00:01.0/bochs-display``.

    :param state: A stream that ``migrate`` wrote.
    :raises DeviceStateError: the stream doesn't describe itself.
    """
    return [str(device.get("name", "")) for device in _description(state)]


def described_cpus(state: bytes) -> int:
    """How many CPUs a migration stream says that it has.

    :param state: A stream that ``migrate`` wrote.
    :raises DeviceStateError: the stream doesn't describe itself.
    """
    return section_names(state).count("cpu")


def read_cpus(state: bytes, shape: CpuShape, *, cpus: int | None) -> tuple[CpuRegisters, ...]:
    """The registers of every CPU in a device state, by number of the CPU.

    :param state: A device state, with or without a description of itself.
    :param shape: How the QEMU that saved it saves a CPU.
    :param cpus: How many CPUs the machine has: the guest's own bytes may look like one more. None if nobody
        knows.
    :raises DeviceStateError: the registers aren't where they should be, or a CPU is missing.
    """
    starts = _sections(state, shape, cpus)
    return tuple(_registers(state, shape, cpu, start) for cpu, start in enumerate(starts))


def with_registers(state: bytes, shape: CpuShape, changed: Iterable[CpuRegisters], *, cpus: int) -> bytes:
    """The device state with other registers for some of its CPUs, and nothing else changed.

    :param state: The device state to start from; it stays as it is.
    :param shape: How the QEMU that saved it saves a CPU.
    :param changed: The registers to write, each with the number of its CPU.
    :param cpus: How many CPUs the machine has.
    :raises DeviceStateError: the state has no such CPU, or CPUs with other numbers of ranges.
    """
    sections = _sections(state, shape, cpus)
    patched = bytearray(state)
    for registers in changed:
        if not 0 <= registers.cpu < len(sections):
            raise DeviceStateError(f"there is no CPU {registers.cpu} in a state of {len(sections)}")
        for name, (offset, count) in shape.offsets.items():
            words = _words(getattr(registers, name))
            if len(words) != count:
                raise DeviceStateError(f"CPU {registers.cpu}: {name} is {count} registers, not {len(words)}")
            start = sections[registers.cpu] + offset
            patched[start : start + count * _WORD] = b"".join(word.to_bytes(_WORD, "big") for word in words)
    return bytes(patched)


def _description(state: bytes) -> list[dict[str, Any]]:
    # It ends the stream, behind a mark and its length. Its first member differs between versions of QEMU
    # ("page_size" in 7.2, "configuration" in 10.0), but text has no such byte as the mark is: it is the last,
    # unless bytes of the length look the same.
    mark = len(state)
    for _ in range(1 + _LENGTH):
        mark = state.rfind(_DESCRIPTION, 0, mark)
        start = mark + len(_DESCRIPTION) + _LENGTH
        if mark < 0:
            break
        if int.from_bytes(state[start - _LENGTH : start], "big") == len(state) - start > 0:
            try:
                devices: list[dict[str, Any]] = json.loads(state[start:])["devices"]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise DeviceStateError(f"the device state's description is damaged: {error}") from None
            return devices
    raise DeviceStateError("the device state doesn't describe itself; was it cut short?")


def _sections(state: bytes, shape: CpuShape, cpus: int | None) -> list[int]:
    """The offsets in bytes at which the fields of each CPU begin."""
    if not state.startswith(_MAGIC):
        raise DeviceStateError("this is no device state of QEMU: it doesn't begin with QEVM")
    found: list[list[int]] = []
    while cpus is None or len(found) < cpus:
        candidates = _candidates(state, shape, len(found))
        if not candidates:
            break
        found.append(candidates)
    if not found or len(found) < (cpus or 0):
        raise DeviceStateError(f"the device state has no CPU {len(found)} of version {shape.version}")
    # The last of each that is before the next CPU: RAM may be part of the state, and precedes all devices.
    starts: list[int] = []
    for cpu, candidates in reversed([*enumerate(found)]):
        before = starts[-1] - shape.size if starts else len(state)
        start = max((each for each in candidates if each < before), default=None)
        if start is None:
            raise DeviceStateError(f"the device state has CPU {cpu} nowhere before the next one")
        starts.append(start)
    return starts[::-1]


def _candidates(state: bytes, shape: CpuShape, cpu: int) -> list[int]:
    """Where the fields of a CPU may begin, by header and end, in ascending order."""
    # idstr "cpu", instance and version: registers are never compared across versions.
    name = b"\x03cpu" + cpu.to_bytes(4, "big") + shape.version.to_bytes(4, "big")
    header = re.compile(re.escape(_SECTION_FULL) + rb"(....)" + re.escape(name), re.DOTALL)
    return [
        match.end()
        for match in header.finditer(state)
        if _SUBSECTION.match(state, match.end() + shape.size)
        or state.startswith(_FOOTER + match[1], match.end() + shape.size)
    ]


def _registers(state: bytes, shape: CpuShape, cpu: int, start: int) -> CpuRegisters:
    words = {
        name: tuple(
            int.from_bytes(state[at : at + _WORD], "big")
            for at in range(start + offset, start + offset + count * _WORD, _WORD)
        )
        for name, (offset, count) in shape.offsets.items()
    }
    pairs = words["mtrr_variable"]
    return CpuRegisters(
        cpu=cpu,
        mtrr_fixed=words["mtrr_fixed"],
        mtrr_variable=tuple(zip(pairs[::2], pairs[1::2], strict=True)),
        **{name: words[name][0] for name in ("cr0", "cr3", "cr4", "efer", "pat_value", "mtrr_default_type")},
    )


def _words(value: int | tuple[int, ...] | tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,)
    return tuple(word for each in value for word in (each if isinstance(each, tuple) else (each,)))
