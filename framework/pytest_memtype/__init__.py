"""Boot real x86-64 kernels in QEMU, and check that no page is ever mapped with two memory types.

These are the names that a test imports; the fixtures ``guest`` and ``guest_factory`` come from the plugin.
"""

from pytest_memtype.bugs.facts import Sighting
from pytest_memtype.errors import ProcessDied, ProcessFault, SyscallRefused
from pytest_memtype.guest.driver import Driver
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.kernel_list import ListEntry
from pytest_memtype.guest.outcome import KernelAnswer, Mapping, Outcome, TrackedMapping, Verdict
from pytest_memtype.guest.page_table import Leaves
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
    "Driver",
    "Effective",
    "EffectiveType",
    "Guest",
    "Hardware",
    "KernelAnswer",
    "Layout",
    "Leaves",
    "ListEntry",
    "Mapping",
    "MemType",
    "MtrrAnswer",
    "MtrrRange",
    "Outcome",
    "PageSize",
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
