"""The architecture of a report's machine, as far as its name shows it."""

from __future__ import annotations

from pytest_memtype.dumps.facts import Dump


def is_no_x86(dump: Dump) -> bool:
    """Whether a report is of a machine that certainly isn't an x86.

    A device tree is what names such a machine: dump_stack_set_arch_desc("%s (DT)") of arm64 and RISC-V, and
    "(Flattened Device Tree)" of arch/arm. An x86 is named by its DMI.

    :param dump: What was read of the report.
    """
    return (dump.machine or "").rstrip().endswith(("(DT)", "(Flattened Device Tree)"))
