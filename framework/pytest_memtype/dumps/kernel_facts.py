"""The kernel that a text is of, as far as the text says it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_COMMITS: Final = re.compile(r"\+$|-\d{5}-g[0-9a-f]{7,40}\b")


@dataclass(frozen=True)
class Kernel:
    """The kernel that the text is of.

    :param release: As ``uname -r`` gives it, ``6.1.0-18-amd64``; or what the text has of it, ``6.1.90``.
    :param series: ``6.1``; ``2.6.32`` in the days when that was a series.
    :param version: The upstream version, ``(6, 1, 90)``, if the text says it. That of a distribution's
        release such as ``6.1.0-18`` isn't said: the last number is 0 then, and ``exact`` false.
    :param exact: Whether ``version`` is all of it.
    :param distribution: ``Debian``, ``Ubuntu``, ``Fedora``, ... in the text's words; None if not said.
    :param banner: The line that says it.
    :param line: Where it is.
    :param own: Whether a line of the kernel's says it, and not just somebody's words.
    :param aside: Whether its line isn't known to be of the machine of the complaint that counts.
    """

    release: str
    series: str
    version: tuple[int, int, int]
    exact: bool
    distribution: str | None
    banner: str
    line: int
    own: bool = True
    aside: bool = False

    @property
    def newest(self) -> tuple[int, int, int]:
        """The newest upstream version whose code it may have.

        Behind a release setlocalversion puts ``+``, or ``-00012-g0123456789ab``, where commits were added to
        it: behind the first of a series they are the next one's, as a rule.
        """
        major, minor, patch = self.version
        if not self.has_commits or "-rc" in self.release:
            return self.version
        if (major, minor) == (2, 6):
            return major, minor, patch + 1
        if patch:
            return self.version
        return (major, minor + 1, 0) if minor < 19 else (major + 1, 0, 0)

    @property
    def has_commits(self) -> bool:
        """Whether commits were added to the release that it is called after."""
        return _COMMITS.search(self.release) is not None
