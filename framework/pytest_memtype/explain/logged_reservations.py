"""The fate of reservations, as debugpat logs it: made, given back, and shortened by somebody else's end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Dump, Kind, Span
from pytest_memtype.explain.linux_source import age, is_newer

#: Longer logs aren't followed: each line is looked for among the reservations that are there.
_MOST: Final = 2000


@dataclass(frozen=True)
class Shortened:
    """A reservation that lost its end to a request that was exactly nobody's.

    :param whole: The range as it was reserved.
    :param request: The line that gave its end back.
    """

    whole: Span
    request: Complaint


def shortened_before(dump: Dump, freed: Complaint) -> Shortened | None:
    """The reason why a range wasn't found that was to be freed: it had been shortened; None without one.

    memtype_erase() takes the reservation that is exactly the range, or else the first that is longer and ends
    there, be it another mapping's (2039e6acaf94, 4.5 to 6.15). "memtype_free request" says that it found one.

    :param dump: What was read of the text.
    :param freed: The line "freeing invalid memtype".
    """
    events = sorted((*dump.made, *dump.freed), key=lambda each: each.line)
    # Equal lines one after the other were put together: which came when isn't known any more.
    if len(events) > _MOST or any(each.repeated > 1 for each in events):
        return None
    if is_newer(age(dump), 4, 5) is False or is_newer(age(dump), 6, 16):
        return None
    # 2.6.32 logs the request of what it refused, too.
    refused = {(each.span, line) for each in dump.of(Kind.FREEING_INVALID) for line in each.lines}
    held: list[Span] = []
    shortened: dict[Span, Shortened] = {}
    for each in events:
        if each.line > freed.line or each.span is None:
            break
        if each.kind is Kind.RESERVED:
            held.append(each.span)
            continue
        if each.span in held:
            held.remove(each.span)
            continue
        if {(each.span, each.line - 1), (each.span, each.line - 2)} & refused:
            continue
        # Which of several is taken the order in the tree says, by their starts.
        end, start = each.span.end, each.span.start
        longer = [span for span in held if span.end == end and span.start < start]
        if not longer:
            continue
        whole = min(longer, key=lambda span: span.start)
        held[held.index(whole)] = Span(whole.start, each.span.start - 1)
        shortened.setdefault(whole, Shortened(whole, each))
    return shortened.get(freed.span) if freed.span is not None and freed.span not in held else None
