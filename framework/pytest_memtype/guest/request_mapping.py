"""Requests for mappings, each turned into an outcome and noted in the journal."""

from __future__ import annotations

from typing import Any

from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.operation import Steps, ask
from pytest_memtype.guest.outcome import Mapping, Outcome, decode_kernel, decode_verdict
from pytest_memtype.guest.page_table import Leaves, decode_leaves, effective_types, types_for_cpu, types_of
from pytest_memtype.guest.region import Region
from pytest_memtype.guest.registers import decode_registers
from pytest_memtype.guest.strict import integer
from pytest_memtype.x86.effective import Effective
from pytest_memtype.x86.memtype import MemType

_WITHOUT_PAGES = ("reserve_wc", "phys_wc_add")
"""Verbs that reserve a type and map nothing."""


def request_mapping(
    journal: Journal,
    verb: str,
    *,
    actor: str,
    region: Region,
    memtype: MemType,
    label: str,
    fields: dict[str, str | int],
) -> Steps[Outcome]:
    """Ask for a mapping, and note the outcome.

    :param journal: Notes the outcome.
    :param verb: The request, such as ``ioremap`` or ``mmap``.
    :param actor: Name of the driver or process.
    :param region: The guest-physical memory to map.
    :param memtype: The type to ask for.
    :param label: The journal's name of the operation.
    :param fields: Further fields of the request.
    """
    reply = yield from ask(verb, start=region.start, pages=region.pages, memtype=int(memtype), **fields)

    def decode(content: dict[str, Any]) -> Outcome:
        handle = _handle(content)
        kind = "user" if verb == "mmap" else "kernel"
        address = integer(content["address"])
        mapping = None if handle is None else Mapping(kind, actor, handle, region, address, reply.boot)
        leaves: tuple[Leaves, ...] = ()
        effective: tuple[Effective | None, ...] = ()
        if mapping is not None and verb not in _WITHOUT_PAGES:
            leaves, effective = _types(content, region)
        return Outcome(
            operation=verb,
            actor=actor,
            region=region,
            requested_or_none=memtype,
            verdict_or_none=None if content["verdict"] is None else decode_verdict(content["verdict"]),
            kernel=decode_kernel(content["kernel"], reply.log),
            granted_pages=types_of(leaves),
            effective_pages=effective,
            mapping=mapping,
            address=address,
            leaves=leaves,
        )

    outcome = reply.decode(decode)
    arguments = {name: value for name, value in fields.items() if name not in ("process", "owner")}
    journal.mapped(outcome, label, arguments)
    return outcome


def request_device_mapping(
    journal: Journal,
    *,
    process: str,
    path: str,
    offset: int,
    pages: int,
    expected: tuple[Region, MemType] | None,
    fields: dict[str, str | int],
) -> Steps[Outcome]:
    """Ask for a mapping of a device node, and note the outcome.

    :param journal: Notes the outcome.
    :param process: Name of the process that maps.
    :param path: Path of the node.
    :param offset: Offset in bytes, as mmap() takes it.
    :param pages: How many pages.
    :param expected: The memory and the type that the test expects; None for nothing.
    :param fields: Further fields of the request.
    """
    asked: dict[str, str | int] = {"path": path, "offset": offset, "pages": pages, **fields}
    if expected is not None:
        asked |= {"start": expected[0].start, "memtype": int(expected[1])}
    reply = yield from ask("mmap_device", process=process, **asked)

    def decode(answer: dict[str, Any]) -> Outcome:
        content = answer["outcome"]
        start = None if answer["mapped"] is None else integer(answer["mapped"])
        mapped = Region(start or 0, pages)
        handle, address = _handle(content), integer(content["address"])
        mapping = None if handle is None else Mapping("user", process, handle, mapped, address, reply.boot)
        leaves, effective = _types(content, mapped) if mapping else ((), ())
        if mapping is None and expected is not None:
            mapped = expected[0]
        return Outcome(
            operation="mmap",
            actor=process,
            region=mapped,
            requested_or_none=None if expected is None else expected[1],
            verdict_or_none=None if expected is None else decode_verdict(content["verdict"]),
            kernel=decode_kernel(content["kernel"], reply.log),
            granted_pages=types_of(leaves),
            # Of memory that isn't known nobody knows the MTRRs' type.
            effective_pages=effective if start is not None else (None,) * len(effective),
            mapping=mapping,
            address=address,
            leaves=leaves,
            expected=None if expected is None else expected[0],
        )

    outcome = reply.decode(decode)
    journal.mapped(outcome, f"mmap {path}", {"offset": offset, **fields})
    return outcome


def _handle(content: dict[str, Any]) -> int | None:
    """The number of the mapping that was made, None where there is none."""
    return None if content["handle"] is None else integer(content["handle"])


def _types(
    content: dict[str, Any], region: Region
) -> tuple[tuple[Leaves, ...], tuple[Effective | None, ...]]:
    """The page-table entries of the pages in a reply, and the effective type of each page."""
    if content["verdict"] is None:
        # Without the module the MTRRs aren't read, and the PAT's value is the one that the kernel prints.
        leaves = decode_leaves(content["page_table"], integer(content["pat"]), pages=region.pages)
        return leaves, (None,) * region.pages
    registers = decode_registers(content["registers"])
    leaves = decode_leaves(content["page_table"], registers.pat_value, pages=region.pages)
    return leaves, effective_types(region, types_for_cpu(leaves), registers)
