"""Where in Linux' source the rules are, by version: files were moved and functions renamed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Dump, Kind
from pytest_memtype.dumps.kernel_facts import Kernel
from pytest_memtype.spec.linux_versions import Version
from pytest_memtype.x86.memtype import MemType

_FIRST: Final[Version] = (0, 0, 0)

_MOVED: Final[Version] = (5, 6, 0)
"""arch/x86/mm/pat/ came with 5.6, and with it the names memtype_reserve() and memtype_free()."""

_TYPES_COMPATIBLE: Final[Version] = (2, 6, 20)
"""Registers of other types may enclose each other, by types_compatible(), since 2.6.20."""

_BRACKETS: Final[Version] = (3, 5, 0)
"""Ranges are printed as ``[mem 0x...-0x...]`` since 3.5 (365811d6f9f4)."""

#: Messages that print their range so; "conflicting memory types" and "ioremap error" never have.
_WITH_BRACKETS: Final = frozenset(
    {
        Kind.RESERVE_FAILED,
        Kind.RESERVED,
        Kind.RAM_RESERVE_FAILED,
        Kind.FREEING_INVALID,
        Kind.USER_REFUSED,
        Kind.USER_RAM,
    }
)

_LABELS: Final[Version] = (4, 2, 0)
"""Messages of pat.c begin with "x86/PAT: " since 4.2 (9dac62909451)."""

#: Messages of pat.c that begin with "x86/PAT: " in all versions since then.
_LABELLED: Final = frozenset({*_WITH_BRACKETS, Kind.CONFLICTING_TYPES}) - {Kind.RAM_RESERVE_FAILED}

#: No series has so many updates.
_MORE_THAN_ALL: Final = 1000

#: A release without a distribution's or somebody's own additions.
_UPSTREAM: Final = re.compile(r"\d+\.\d+(?:\.\d+){0,2}(?:-rc\d+)?")

#: The folder of what came to arch/x86/ with 2.6.24.
_I386: Final = "arch/i386/"
#: The file with all code for MTRRs in 2.4.0.
_ONE_FILE: Final = f"{_I386}kernel/mtrr.c"

NEW_MEMTYPE_ALLOWED: Final = "is_new_memtype_allowed() (arch/x86/include/asm/pgtable.h)"
"""The function that knows which types may stand in for which."""

IOREMAP: Final = "arch/x86/mm/ioremap.c, __ioremap_caller()"
"""The function that all variants of ioremap end in."""


@dataclass(frozen=True)
class Age:
    """The version of a text's kernel, as far as the text says it.

    :param kernel: The kernel that it is of, if it names one.
    :param since: The first version that has its messages in their form.
    :param before: A version that has them in another; None where their form says nothing of that.
    """

    kernel: Kernel | None
    since: Version = _FIRST
    before: Version | None = None

    def may_be(self, since: Version, until: Version | None) -> bool:
        """Whether the kernel may be one of some versions.

        :param since: The first of them.
        :param until: The first behind them; None where there is none yet.
        """
        if self.kernel is not None:
            return since <= self.kernel.newest and (until is None or self.kernel.version < until)
        return (self.before is None or since < self.before) and (until is None or self.since < until)


def age(dump: Dump) -> Age:
    """The version of a text's kernel, be it by the form of its messages.

    :param dump: What was read of the text.
    """
    return _age_by_forms(dump) if dump.kernel is None else Age(dump.kernel)


def without_contradicted_kernel(dump: Dump) -> Dump:
    """The facts of a text, without a kernel that somebody names and that has no such messages.

    A distribution's kernel may have got them from a later one.

    :param dump: What was read of the text.
    """
    kernel = dump.kernel
    if kernel is None or kernel.own or kernel.distribution or not _UPSTREAM.fullmatch(kernel.release):
        return dump
    forms = _age_by_forms(dump)
    # An update that isn't said is later than the first of its series.
    too_old = (kernel.newest if kernel.exact else (*kernel.version[:2], _MORE_THAN_ALL)) < forms.since
    too_new = forms.before is not None and kernel.version >= forms.before
    return replace(dump, kernel=None) if too_old or too_new else dump


def _age_by_forms(dump: Dump) -> Age:
    newer: set[Version] = set(_since(dump))
    older: set[Version] = set()
    for complaint in (*(each for each in dump.complaints if not each.aside), *dump.made):
        for version, is_newer_form in _forms(complaint):
            (newer if is_newer_form else older).add(version)
    since, before = max(newer, default=_FIRST), min(older, default=None)
    # A text may have the messages of two kernels.
    return Age(None, since, before) if before is None or since < before else Age(None)


def _since(dump: Dump) -> Iterator[Version]:
    """Versions that brought a line about the MTRRs that the text has."""
    if dump.mtrr_map is not None:
        yield (6, 5, 0)
    if any("MTRRs disabled" in each.raw for each in dump.of(Kind.MTRR_OFF)):
        # 7882b69eb6cd, "x86/mtrr: Make message for disabled MTRRs more descriptive".
        yield (6, 2, 0)


def _forms(complaint: Complaint) -> Iterator[tuple[Version, bool]]:
    """Versions that changed the form of a message, and whether it is the newer one."""
    names = f"{complaint.raw} {complaint.function}"
    if "reserve_memtype" in names or "memtype_reserve" in names:
        # "x86/mm/pat: Standardize on memtype_*() prefix for APIs", ecdd6ee77b73.
        yield _MOVED, "memtype_reserve" in names
    if complaint.labelled is not None and complaint.kind in _LABELLED:
        yield _LABELS, complaint.labelled
    if complaint.kind in _WITH_BRACKETS and complaint.span is not None:
        yield _BRACKETS, "[mem" in complaint.raw
    if complaint.kind is Kind.PAT_SKIPPED:
        # pat_disable() in mtrr_bp_init(): of 4.7, and of Ubuntu's 4.4; 6.2 sets the PAT up without MTRRs.
        yield (4, 4, 0), True
        yield (6, 2, 0), False
    if is_of_the_older_rule(complaint):
        yield _TYPES_COMPATIBLE, False


def is_of_the_older_rule(complaint: Complaint) -> bool:
    """Whether an MTRR was refused within an uncachable one, as only kernels before 2.6.20 do.

    types_compatible() is of November 2006 ("x86: fix MTRR code"), and came with 2.6.20.

    :param complaint: A message of the text's.
    """
    return (
        complaint.kind is Kind.MTRR_MISMATCH
        and complaint.held[:1] == (MemType.UC,)
        and complaint.asked not in (None, MemType.UC)
    )


def _place(known: Age, places: Sequence[tuple[Version, str]]) -> str:
    """The place of a rule; where the text leaves several, the newest with the others behind it.

    :param known: What the text says of the version.
    :param places: Places and the first versions that have them, the newest first.
    """
    ends = [None, *(since for since, _ in places)]
    left = [
        (place, until)
        for (since, place), until in zip(places, ends, strict=False)
        if known.may_be(since, until)
    ]
    (newest, _), *older = left
    others = "; ".join(f"before {_series(until)}: {_short(place, newest)}" for place, until in older)
    return f"{newest} ({others})" if others else newest


def _short(place: str, newest: str) -> str:
    """A place without its folder, unless that is of another architecture, and without the same function."""
    file, _, function = place.partition(", ")
    if newest.startswith(_I386) or not file.startswith(_I386):
        file = file.rpartition("/")[2]
    same = not function or newest.endswith(f", {function}")
    return file if same else f"{file}, {function}"


def _series(version: Version | None) -> str:
    assert version is not None
    return ".".join(map(str, version if version[2] else version[:2]))


def check_conflict(known: Age) -> str:
    """The function that compares a request with the reservations that are there."""
    return _place(
        known,
        [
            (_MOVED, "arch/x86/mm/pat/memtype_interval.c, memtype_check_conflict()"),
            ((5, 5, 0), "arch/x86/mm/pat_interval.c, memtype_check_conflict()"),
            ((2, 6, 35), "arch/x86/mm/pat_rbtree.c, memtype_rb_check_conflict()"),
            (_FIRST, "arch/x86/mm/pat.c, chk_conflict()"),
        ],
    )


#: Names of functions before 5.6: ecdd6ee77b73 renamed them as it moved them.
_UNTIL_5_5: Final = {
    "memtype_reserve": "reserve_memtype",
    "memtype_free": "free_memtype",
    "memtype_kernel_map_sync": "kernel_map_sync_memtype",
}
#: Names of functions before 3.7: 5180da410db6, "x86, pat: separate the pfn attribute tracking ...".
_UNTIL_3_6: Final = {"track_pfn_copy": "track_pfn_vma_copy"}


def in_memtype(known: Age, function: str) -> str:
    """A function of memtype.c, which was pat.c before 5.6.

    :param known: What the text says of the version.
    :param function: Its name today.
    """
    places = [
        (_MOVED, f"arch/x86/mm/pat/memtype.c, {function}()"),
        (_FIRST, f"arch/x86/mm/pat.c, {_UNTIL_5_5.get(function, function)}()"),
    ]
    if function in _UNTIL_3_6:
        places[1:] = [((3, 7, 0), places[1][1]), (_FIRST, f"arch/x86/mm/pat.c, {_UNTIL_3_6[function]}()")]
    return _place(known, places)


def in_set_memory(known: Age, function: str = "") -> str:
    """A function of set_memory.c, which was pageattr.c before 5.6, or the file alone.

    :param known: What the text says of the version.
    :param function: Its name.
    """
    behind = f", {function}()" if function else ""
    return _place(
        known,
        [
            (_MOVED, f"arch/x86/mm/pat/set_memory.c{behind}"),
            (_FIRST, f"arch/x86/mm/pageattr.c{behind}"),
        ],
    )


def in_mtrr(known: Age, function: str) -> str:
    """A function of mtrr.c, which was main.c before 4.18, of arch/i386/ before 2.6.24, one file until 2.4.

    :param known: What the text says of the version.
    :param function: Its name.
    """
    folder = "arch/x86/kernel/cpu/mtrr"
    files = [
        ((4, 18, 0), f"{folder}/mtrr.c"),
        ((2, 6, 24), f"{folder}/main.c"),
        ((2, 6, 0), "arch/i386/kernel/cpu/mtrr/main.c"),
        (_FIRST, _ONE_FILE),
    ]
    return _place(known, [(since, f"{file}, {function}()") for since, file in files])


def in_generic(known: Age, function: str, *, in_one_file: str = "") -> str:
    """A function of generic.c, the code for the MTRRs that Intel's CPUs have had since the Pentium Pro.

    :param known: What the text says of the version.
    :param function: Its name.
    :param in_one_file: The function that did its work in 2.4, if that had another name.
    """
    return _place(
        known,
        [
            ((2, 6, 24), f"arch/x86/kernel/cpu/mtrr/generic.c, {function}()"),
            ((2, 6, 0), f"arch/i386/kernel/cpu/mtrr/generic.c, {function}()"),
            (_FIRST, f"{_ONE_FILE}, {in_one_file or function}()"),
        ],
    )


def in_cleanup(known: Age, function: str) -> str:
    """A function of cleanup.c, which was in main.c in 2.6.27 to 2.6.29."""
    folder = "arch/x86/kernel/cpu/mtrr"
    files = [((2, 6, 30), f"{folder}/cleanup.c, {function}()"), (_FIRST, f"{folder}/main.c, {function}()")]
    return _place(known, files)


def memremap(known: Age) -> str:
    """The function that maps RAM or devices' memory with a type, for all architectures."""
    # 5981690ddb8f, "memremap: split devm_memremap_pages() and memremap() infrastructure", 4.18.
    return _place(
        known,
        [((4, 18, 0), "kernel/iomem.c, memremap()"), (_FIRST, "kernel/memremap.c, memremap()")],
    )


def is_newer(known: Age, *version: int) -> bool | None:
    """Whether a kernel is of a series, or a later one; None if it isn't known.

    :param known: What the text says of the version.
    :param *version: The series.
    """
    if known.kernel is not None:
        if known.kernel.version[: len(version)] >= version:
            return True
        return None if known.kernel.newest[: len(version)] >= version else False
    if known.before is not None and known.before <= version:
        return False
    return True if known.since >= version else None
