"""The words of kernels, firmware and tools for memory types, and the numbers that Linux has for them."""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.x86.memtype import MemType

#: ``cattr_name()`` of arch/x86/mm/pat/memtype.c, and ``mtrr_attrib_to_str()`` of
#: arch/x86/kernel/cpu/mtrr/mtrr.c; then the words of fwts, coreboot and mtrr_cleanup.
_WORDS: Final = {
    "uncached": MemType.UC,
    "uncachable": MemType.UC,
    "uncacheable": MemType.UC,
    "write-combining": MemType.WC,
    "write-through": MemType.WT,
    "write-protected": MemType.WP,
    "write-protect": MemType.WP,
    "write-back": MemType.WB,
    "uncached-minus": MemType.UC_MINUS,
    "uc": MemType.UC,
    "uc-": MemType.UC_MINUS,
    "wc": MemType.WC,
    "wt": MemType.WT,
    "wp": MemType.WP,
    "wb": MemType.WB,
    "writeback": MemType.WB,
}

TYPE: Final = (
    r"(?:uncached-minus|uncached|uncach(?:e)?able|write-(?:combining|through|protected|protect|back)"
    r"|broken|\?)"
    r"(?![\w-])"
)
"""A regular expression of a kernel's word for a type."""

ABOUT: Final = re.compile(
    r"mtrr|track_pfn|pfnmap_track|\bmemtype_|_memtype\b|\bmemory types?\b|\bx86/(?:mm/)?pat\b|\bx86 PAT\b"
    r"|\bPAT: |\bioremap|\bmemremap|\bpat_enabled|\bTOM2\b|\bwrite-combin|\buncach",
    re.I,
)
"""A regular expression of words that output about memory types has."""

TOLD: Final = re.compile(
    r"(?<![\w'\"+,-])(?i:mtrrs?)(?![\w'\"])|\bmemtype_|_memtype\b|\binvalid memtype\b|\bx86/(?:mm/)?PAT\b"
    r"|\bPAT: |\bioremap|\bpat_enabled|\bTOM2\b|\b(?i:write-combin|uncach)"
)
"""A regular expression of words that only who speaks about memory types uses; CPU features aren't."""

# enum page_cache_mode, arch/x86/include/asm/pgtable_types.h, since 4.0 (2df58b6d35ad). Before, the messages
# have page-table bits: _PAGE_PWT is 0x8, _PAGE_PCD 0x10; write-combining was PWT.
_NUMBERS: Final = {
    0x0: MemType.WB,
    0x1: MemType.WC,
    0x2: MemType.UC_MINUS,
    0x3: MemType.UC,
    0x4: MemType.WT,
    0x5: MemType.WP,
    0x8: MemType.WC,
    0x10: MemType.UC_MINUS,
    0x18: MemType.UC,
}


def type_of_word(word: str | None) -> MemType | None:
    """The type that a word stands for; None for no word, or one that stands for none."""
    return None if word is None else _WORDS.get(word.strip().lower())


def type_of_number(digits: str | None) -> MemType | None:
    """The type that a number in a message of Linux' stands for.

    :param digits: Hexadecimal, without ``0x``.
    """
    if digits is None or len(digits) > 4:
        return None
    return _NUMBERS.get(int(digits, 16))


_DENIAL: Final = re.compile(r"\b(?:no|not|never|without|isn't|don't|doesn't|didn't)\s+(?:\w+\s+){0,2}$", re.I)


def is_denied(words: str, at: int) -> bool:
    """Whether somebody says that what his words go on with wasn't so: "We don't call ...".

    :param words: The words.
    :param at: Where it begins.
    """
    return _DENIAL.search(words, max(0, at - 40), at) is not None
