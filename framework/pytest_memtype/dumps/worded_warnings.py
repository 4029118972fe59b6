"""WARNINGs whose words are a message of their own, beside them, which has no stack.

Which function warns of what: arch/x86/mm/ioremap.c, arch/x86/mm/pat/memtype.c and set_memory.c (pat.c and
pageattr.c before 5.6), kernel/iomem.c.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Kind

_RESOURCES: Final = frozenset({Kind.SANITY})
_ATTRIBUTES: Final = frozenset({Kind.CPA})
_REFUSED: Final = frozenset({Kind.RESERVE_FAILED})

WORDS: Final[dict[str, frozenset[Kind]]] = {
    "__ioremap_caller": frozenset({Kind.SANITY, Kind.IOREMAP_ON_RAM, Kind.IOREMAP_BEYOND}),
    "__ioremap_check_ram": frozenset({Kind.IOREMAP_ON_RAM}),
    # WARN_ON_ONCE(iomem_map_sanity_check()) is all that they warn of; the first is the name before 5.6.
    "io_reserve_memtype": _RESOURCES,
    "memtype_reserve_io": _RESOURCES,
    "reserve_memtype": _REFUSED,
    "memtype_reserve": _REFUSED,
    "memremap": frozenset({Kind.MEMREMAP_ON_RAM, Kind.MEMREMAP_MIXED}),
    # What is inlined depends on the compiler.
    "__cpa_process_fault": _ATTRIBUTES,
    "__change_page_attr": _ATTRIBUTES,
    "__change_page_attr_set_clr": _ATTRIBUTES,
    "__should_split_large_page": _ATTRIBUTES,
    "verify_rwx": _ATTRIBUTES,
}
"""The kinds of messages that say what a function warns of."""

HARMLESS: Final = frozenset({"__ioremap_caller", "io_reserve_memtype", "memtype_reserve_io"})
"""Functions that warn of what they refuse, or of what they let pass."""

BESIDE: Final = 6
"""So many lines a message and its WARNING are apart at most, if the text was wrapped."""


def with_stacks(found: Sequence[Complaint]) -> list[Complaint]:
    """Messages with the process and the stack of the WARNING that each belongs to, where the text has it.

    :param found: All messages and WARNINGs of a text.
    """
    warnings = sorted((each for each in found if each.kind is Kind.WARNING), key=lambda each: each.line)
    lines = [each.line for each in warnings]

    def beside(line: int) -> list[Complaint]:
        # A hostile text has as many WARNINGs as messages: only its neighbours are looked at.
        return warnings[bisect_left(lines, line - BESIDE) : bisect_right(lines, line + BESIDE)]

    return [each if each.kind is Kind.WARNING else _with_stack(each, beside(each.line)) for each in found]


def _with_stack(message: Complaint, warnings: Sequence[Complaint]) -> Complaint:
    own = [each for each in warnings if message.kind in WORDS.get(each.function or "", ())]
    if not own or message.process is not None:
        return message
    nearest = min(own, key=lambda each: abs(each.line - message.line))
    return replace(message, process=nearest.process, pid=nearest.pid, trace=nearest.trace)
