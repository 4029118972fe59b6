"""Boot real x86-64 kernels in QEMU, and check that no page is ever mapped with two memory types.

These are the names that a test imports; the fixtures ``guest`` and ``guest_factory`` come from the plugin.

Each is loaded when it is first used: all together take longer than most commands.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_memtype.bugs.facts import Sighting
    from pytest_memtype.errors import (
        ModuleBroken,
        ModuleRefusedToLoad,
        ModuleStays,
        ProcessDied,
        ProcessFault,
        SyscallRefused,
    )
    from pytest_memtype.guest.driver import Driver
    from pytest_memtype.guest.guest import Guest
    from pytest_memtype.guest.kernel_functions import InMemory, KernelPages
    from pytest_memtype.guest.kernel_list import ListEntry
    from pytest_memtype.guest.module import Module
    from pytest_memtype.guest.observation import Observation
    from pytest_memtype.guest.outcome import KernelAnswer, Mapping, Outcome, TrackedMapping, Verdict
    from pytest_memtype.guest.page_table import Leaves
    from pytest_memtype.guest.pci import Bar, PciDevice
    from pytest_memtype.guest.proc_mtrr import MtrrAnswer, ProcMtrr
    from pytest_memtype.guest.process import Process
    from pytest_memtype.guest.region import Region
    from pytest_memtype.guest.registers import RegisterChange, Registers
    from pytest_memtype.guest.results import ShellResult, SyscallAnswer, TypeInUse
    from pytest_memtype.machine.hardware import Hardware
    from pytest_memtype.machine.layout import Layout
    from pytest_memtype.x86.effective import Effective, EffectiveType
    from pytest_memtype.x86.memtype import MemType
    from pytest_memtype.x86.mtrr import MtrrRange
    from pytest_memtype.x86.pte import PageSize

__all__ = [
    "Bar",
    "Driver",
    "Effective",
    "EffectiveType",
    "Guest",
    "Hardware",
    "InMemory",
    "KernelAnswer",
    "KernelPages",
    "Layout",
    "Leaves",
    "ListEntry",
    "Mapping",
    "MemType",
    "Module",
    "ModuleBroken",
    "ModuleRefusedToLoad",
    "ModuleStays",
    "MtrrAnswer",
    "MtrrRange",
    "Observation",
    "Outcome",
    "PageSize",
    "PciDevice",
    "ProcMtrr",
    "Process",
    "ProcessDied",
    "ProcessFault",
    "Region",
    "RegisterChange",
    "Registers",
    "ShellResult",
    "Sighting",
    "SyscallAnswer",
    "SyscallRefused",
    "TrackedMapping",
    "TypeInUse",
    "Verdict",
]

# As under TYPE_CHECKING, for the interpreter.
_FILES = {
    "bugs.facts": ("Sighting",),
    "errors": (
        "ModuleBroken",
        "ModuleRefusedToLoad",
        "ModuleStays",
        "ProcessDied",
        "ProcessFault",
        "SyscallRefused",
    ),
    "guest.driver": ("Driver",),
    "guest.guest": ("Guest",),
    "guest.kernel_functions": ("InMemory", "KernelPages"),
    "guest.kernel_list": ("ListEntry",),
    "guest.module": ("Module",),
    "guest.observation": ("Observation",),
    "guest.outcome": ("KernelAnswer", "Mapping", "Outcome", "TrackedMapping", "Verdict"),
    "guest.page_table": ("Leaves",),
    "guest.pci": ("Bar", "PciDevice"),
    "guest.proc_mtrr": ("MtrrAnswer", "ProcMtrr"),
    "guest.process": ("Process",),
    "guest.region": ("Region",),
    "guest.registers": ("RegisterChange", "Registers"),
    "guest.results": ("ShellResult", "SyscallAnswer", "TypeInUse"),
    "machine.hardware": ("Hardware",),
    "machine.layout": ("Layout",),
    "x86.effective": ("Effective", "EffectiveType"),
    "x86.memtype": ("MemType",),
    "x86.mtrr": ("MtrrRange",),
    "x86.pte": ("PageSize",),
}

# Hidden from type checkers, which would take any name for one of ours.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        file = next((file for file, names in _FILES.items() if name in names), None)
        if file is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{file}"), name)
        # The next time it is found without being asked for here.
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
