"""The audit at the end of every test: the aliases that its guests have, and which of them are unexpected."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pytest_memtype.errors import HostError, MemtypeError, ModuleMissing, Unavailable, UsageError
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.observation import Observation
from pytest_memtype.guest.region import Region
from pytest_memtype.machine.state import GuestState
from pytest_memtype.x86.effective import Effective

if TYPE_CHECKING:
    from pytest_memtype.audit.audit import Audit
    from pytest_memtype.audit.findings import Finding


@dataclass(frozen=True)
class ExpectedAlias:
    """The alias of a test's marker ``expect_alias``.

    :param before: Kernels before this version have the alias, major and minor number; None for all kernels.
    :raises ValueError: ``before`` is no version.
    """

    before: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        version = self.before
        if version is not None and (
            not isinstance(version, tuple) or not all(isinstance(part, int) for part in version)
        ):
            raise ValueError(f"{version!r} is no kernel version")

    def of(self, version: tuple[int, int]) -> bool:
        """Does a kernel of this version have the alias?"""
        return self.before is None or version < self.before


@dataclass(frozen=True)
class Checked:
    """A guest that was audited at the end of a test.

    :param version: Major and minor number of its kernel.
    :param conflicts: All aliases in its page tables, but for those told before and those of the boot.
    :param unexcused: Aliases on pages for which the verifier refused no live mapping.
    :param milliseconds: Milliseconds that the audit took.
    :param trouble: Why there was no audit, empty where there was one.
    :param since_boot: Aliases of the boot, not of the test, that aren't excused, in words.
    :param observed: Mappings of others that the verifier calls aliases, and the test didn't ask about.
    :param picture: The guest's memory as an SVG document; empty where it has no alias.
    :param guest: The guest's number within its test, from 1.
    """

    version: tuple[int, int]
    conflicts: tuple[Finding, ...]
    unexcused: tuple[Finding, ...]
    milliseconds: float
    trouble: str = ""
    since_boot: tuple[str, ...] = ()
    observed: tuple[Observation, ...] = ()
    picture: str = ""
    guest: int = 1


def check(guest: Guest, *, told: dict[tuple[int, int], frozenset[Effective]]) -> Checked:
    """Audit a guest at the end of a test.

    An alias is excused where the verifier refused a mapping that is still there and the kernel made it: the
    test is about this alias, and its records show it. An alias that the guest had after its boot, or that its
    template has, is the boot's and no test's. All others are faults.

    :param guest: The guest, live or stopped.
    :param told: The types of each alias that was told before, by its address and number of pages; those
        found are added. An alias that has got another type since is told again.
    :raises GuestError: QEMU ended.
    """
    start = time.perf_counter()
    try:
        if guest.machine.state is GuestState.STOPPED:
            # Its agent can't be asked, and looking through all of RAM is too slow for each test.
            # The import loads numpy: a run takes the time for it only when there is something to audit.
            from pytest_memtype.audit.own_guest import audit_machine

            found = audit_machine(guest.machine, spaces={})
        else:
            found = guest.audit(tracked=False)
    except (HostError, Unavailable, UsageError) as error:
        return Checked(guest.version, (), (), 0, error.message)
    observed = _observed(guest)
    conflicts = tuple(
        each
        for each in found.conflicts
        if not told.get((each.start, each.pages), frozenset()).issuperset(each.effective)
    )
    told |= {(each.start, each.pages): frozenset(each.effective) for each in conflicts}
    unexcused = tuple(each for each in conflicts if not guest.journal.excuses(Region(each.start, each.pages)))
    milliseconds = (time.perf_counter() - start) * 1000
    try:
        # At the end, because it takes longer than the rest, and nearly no guest needs it.
        booted_with = _of_the_boot(guest) if unexcused else frozenset()
    except HostError as error:
        return Checked(guest.version, (), (), 0, error.message)
    return Checked(
        guest.version,
        tuple(each for each in conflicts if _key(each) not in booted_with),
        tuple(each for each in unexcused if _key(each) not in booted_with),
        milliseconds,
        since_boot=tuple(str(each) for each in unexcused if _key(each) in booted_with),
        observed=observed,
        picture=_drawn(found) if conflicts else "",
    )


def _drawn(audit: Audit) -> str:
    # Whoever gets here has loaded numpy for the audit.
    from pytest_memtype.report.audit_picture import audit_svg

    return audit_svg(audit).decode()


def _observed(guest: Guest) -> tuple[Observation, ...]:
    if guest.machine.state is GuestState.STOPPED:
        return ()
    try:
        return tuple(guest.others.unseen_aliases())
    except ModuleMissing:
        return ()


def _key(finding: Finding) -> tuple[int, int, str]:
    return finding.start, finding.pages, "/".join(map(str, finding.effective))


_Template = tuple[Path, int, int]
"""A template's RAM file: path, inode number, and time of its last change in nanoseconds since the epoch."""

