"""Lines of a mail that its programs made: headers, and the signature below the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pytest_memtype.dumps.text import Row

# RFC 5322 and those of mailers. The subject is the writer's, and so are other words with a colon.
_HEADER: Final = re.compile(
    r"^(?:User-Agent|X-[A-Z][\w-]{1,40}|Received(?:-SPF)?|Message-ID|References|In-Reply-To|MIME-Version"
    r"|(?:List|Content|ARC|DKIM|Authentication)-[A-Z][\w-]{1,40}|Return-Path|Delivered-To|Mailing-List"
    r"|Organization|From|To|Cc|Bcc|Reply-To|Sender|Date):(?: |$)",
    re.I,
)
_SIGNATURE: Final = re.compile(r"^--\s*$")
#: RFC 3676 wants it short; McQuary's limit are four lines.
_MOST_SIGNED: Final = 4


def made_by_mailers(rows: Sequence[Row]) -> set[int]:
    """The indices of lines that a mailer or git made, or that stand below each mail of their writer.

    :param rows: The lines of a text, without marks of quoting.
    """
    found: set[int] = set()
    folded = False
    signed = 0
    for index, row in enumerate(rows):
        folded = not row.prefixed and (
            _HEADER.match(row.text) is not None or (folded and row.text.startswith((" ", "\t")))
        )
        signed = 0 if not row.text.strip() or row.prefixed else max(0, signed - 1)
        if folded or signed:
            found.add(index)
        if _SIGNATURE.match(row.text):
            signed = _MOST_SIGNED + 1
    return found
