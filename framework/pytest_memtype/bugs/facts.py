"""The facts of reported bugs, and whether what a test saw agrees with them."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pytest_memtype.errors import UsageError, harmless
from pytest_memtype.guest import outcome
from pytest_memtype.guest.driver import Driver
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.process import Process
from pytest_memtype.spec.linux_versions import Version, parse_version, reached
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType

KINDS = ("known", "by design", "observed")

# It names a page, too, and stands on command lines.
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

Reach: TypeAlias = tuple[Process | Driver, outcome.Mapping] | tuple[Process, outcome.Mapping, int]
"""A mapping of a process or driver, and which of its pages, from 0; the first if not said, or a driver's."""


class Status(enum.Enum):
    """The result of a reproducer on one kernel."""

    REPRODUCED = "REPRODUCED"
    ABSENT = "ABSENT"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True)
class Bug:
    """The facts of one bug, as its test's marker ``bug`` gives them.

    Versions are upstream's, ``"6.1.162"``.

    :param id: The name of the bug on the command line.
    :param title: What goes wrong, in one line.
    :param introduced: The first version of each series that has it; the highest is mainline's. Empty
        if no version without it is known.
    :param fixed: The first mainline version without it; None when there is none.
    :param backports: The first version without it of each other series.
    :param core: The operation without which nothing goes wrong, such as ``Process.mprotect``.
    :param kind: ``known``; ``by design``: Linux' authors want it so; ``observed``: seen here, and no report
        of it is known.
    """

    id: str
    title: str
    introduced: tuple[str, ...]
    fixed: str | None
    backports: tuple[str, ...]
    core: str
    kind: str

    def present(self, version: Version) -> bool:
        """Does a kernel version have the bug?"""
        introduced = [parse_version(first) for first in self.introduced]
        if introduced and not reached(introduced, version):
            return False
        fixed = [parse_version(first) for first in (self.fixed, *self.backports) if first is not None]
        return not (fixed and reached(fixed, version))


def facts(arguments: Mapping[str, Any], *, where: str) -> Bug:
    """The facts of a bug, from the arguments of its marker.

    :param arguments: The marker's arguments by name; see :class:`Bug`.
    :param where: The test, for the message.
    :raises UsageError: a fact is missing, isn't one of a bug's, or has a value that can't be used.
    """
    given = {"introduced": (), "fixed": None, "backports": (), "kind": "known", **arguments}
    for name in ("introduced", "backports"):
        if isinstance(given[name], str):
            given[name] = (given[name],)
    try:
        bug = Bug(**given)
        bug.present((0, 0, 0))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: marker bug: {error}") from None
    texts = {"id": bug.id, "title": bug.title, "core": bug.core}
    for name, text in texts.items():
        if not isinstance(text, str) or "\n" in text:
            raise UsageError(f"{where}: marker bug: {name} {text!r} is no text of one line")
    if not _ID.fullmatch(bug.id):
        raise UsageError(f"{where}: marker bug: id {bug.id!r}: use letters, digits, '-', '_' and '.'")
    if bug.kind not in KINDS:
        raise UsageError(f"{where}: marker bug: kind {bug.kind!r} is none of {', '.join(KINDS)}")
    if bug.backports and bug.fixed is None:
        raise UsageError(f"{where}: marker bug: what was backported was fixed in mainline too; say in which")
    return bug