# Number of observations in each template.
_others: dict[_Template, int] = {}
_grounds: WeakKeyDictionary[Guest, _Template | None] = WeakKeyDictionary()


def note_start(guest: Guest) -> str:
    """Note which mappings of others a new guest has: they are not the test's.

    :param guest: The guest.
    :returns: Why mappings of others go unseen in it; empty where they are seen, or where that is known
        already of another clone of its template.
    """
    template = _grounds[guest] = template_of(guest)
    if template in _others:
        guest.others.before = _others[template]
        return ""
    # A guest that can't answer: its test will say why.
    with contextlib.suppress(MemtypeError):
        count = guest.others.note()
        # A clone has them from its template, as all other clones have.
        if template is not None:
            _others[template] = count
        return "; ".join(map(str, guest.others.blind()))
    return ""


def template_of(guest: Guest) -> _Template | None:
    """The template of a guest, None without; a damaged or pruned one may be made again at the same path."""
    file = guest.machine.config.ram_file
    if file is None:
        return None
    try:
        status = file.stat()
    except OSError:
        return file, 0, 0
    return file, status.st_ino, status.st_mtime_ns


_templates: dict[_Template, frozenset[tuple[int, int, str]]] = {}
_booted: WeakKeyDictionary[Guest, frozenset[tuple[int, int, str]]] = WeakKeyDictionary()


def note_boot(guest: Guest) -> None:
    """Note which aliases a guest has that has just booted; a clone's are its template's."""
    # A guest that can't be audited: the end of its test says why.
    with contextlib.suppress(MemtypeError):
        _booted[guest] = frozenset(map(_key, guest.audit(tracked=False).conflicts))


def _of_the_boot(guest: Guest) -> frozenset[tuple[int, int, str]]:
    if guest in _booted:
        return _booted[guest]
    template = template_of(guest)
    if template is None:
        return frozenset()
    # Where the template was only removed, the audit says so.
    if template[1] and template != _grounds.get(guest, template):
        raise HostError(
            f"{template[0].parent}: the template was made again while its clone lived; nobody knows any more "
            "what it had when it had booted"
        )
    if template not in _templates:
        from pytest_memtype.audit.own_guest import audit_template

        found = audit_template(guest.machine)
        _templates[template] = frozenset(map(_key, found.conflicts)) if found else frozenset()
    return _templates[template]


def alias_complaint(checked: Sequence[Checked], expected: ExpectedAlias | None) -> str | None:
    """Say what is wrong with the aliases that a test leaves; None when nothing is."""
    having = [
        each for each in checked if expected is not None and expected.of(each.version) and not each.trouble
    ]
    if having and not any(each.conflicts for each in having):
        return "expect_alias: no page has two conflicting types at the end of the test"
    return "\n".join(
        f"the audit found a {conflict}"
        for each in checked
        if each not in having
        for conflict in each.unexcused
    ) or _observed_complaint([each for each in checked if each not in having])


def _observed_complaint(checked: Sequence[Checked]) -> str | None:
    lines = [f"an alias of somebody else's: {alias}" for each in checked for alias in each.observed]
    if lines:
        lines.append("a test that expects it asks guest.observed() what there is")
    return "\n".join(lines) or None


def audit_summary(audits: Sequence[tuple[float, str, Sequence[str]]]) -> list[str]:
    """Lines on how long the audits of a run took, why some were left out, and on aliases since boot.

    :param audits: For each audit its milliseconds, its trouble, and its aliases since boot.
    """
    times = [milliseconds for milliseconds, trouble, _ in audits if not trouble]
    lines = []
    if times:
        lines.append(
            f"page tables audited after {len(times)} tests: median {statistics.median(times):.0f} ms, "
            f"most {max(times):.0f} ms"
        )
    troubles = {trouble for _, trouble, _ in audits if trouble}
    # Addresses of the kernel's own differ from boot to boot; one line for each page is enough.
    boots = {each.partition(": ")[0]: each for _, _, since_boot in audits for each in since_boot}
    lines += [f"not audited: {each}" for each in sorted(troubles)]
    return lines + [f"there since boot: {each}" for _, each in sorted(boots.items())]
