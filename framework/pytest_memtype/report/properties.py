"""Properties of a test: names and texts about its kernel, guest and verdicts, for programs that read results.

Each name begins with ``memtype.``: ``kernel`` (the release), ``kernel_version`` (of its package), ``tested``
(the kernel in the test's id), ``system``, ``layout``, ``hardware``, ``accelerator``, ``qemu``; the number of
requests by verdict, ``verdicts.accepted`` and ``verdicts.RULE``, and of those on which Linux disagrees,
``disagreements``; ``evidence`` (the folder of a test that failed), and of a reproducer ``bug``,
``bug.outcome`` and ``bug.title``. Where a test had several guests that differ, a text names all, with commas
between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from pytest_memtype.report.record import Record
from pytest_memtype.report.verdict_table import answer, hardware_words

PREFIX: Final = "memtype."

Properties: TypeAlias = dict[str, str]
"""Properties by their names, without :data:`PREFIX`."""

VERDICTS: Final = "verdicts."
DISAGREEMENTS: Final = "disagreements"
_OF_GUESTS: Final = ("kernel", "kernel_version", "system", "layout", "accelerator", "qemu")


def properties(
    guests: Iterable[Record], records: Sequence[Record], *, tested: str, evidence: str
) -> Properties:
    """The properties of a test. Those of a reported bug are attached by what looks for it.

    :param guests: Facts of its guests, as each record has them.
    :param records: The records of what it did.
    :param tested: The kernel in its id; empty for a test without one.
    :param evidence: The folder of its logs; empty where none is kept.
    """
    found = {"tested": tested} if tested else {}
    about = [*guests, *records]
    for name in _OF_GUESTS:
        found |= _listed(name, (str(each[name]) for each in about if name in each))
    found |= _listed("hardware", (hardware_words(each.get("hardware", {})) or "default" for each in about))
    asked = [each for each in records if "kernel_answer" in each]
    verdicts = Counter(answer(each).verifier for each in asked)
    # A guest without the module has no verdicts.
    found |= {f"{VERDICTS}{name}": str(count) for name, count in verdicts.items() if name != "-"}
    if asked:
        found[DISAGREEMENTS] = str(sum(answer(each).disagree for each in asked))
    return found | ({"evidence": evidence} if evidence else {})


def summed(many: Iterable[Properties]) -> Properties:
    """The properties of a run: counts added up, texts listed, and ``bug.ID`` says what was seen of it.

    :param many: The properties of its tests.
    """
    many = list(many)
    found: Properties = {}
    for name in ("tested", *_OF_GUESTS, "hardware"):
        found |= _listed(name, (each[name] for each in many if name in each))
    counts: Counter[str] = Counter()
    for each in many:
        for name, value in each.items():
            if (name.startswith(VERDICTS) or name == DISAGREEMENTS) and value.isdecimal():
                counts[name] += int(value)
    found |= {name: str(count) for name, count in sorted(counts.items())}
    for bug in sorted({each["bug"] for each in many if "bug" in each}):
        found |= _listed(
            f"bug.{bug}", (each.get("bug.outcome", "") for each in many if each.get("bug") == bug)
        )
    return found


def pairs(found: Properties) -> list[tuple[str, str]]:
    """Properties as pytest attaches them to a report."""
    return [(PREFIX + name, text) for name, text in found.items()]


def read_pairs(attached: object) -> Properties:
    """The properties among those that are attached to a report, which a test or a worker may have written.

    :param attached: ``user_properties`` of a report.
    """
    found: Properties = {}
    for each in attached if isinstance(attached, list | tuple) else ():
        match each:
            case (str(name), str(text)) if name.startswith(PREFIX):
                found[name.removeprefix(PREFIX)] = text
    return found


def _listed(name: str, texts: Iterable[str]) -> Properties:
    text = ", ".join(dict.fromkeys(texts))
    return {name: text} if text else {}