class Sighting:
    """The fixture ``bug``, which a reproducer reports its observations to.

    :param bug: The facts of the bug.
    :param version: The kernel's version.
    :param guest: The guest that the reproducer runs in.
    :param expect: Called with a regular expression that a report of the kernel will match.
    :ivar facts: The facts of the bug.
    :ivar present: Does the kernel have it, by the facts?
    :ivar evidence: What was seen, in words.
    """

    def __init__(self, bug: Bug, version: Version, guest: Guest, *, expect: Callable[[str], None]) -> None:
        self.facts = bug
        self.version = version
        self.present = bug.present(version)
        self.release = guest.release
        self.evidence: list[str] = []
        self._guest = guest
        self._expect = expect
        self._harms: list[bool] = []

    def harm(self, seen: bool, evidence: str) -> None:
        """Report whether there was harm. A test reports at least one, and all must agree with the facts.

        :param seen: Was there harm?
        :param evidence: What there was to see, harm or not.
        """
        self._harms.append(bool(seen))
        # It goes to a terminal, and into JSON, which can't hold half characters.
        self.evidence.append(harmless(("harm: " if seen else "no harm: ") + evidence))

    def alias(self, first: Reach, second: Reach) -> None:
        """Report whether two live mappings of one page have different types in the page tables, as harm.

        The audit, which isn't told where to look, must find the same.

        :param first: One mapping, with its page if that isn't the first: :data:`Reach`.
        :param second: The other mapping, likewise.
        :raises AssertionError: they aren't mappings of one page, so that the reproducer is wrong; or the
            audit sees something else.
        """
        one, two = self._reached(first), self._reached(second)
        assert one.physical == two.physical, f"these are no mappings of one page: {one}, and {two}"
        assert one.memtype is not None, f"nothing is mapped: {one}"
        assert two.memtype is not None, f"nothing is mapped: {two}"
        audited = self._audited(one, two)
        self.harm(one.memtype is not two.memtype, f"page {one.physical:#x}: {one}, {two}; {audited}")

    def expect_report(self, match: str) -> None:
        """Expect a report of the kernel that ``match`` is found in, if it has the bug; else expect none."""
        if self.present:
            self._expect(match)

    def judge(self) -> Status:
        """Compare what was seen with the facts, and tell whether the bug was reproduced or is absent.

        :raises AssertionError: what was seen isn't what the facts say, or the test said nothing.
        """
        assert self._harms, f"bug {self.facts.id}: the test never reported whether there was harm"
        wrong = [text for text, seen in zip(self.evidence, self._harms, strict=True) if seen != self.present]
        if wrong:
            number = ".".join(map(str, self.version))
            claim = "has the bug" if self.present else "doesn't have the bug"
            raise AssertionError(
                f"bug {self.facts.id}: Linux {number} {claim}, by what is known of it; but there was\n"
                + "\n".join(wrong)
            )
        return Status.REPRODUCED if self.present else Status.ABSENT

    def _audited(self, one: _Reached, two: _Reached) -> str:
        """Audit the guest, and tell in words what it says of the page of two mappings.

        :param one: One of the mappings.
        :param two: The other mapping.
        :raises AssertionError: it hasn't found them, or their conflict; or one where there is none.
        """
        assert one.physical is not None
        audit = self._guest.audit(tracked=False)
        seen = audit.seen.of(one.physical >> 12, 1)
        types = {page.memtype for page in seen}
        missed = [str(mapped) for mapped in (one, two) if mapped.memtype not in types]
        assert not missed, f"the audit doesn't see what maps page {one.physical:#x}: {', '.join(missed)}"
        # Two types may have one effect, UC and UC- in memory that the MTRRs make UC.
        effects = sorted({str(page.effective) for page in seen if page.memtype in (one.memtype, two.memtype)})
        conflict = next((at for at in audit.conflicts if at.start <= one.physical < at.end), None)
        if len(effects) > 1:
            assert conflict is not None, f"the audit reports no conflict of {' and '.join(effects)}"
            return f"the audit found the conflict, {'/'.join(map(str, conflict.effective))}"
        # The kernel's own mapping may conflict with both, which is another harm.
        if one.memtype is two.memtype and types == {one.memtype}:
            assert conflict is None, f"the audit found a {conflict}"
        return f"effective is {effects[0]}"

    def _reached(self, reach: Reach) -> _Reached:
        actor, mapping, page = reach if len(reach) == 3 else (*reach, 0)
        # From outside, which also works in a guest without the module.
        types = actor.page_table(mapping, self._guest.registers_outside()[0])
        place = (page,) if isinstance(actor, Process) else ()
        physical = actor.physical(mapping, *place)
        return _Reached(actor.name, mapping.kind, mapping.address + page * 4096, physical, types[page])


@shown_in_hexadecimal("address", "physical")
@dataclass(frozen=True)
class _Reached:
    actor: str
    kind: str
    address: int
    physical: int | None
    memtype: MemType | None

    def __str__(self) -> str:
        where = f" at {self.address:#x}" if self.kind == "user" else " in the kernel"
        return f"{self.actor}{where} {self.memtype}"
