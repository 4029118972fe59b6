"""The overview of a run with too many verdicts to read: how many there are of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pytest_memtype.report.record import Record, apart, where_of
from pytest_memtype.report.verdict_table import Answer, answer

_COLUMNS = (
    ("mappings", None),
    ("accepted", None),
    ("refused", None),
    ("≠ mapped", "yellow"),
    ("≠ substituted", "yellow"),
    ("≠ refused", "yellow"),
    ("not asked", "dim"),
    ("no verifier", "dim"),
)

LEGEND = """\
accepted, refused: verifier and Linux agree. ≠ mapped: Linux mapped what the verifier refused.
≠ substituted, ≠ refused: the verifier accepted, and Linux gave another type, or refused.
"""


def overview(records: Iterable[Record]) -> Group:
    """A table for each kernel: a row for each layout, and counts of what verifier and Linux answered."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    asked = [record for record in records if "kernel_answer" in record]
    for place, found in apart(asked, where_of).items():
        layouts = counts.setdefault(place, {})
        for record in found:
            layouts.setdefault(record["layout"], Counter()).update(("mappings", kind_of(answer(record))))
    return Group(*(_kernel_table(kernel, layouts) for kernel, layouts in counts.items()), LEGEND)


def _kernel_table(kernel: str, layouts: dict[str, Counter[str]]) -> Table:
    table = Table(
        title=Text(kernel, style="bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_footer=len(layouts) > 1,
    )
    total = sum(layouts.values(), Counter[str]())
    used = [(name, style) for name, style in _COLUMNS if total[name]]
    table.add_column("layout", footer="all", no_wrap=True)
    for name, style in used:
        table.add_column(name, str(total[name]), justify="right", style=style, no_wrap=True)
    for layout, count in sorted(layouts.items()):
        table.add_row(Text(layout), *(str(count[name]) if count[name] else "" for name, _ in used))
    return table


def kind_of(given: Answer) -> str:
    """The name of the column that counts an answer."""
    accepted = given.verifier == "accepted"
    match given.linux:
        case "not asked":
            return "not asked"
        case _ if not given.verifier.strip("-"):
            return "no verifier"
        case "refused":
            return "≠ refused" if accepted else "refused"
        case "substituted" if accepted:
            return "≠ substituted"
        case _:
            return "accepted" if accepted else "≠ mapped"
