"""The findings of a test's audits as the page shows them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

from pytest_memtype.report.kept import KeptAudit
from pytest_memtype.site.chunks import shown
from pytest_memtype.site.pictures import harmless_svg
from pytest_memtype.x86.effective import Severity
from pytest_memtype.x86.size import format_size

_MAPPINGS: Final = 8


class Pictures:
    """Pictures as files of the site, equal ones once.

    :param folder: Where they are written.
    :param address: The address of that folder from the page.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address = folder, address

    def add(self, document: str) -> str:
        """Write a picture, and tell its address; empty for one that can't be read.

        :param document: An SVG document, which may be hostile.
        """
        picture = harmless_svg(document) if document else None
        if picture is None:
            return ""
        name = f"picture-{hashlib.sha256(picture).hexdigest()[:16]}.svg"
        (self._folder / name).write_bytes(picture)
        return f"{self._address}/{name}"


def shown_audit(audit: KeptAudit, pictures: Pictures) -> dict[str, Any]:
    """An audit, all of whose texts are fit to be shown.

    :param audit: The audit.
    :param pictures: Where its picture is written.
    """
    excused = [*audit.excused, *[False] * len(audit.findings)]
    return {
        "guest": audit.guest,
        "findings": [_finding(each, known) for each, known in zip(audit.findings, excused, strict=False)],
        "remarks": [
            *(f"there since boot: {shown(each)}" for each in audit.since_boot),
            *([f"{audit.left} more aliases, none of them worse"] if audit.left > 0 else []),
            *(f"an alias of somebody else's: {shown(each)}" for each in audit.observed),
            *([f"not audited: {shown(audit.trouble)}"] if audit.trouble else []),
        ],
        "picture": pictures.add(audit.picture),
    }


def worst_of(findings: list[dict[str, Any]]) -> str:
    """The greatest danger of some findings, in small letters; empty without any.

    :param findings: The findings, as they are kept. One that names no danger that is known is the least.
    """
    dangers = [shown(each.get("danger", "")) for each in findings]
    return max(dangers, key=lambda each: Severity.__members__.get(each, -1), default="").lower()


def _finding(finding: dict[str, Any], excused: bool) -> dict[str, Any]:
    start, pages = finding.get("start"), finding.get("pages")
    where, size = "?", "?"
    if isinstance(start, int) and isinstance(pages, int):
        where, size = f"{start:#x}-{start + (pages << 12) - 1:#x}", format_size(pages << 12)
    mappings = [each for each in _list(finding.get("mappings")) if isinstance(each, dict)]
    more = len(mappings) - _MAPPINGS
    return {
        "kind": shown(finding.get("kind", "")),
        "danger": shown(finding.get("danger", "")).lower(),
        "where": where,
        "size": size,
        "owner": shown(finding.get("owner", "")),
        "types": " / ".join(map(shown, _list(finding.get("effective")))),
        "reason": shown(finding.get("reason", "")),
        "excused": excused,
        "mappings": [
            *map(_mapping, mappings[:_MAPPINGS]),
            *([f"and {more} more"] if more > 0 else []),
            *([] if finding.get("complete", True) else ["and others, which were not looked up"]),
        ],
    }


def _mapping(mapping: dict[str, Any]) -> str:
    virtual = mapping.get("virtual")
    words = [
        f"{mapping.get('memtype')}, effective {mapping.get('effective')}",
        f"at {virtual:#x}" if isinstance(virtual, int) else "",
        str(mapping.get("region") or ""),
    ]
    process = mapping.get("process")
    if isinstance(process, list):
        words.append(f"process {' '.join(map(str, process))}")
    return shown(", ".join(filter(None, words)))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
