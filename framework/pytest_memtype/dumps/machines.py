"""The machines of a text: lines that are not known to be of the machine that a complaint is of.

A text may show several: of two hosts in a log, of those who answer in a thread, of one who compares two. A
range of one machine's is another thing on the next, so nothing that stands there says anything of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from pytest_memtype.dumps.text import Row

# The headings of posts: of forums as Markdown has them, Bugzilla, Launchpad, GitHub, phpBB, SMF, Debian's.
_POSTS: Final = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        r"^#{1,6} (?:post|comment|reply|answer)\b.{0,12}?\b(?:by|from) (?P<name>\S.{0,60}?)"
        r"(?: (?:on|at) .*)?$",
        r"^-{2,} ?(?:additional )?comments? #?\d{1,4} from (?P<name>\S.{0,80}?)"
        r"(?: +\d{4}-\d\d-\d\d.*)?[ -]*$",
        r"^(?P<name>\S.{0,60}) \([\w.-]{2,40}\) wrote on \d{4}-\d\d-\d\d\b.*$",
        r"^@?(?P<name>[\w-]{1,39}) commented(?: on .*)?$",
        r"^(?:posted|written) by:? (?P<name>\S.{0,60}?)(?:,? (?:on|at) .*)?$",
        r"^by (?P<name>\S.{0,40}?) » .{0,40}\d.*$",
        r"^« reply #\d{1,5} on: .*$",
        r"^From: (?P<name>\S.{1,120})$",
        r"^(?:(?:re: )?(?:message|comment|reply|answer|post|beitrag|antwort) ?#\d{1,5}"
        r"|-{3,} ?original message ?-{3,})(?:[ :].{0,60})?$",
    )
)
#: "On Monday somebody wrote:", above what is quoted with a mark in front of each line.
_WROTE: Final = re.compile(r"\b(?:wrote|writes|schrieb\w*|a écrit|escribió|pisze|napsal)\b.{0,60}:\s*$", re.I)
_MACHINE: Final = (
    r"(?:machines?|box(?:es)?|computers?|laptops?|notebooks?|netbooks?|desktops?|pcs?|servers?|routers?|workstations?"
    r"|hosts?(?! bridge)|boards?)"
)
#: Words with which somebody goes on to another machine.
_ANOTHER: Final = re.compile(
    rf"\b(?:an?other|(?:the|my|our|a|on) (?:other|second|2nd|different))\s+(?:[\w-]+\s+)?{_MACHINE}\b"
    r"|\bmy (?:other|second) one\b|\bme too\b|\bsame (?:problem |issue |thing )?here\b"
    # A heading above what the one or the other says.
    r"|^\W{0,4}(?:in|inside|on|from) (?:the|my) (?:guest|vm|host|dom0|domu)\b[^.]{0,60}:\s*$",
    re.I,
)
#: A shell's prompt.
_PROMPT: Final = re.compile(r"^\[?[a-z_][\w.-]{0,31}@(?P<host>[\w.-]{1,64})(?:[: ][^\]\n]{0,80}?)?\]?[$#] ")
#: Names that a machine has before it knows its own, and names that say nothing.
_NO_NAME: Final = frozenset(
    {"localhost", "(none)", "none", "unknown", "host", "hostname", "kernel", "linux", "archlinux", "debian"}
    | {"fedora", "ubuntu"}
)


@dataclass
class _Scene:
    """The lines of one speaker about one machine.

    :param speaker: The speaker's name, or a number of his post where it names nobody.
    :param machine: How many machines he has gone through, from 0.
    :param hosts: The names of hosts in it.
    """

    speaker: str
    machine: int
    hosts: set[str] = field(default_factory=set)

    def may_be(self, other: _Scene) -> bool:
        """Whether both are of one speaker, and of one machine as far as he says."""
        return (self.speaker, self.machine) == (other.speaker, other.machine)


def elsewhere(rows: Sequence[Row], line: int) -> frozenset[int]:
    """The numbers of lines that aren't known to be of the machine that a line is of.

    A text that shows one machine alone has none.

    :param rows: The lines of the text.
    :param line: The number of the line.
    """
    scenes = list(_scenes(rows))
    index = next((number for number, row in enumerate(rows) if row.number == line), None)
    if index is None:
        return frozenset()
    (mine, host), depth = scenes[index], rows[index].depth
    # Each scene once, as it has as many lines as there may be hosts.
    hosts = set().union(*(each.hosts for each in {id(each): each for each, _ in scenes}.values()))
    host = host or (next(iter(mine.hosts)) if len(mine.hosts) == 1 else None)
    answered = any(_WROTE.search(row.text) for row in rows if "rote" in row.text or row.text.endswith(":"))
    found = set()
    for row, (scene, name) in zip(rows, scenes, strict=True):
        # Who is quoted, and who quotes him, take turns.
        others = not scene.may_be(mine) or (answered and (row.depth - depth) % 2 == 1)
        if len(hosts) > 1 and not others:
            others = name != host if name is not None else not scene.hosts <= {host}
        if others and row.number != line:
            found.add(row.number)
    return frozenset(found)


def _scenes(rows: Sequence[Row]) -> Iterator[tuple[_Scene, str | None]]:
    """The scene of each line, and the host: by its prefix, or of the shell whose prompt stands above."""
    machines: dict[str, int] = {}
    scene = _Scene("", 0)
    known = {("", 0): scene}
    shell: str | None = None
    for row in rows:
        speaker, machine = scene.speaker, scene.machine
        if not row.prefixed and row.text:
            name = _speaker(row)
            if name is not None:
                speaker, shell = name, None
                machine = machines.get(speaker, 0)
            elif _ANOTHER.search(row.text):
                machine, shell = machine + 1, None
        machines[speaker] = machine
        scene = known.setdefault((speaker, machine), _Scene(speaker, machine))
        prompt = _PROMPT.match(row.text) if "@" in row.text[:64] else None
        shell = shell if prompt is None else _known_name(prompt["host"])
        host = shell if row.host is None else _known_name(row.host)
        if host is not None:
            scene.hosts.add(host)
        yield scene, host


def _speaker(row: Row) -> str | None:
    """The speaker whose post a heading begins; None where a line is none."""
    if row.depth or len(row.text) > 200:
        return None
    match = next(filter(None, (each.match(row.text) for each in _POSTS)), None)
    if match is None:
        return None
    return (match.groupdict().get("name") or f"#{row.number}").strip().lower()


def _known_name(name: str) -> str | None:
    """A host's name without its domain; None for one that may be any machine's."""
    short = name.lower().partition(".")[0]
    return None if short in _NO_NAME or not re.search(r"[a-z0-9]", short) or set(short) == {"x"} else short
