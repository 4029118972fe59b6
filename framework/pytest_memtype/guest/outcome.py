"""Outcomes of operations: the verifier's verdict, the kernel's answer, the page table's type."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pytest_memtype.errors import ModuleMissing, UsageError
from pytest_memtype.guest.page_table import Leaves
from pytest_memtype.guest.protocol import plain
from pytest_memtype.guest.region import Region
from pytest_memtype.guest.strict import error_number, flag, integer, mapping_kind, region_of
from pytest_memtype.x86.effective import Effective
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType

_T = TypeVar("_T")


@shown_in_hexadecimal("address")
@dataclass(frozen=True)
class TrackedMapping:
    """A mapping the verifier keeps count of.

    :param owner: The driver's or the process's name.
    :param region: The guest-physical memory that it maps.
    :param memtype: The type that the verifier counts it with.
    :param kind: ``"kernel"`` or ``"user"``.
    :param pid: Process id of the owner of a user mapping, else 0.
    :param address: Virtual address of a user mapping in its process, else 0.
    :param observed: Was it made by others, and seen? Then ``owner`` is the module or function that called
        for a kernel mapping, the task of a user mapping.
    """

    owner: str
    region: Region
    memtype: MemType
    kind: str
    pid: int = 0
    address: int = 0
    observed: bool = False

    def address_of(self, page: int) -> int:
        """Virtual address of a page of the mapping in the process that has it.

        :param page: Guest-physical address of the page.
        :raises ValueError: the mapping is a driver's, or doesn't cover the page.
        """
        if self.kind != "user" or not self.region.start <= page < self.region.end:
            raise ValueError(f"{self} is no user mapping of {page:#x}")
        return self.address + page - self.region.start

    def __str__(self) -> str:
        return f"{self.owner}: {self.memtype} {self.region}"


@dataclass(frozen=True)
class Verdict:
    """The verifier's verdict on a mapping.

    :param accepted: Does the mapping break no rule?
    :param rule: The broken one: ``malformed``, ``impossible``, ``ram-not-wb``, ``alias``,
        ``exclusive``, ``smram``; None when accepted.
    :param errno: Positive, 0 when accepted.
    :param conflict: The mapping in the way; None where the rule has none.
    :param hazards: Warnings about an accepted request: ``mtrr-wb-uncached``, ``mtrr-mixed``,
        ``mtrr-undefined``, ``mtrr-uncached-combines``.
    """

    accepted: bool
    rule: str | None
    errno: int
    conflict: TrackedMapping | None
    hazards: tuple[str, ...]

    @property
    def rejected(self) -> bool:
        return not self.accepted

    def __str__(self) -> str:
        if self.accepted:
            return f"accepted ({', '.join(self.hazards)})" if self.hazards else "accepted"
        conflict = "" if self.conflict is None else f" with {self.conflict}"
        return f"{errno.errorcode.get(self.errno, self.errno)} {self.rule}{conflict}"

    # For a failed assertion, where pytest would cut a list of all fields in the middle.
    def __repr__(self) -> str:
        return f"<verifier: {self}>"


@dataclass(frozen=True)
class KernelAnswer:
    """The kernel's answer to a request.

    :param asked: False where enforce mode kept a refused request from the kernel.
    :param errno: Positive, 0 when accepted. A function that returns NULL and no reason counts
        as ENOMEM, which is what drivers make of it.
    :param log: The kernel's messages while it worked, sanitised.
    """

    asked: bool
    accepted: bool
    errno: int
    log: tuple[str, ...]

    @property
    def rejected(self) -> bool:
        return not self.accepted

    def __str__(self) -> str:
        if not self.asked:
            return "not asked"
        return "accepted" if self.accepted else errno.errorcode.get(self.errno, str(self.errno))

    def __repr__(self) -> str:
        return f"<kernel: {self}>"


@shown_in_hexadecimal("address")
@dataclass(frozen=True)
class Mapping:
    """A live mapping, by which it is released, read and changed.

    :param kind: ``"kernel"`` for a driver's, ``"user"`` for a process's.
    :param holder: Name of the driver or process that has it.
    :param handle: The agent's number for it, never used again by the same kernel. Negative while a batch has
        only promised it, 0 when it was never made.
    :param region: The guest-physical memory that it maps.
    :param address: Virtual address in the process, the same in a child; 0 for a driver's.
    :param boot: How often the guest's kernel had loaded itself anew before, by :meth:`Guest.kexec`.
    """

    kind: str
    holder: str
    handle: int
    region: Region
    address: int = field(default=0, compare=False)
    boot: int = 0


@dataclass(frozen=True)
class Outcome:
    """The outcome of one request for a mapping.

    :param operation: The request's verb, such as ``ioremap`` or ``mmap``.
    :param actor: Name of the driver or process that asked.
    :param region: The guest-physical memory that was asked for; of a device node, what its driver has mapped.
        It starts at 0 where that isn't known: nothing is mapped yet, or several pieces of memory are.
    :param requested_or_none: The type that was asked for; None where the test expects none.
    :param verdict_or_none: The verifier's verdict; None in a guest without the module, and where the test
        expects nothing.
    :param kernel: The kernel's answer.
    :param granted_pages: The type of each page, decoded from the page table, None where nothing is mapped.
        A page with PROT_NONE has the type that Linux keeps in its entry: ``leaves`` says that it is hidden
        from the CPU, and it has no effective type. Empty without a mapping, and for requests that map
        nothing. ``granted`` is the type that all pages have, None when they differ.
    :param effective_pages: ``granted_pages`` combined with the MTRRs, and ``effective`` likewise. None for
        each page in a guest without the module, which is what reads MTRRs.
    :param mapping: The mapping that was made; None when there is none.
    :param address: Virtual address of a process's mapping, 0 for a driver's and where nothing is mapped.
    :param leaves: The page-table entries behind ``granted_pages``, with the size of their pages.
    :param expected: The memory that the test expects a device node to map; None for no expectation.
    """

    operation: str
    actor: str
    region: Region
    requested_or_none: MemType | None
    verdict_or_none: Verdict | None
    kernel: KernelAnswer
    granted_pages: tuple[MemType | None, ...]
    effective_pages: tuple[Effective | None, ...]
    mapping: Mapping | None
    address: int = 0
    leaves: tuple[Leaves, ...] = ()
    expected: Region | None = None

    @property
    def requested(self) -> MemType:
        """The type that was asked for.

        :raises UsageError: the test expects nothing of a device node.
        """
        if self.requested_or_none is None:
            raise UsageError("mmap: without a region and a type nothing was asked for; name them")
        return self.requested_or_none

    @property
    def verdict(self) -> Verdict:
        """The verifier's verdict.

        :raises ModuleMissing: the guest has no verifier.
        :raises UsageError: the test expects nothing, so that there is nothing to judge.
        """
        if self.requested_or_none is None:
            raise UsageError("mmap: without a region and a type the verifier isn't asked; name them")
        if self.verdict_or_none is None:
            raise ModuleMissing("the verdict")
        return self.verdict_or_none

    @property
    def granted(self) -> MemType | None:
        return _only(self.granted_pages)

    @property
    def effective(self) -> Effective | None:
        return _only(self.effective_pages)

    @property
    def accepted(self) -> bool:
        """Did verifier and kernel accept, and is the type the one that was asked for?

        Requests that only reserve (``reserve_wc``, ``phys_wc_add``) have no page table to hold another type.
        Where the test expects nothing, the kernel alone decides.
        """
        if self.requested_or_none is None:
            return self.kernel.accepted
        if self.expected is not None and self.granted_pages and self.region != self.expected:
            return False
        as_asked = self.granted is self.requested or not self.granted_pages
        return self.verdict.accepted and self.kernel.accepted and as_asked

    def __str__(self) -> str:
        requested = "" if self.requested_or_none is None else f" {self.requested_or_none}"
        verifier = "-" if self.verdict_or_none is None else self.verdict_or_none
        return (
            f"{self.actor} {self.operation}{requested} {self.region}: "
            f"verifier {verifier}, kernel {self.kernel}, page table {_all(self.granted_pages)}"
        )

    # pytest shows the repr for a failed assertion, with ".granted" behind it, and would cut a list of all
    # fields at the verdict.
    def __repr__(self) -> str:
        return f"({self})"


def _all(types: tuple[MemType | None, ...]) -> str:
    """The types in a page table in words: one, or all that there are."""
    return "/".join(dict.fromkeys("-" if each is None else str(each) for each in types)) or "-"


def _only(values: tuple[_T, ...]) -> _T | None:
    """The one value, or None when there are none or several."""
    return values[0] if len(set(values)) == 1 else None


def check_boot(mapping: Mapping, boot: int) -> None:
    """Check that a mapping is the present kernel's, which gives the handles of kernels before it again.

    :param mapping: The mapping.
    :param boot: :attr:`Agent.boot` of the agent that is to be asked about it.
    :raises UsageError: the mapping is from before a kexec.
    """
    if mapping.boot != boot:
        raise UsageError(
            f"{mapping.holder}: the mapping of {mapping.region} is from before guest.kexec(), and its kernel "
            "is gone; map it anew"
        )


def decode_tracked(content: dict[str, Any]) -> TrackedMapping:
    """A tracked mapping in a reply of the agent."""
    return TrackedMapping(
        owner=plain(content["owner"]),
        region=region_of(content["start"], content["pages"]),
        memtype=MemType(integer(content["memtype"])),
        kind=mapping_kind(content["kind"]),
        pid=integer(content["pid"]),
        address=integer(content["address"]),
        observed=flag(content["observed"]),
    )


RULES = ("malformed", "impossible", "ram-not-wb", "alias", "exclusive", "smram")
HAZARDS = ("mtrr-wb-uncached", "mtrr-mixed", "mtrr-undefined", "mtrr-uncached-combines")


def decode_verdict(content: dict[str, Any]) -> Verdict:
    """A verdict in a reply of the agent.

    :param content: ``verdict`` of the reply.
    :raises TypeError: a number or a truth value is something else.
    :raises ValueError: the verdict names a rule or a hazard that doesn't exist.
    """
    conflict = content["conflict"]
    if content["rule"] not in (None, *RULES) or not set(content["hazards"]) <= set(HAZARDS):
        raise ValueError(f"unknown rule {content['rule']!r} or hazard in {content['hazards']!r}")
    return Verdict(
        accepted=flag(content["accepted"]),
        rule=content["rule"],
        errno=error_number(content["errno"]),
        conflict=None if conflict is None else decode_tracked(conflict),
        hazards=tuple(content["hazards"]),
    )


def decode_kernel(content: dict[str, Any] | None, log: tuple[str, ...]) -> KernelAnswer:
    """The kernel's answer in a reply of the agent; null when the kernel wasn't asked."""
    if content is None:
        return KernelAnswer(asked=False, accepted=False, errno=0, log=log)
    return KernelAnswer(
        asked=True, accepted=flag(content["accepted"]), errno=error_number(content["errno"]), log=log
    )
