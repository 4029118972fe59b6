"""Faults in a source file of the kernel, each on a branch that is taken when its number is switched on.

The file is rewritten as text: where a fault replaces an expression, ``(MEMTYPE_MUTANT(17) ? (new) : (old))``
stands, and for statements an ``if`` with both. Faults at the same place share it, and one may lie within
what another replaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_memtype.errors import Misfit
from pytest_memtype.kernels.mutant_catalogue import Mutant

_INCLUDE = "#include <linux/memtype_mutant.h>\n"


@dataclass(frozen=True)
class _Change:
    begins: int
    ends: int
    number: int
    mutant: Mutant


def plant(source: str, numbered: Iterable[tuple[int, Mutant]]) -> tuple[str, dict[str, str]]:
    """Plant faults in a source file.

    :param source: The text of the file.
    :param numbered: Numbers and the faults that they switch on, all of this file.
    :returns: The new text, and the reasons of faults that don't fit it, by name.
    """
    changes: list[_Change] = []
    misfits: dict[str, str] = {}
    for number, mutant in numbered:
        try:
            change = _Change(*place(source, mutant), number, mutant)
            _check_nested(change, changes)
        except Misfit as error:
            misfits[mutant.name] = str(error)
        else:
            changes.append(change)
    if not changes:
        return source, misfits
    # Outer ones before those within them.
    ordered = sorted(changes, key=lambda change: (change.begins, -change.ends, change.number))
    return _INCLUDE + _rewritten(source, 0, len(source), ordered), misfits


def place(source: str, mutant: Mutant) -> tuple[int, int]:
    """Where the code that a fault replaces begins and ends in a source file.

    :param source: The text of the file.
    :param mutant: The fault.
    :raises Misfit: the function isn't there, or doesn't have that code just once.
    """
    bodies = list(_bodies(source, mutant.function))
    if not bodies:
        raise Misfit(f"{mutant.file} has no function {mutant.function}()")
    spans = bodies
    if mutant.within:
        spans = [found for body in bodies for found in _found(source, mutant.within, body)]
        if len(spans) != 1:
            raise Misfit(f"{mutant.function}() has the code in 'within' {len(spans)} times, not once")
    found = [each for span in spans for each in _found(source, mutant.old, span)]
    if len(found) != 1:
        raise Misfit(f"{mutant.function}() has the code in 'old' {len(found)} times, not once")
    return found[0]


def _bodies(source: str, function: str) -> Iterable[tuple[int, int]]:
    """Where a function is defined, from its name to its end; there may be several in #ifdefs."""
    for match in re.finditer(rf"\b{re.escape(function)}\s*\(", source):
        opened = _after_parenthesis(source, match.end() - 1)
        body = re.match(r"[\s\w()]*?\{", source[opened : opened + 200]) if opened else None
        # A definition begins in the first column, and so does its last line.
        line = source.rfind("\n", 0, match.start()) + 1
        if body is None or source[line : line + 1].isspace():
            continue
        end = source.find("\n}", opened)
        if end >= 0:
            yield match.start(), end + 2


def _after_parenthesis(source: str, opening: int) -> int:
    """The place behind the parenthesis that closes the one at ``opening``; 0 if none does."""
    depth = 0
    for match in re.finditer(r"[()]", source[opening:]):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return opening + match.end()
    return 0


def _found(source: str, code: str, span: tuple[int, int]) -> list[tuple[int, int]]:
    """Where a piece of code occurs in a part of a source file, however it is broken into lines."""
    words = r"\s+".join(re.escape(word) for word in code.split())
    # "size" isn't meant by "psize".
    before = r"(?<!\w)" if re.match(r"\w", code.strip()) else ""
    after = r"(?!\w)" if re.search(r"\w$", code.strip()) else ""
    pattern = re.compile(before + words + after)
    return [match.span() for match in pattern.finditer(source, *span)]


def _check_nested(change: _Change, others: Sequence[_Change]) -> None:
    for other in others:
        same = (change.begins, change.ends) == (other.begins, other.ends)
        apart = change.ends <= other.begins or other.ends <= change.begins
        inside = other.begins <= change.begins and change.ends <= other.ends
        outside = change.begins <= other.begins and other.ends <= change.ends
        if not (same or apart or inside or outside):
            raise Misfit(f"its code overlaps that of {other.mutant.name}")


def _rewritten(source: str, start: int, end: int, changes: Sequence[_Change]) -> str:
    """A part of a source file with the changes that lie in it, outer ones first in their order."""
    parts = []
    at = start
    rest = list(changes)
    while rest:
        first = rest[0]
        same = [each for each in rest if (each.begins, each.ends) == (first.begins, first.ends)]
        within = [each for each in rest if each.ends <= first.ends and each not in same]
        parts.append(source[at : first.begins])
        parts.append(_branches(_rewritten(source, first.begins, first.ends, within), same))
        at = first.ends
        rest = [each for each in rest if each not in same and each not in within]
    return "".join([*parts, source[at:end]])


def _branches(old: str, changes: Sequence[_Change]) -> str:
    if old.endswith((";", "}")):
        # Braces of their own: the statement may be all that an "if" without braces guards.
        tests = " else ".join(
            f"if (MEMTYPE_MUTANT({each.number})) {{ {each.mutant.new} }}" for each in changes
        )
        return f"{{ {tests} else {{ {old} }} }}"
    tests = " ".join(f"MEMTYPE_MUTANT({each.number}) ? ({each.mutant.new}) :" for each in changes)
    return f"({tests} ({old}))"
