"""An audit for people, as a table, and for programs, as JSON."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from pytest_memtype.audit.audit import Audit
from pytest_memtype.audit.findings import Finding
from pytest_memtype.audit.mappings import PageMapping
from pytest_memtype.x86.effective import Severity
from pytest_memtype.x86.size import format_size

_STYLES = {
    Severity.OK: "dim",
    Severity.INFO: "",
    Severity.WARNING: "yellow",
    Severity.ERROR: "red",
    Severity.FATAL: "bold red",
}
_SHOWN = 4


def audit_table(audit: Audit) -> Table:
    """The findings of an audit as a table, the benign ones last."""
    table = Table(box=None, header_style="bold")
    for column in ("", "what", "memory", "size"):
        table.add_column(column, no_wrap=True)
    for column in ("whose", "types", "mapped", "why"):
        table.add_column(column, overflow="fold")
    for each in sorted(audit.findings, key=lambda finding: (finding.benign is not None, -finding.danger)):
        grade = "benign" if each.benign is not None else each.danger.name.lower()
        cells = (
            str(each.kind),
            f"{each.start:x}-{each.end - 1:x}",
            format_size(each.end - each.start),
            each.owner,
            "/".join(map(str, each.effective)),
            _mapped(each),
            each.benign or each.reason,
        )
        style = "dim" if each.benign is not None else _STYLES[each.danger]
        table.add_row(Text(grade, style=style), *(Text(cell) for cell in cells))
    return table


def _mapped(finding: Finding) -> str:
    lines = [f"{each.memtype} {each.virtual:x} {each.where}" for each in finding.mappings[:_SHOWN]]
    more = finding.more(_SHOWN)
    return "\n".join([*lines, more] if more else lines)


def audit_lines(audit: Audit) -> list[str]:
    """The summary of an audit: what was looked at, what it cost, what wasn't followed, and the totals."""
    figures = audit.figures
    lines = [
        f"{figures.leaves:,} entries in {figures.tables:,} tables of {figures.roots} address spaces map "
        f"{format_size(figures.pages << 12)}",
        f"stopped {figures.stop_ms:.0f} ms; roots {figures.roots_ms:.0f}, walk {figures.walk_ms:.1f}, "
        f"types {figures.types_ms:.1f}, findings {figures.findings_ms:.1f} ms",
    ]
    if figures.search_ms:
        lines.append(
            f"before that it ran for {figures.search_ms:.0f} ms while roots were looked for, and stood still "
            f"{figures.first_stop_ms:.0f} ms"
        )
    lines += [
        f"not followed: {each.reason}: {each.count} of level {each.level}, the first in table "
        f"{each.table << 12:#x}, slot {each.slot}: {each.entry:#x}"
        for each in audit.dangling_entries
    ]
    lines += [f"not all is told: {each}" for each in audit.cut]
    faults = sum(each.benign is None for each in audit.findings)
    return [*lines, f"{len(audit.conflicts)} conflicts, {faults - len(audit.conflicts)} other findings"]


def audit_json(audit: Audit) -> dict[str, Any]:
    """An audit as JSON: addresses and sizes are numbers, times are in milliseconds."""
    return {
        "findings": [finding_json(each) for each in audit.findings],
        "figures": {**vars(audit.figures), "audit_ms": audit.figures.audit_ms},
        "unfollowed": [vars(each) for each in audit.dangling_entries],
        "cut": list(audit.cut),
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding of an audit as JSON: addresses and sizes are numbers."""
    return {
        "kind": finding.kind.value,
        "danger": finding.danger.name,
        "start": finding.start,
        "pages": finding.pages,
        "owner": finding.owner,
        "effective": [str(each) for each in finding.effective],
        "reason": finding.reason,
        "benign": finding.benign,
        "mappings": [_mapping(each) for each in finding.mappings],
        "complete": finding.complete,
    }


def _mapping(mapping: PageMapping) -> dict[str, Any]:
    return {
        "virtual": mapping.virtual,
        "start": mapping.start,
        "pages": mapping.pages,
        "page_size": int(mapping.page_size),
        "entry": mapping.entry,
        "memtype": str(mapping.memtype),
        "effective": str(mapping.effective),
        "region": mapping.region,
        "root": mapping.root << 12,
        "process": None if mapping.process is None else list(mapping.process),
    }
