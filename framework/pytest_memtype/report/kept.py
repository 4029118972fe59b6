"""Files of a run's folder beside its records: each test's result, layouts as pictures, the run's facts.

``tests.jsonl`` has a :class:`KeptTest` in each line, ``layouts.jsonl`` a :class:`KeptLayout`, and
``run.json`` is one :class:`RunFacts`. Whoever reads them takes them for hostile: they may come from another
machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from pytest_memtype.errors import UsageError
from pytest_memtype.host.files import opened, read_file, write_atomically
from pytest_memtype.report.record import append_lines

TESTS: Final = "tests.jsonl"
LAYOUTS: Final = "layouts.jsonl"
FACTS: Final = "run.json"

MOST_TEXT: Final = 64 << 10
"""Characters of a text that are kept, of the end: there stands what an error says."""

_LARGEST: Final = 1 << 30
_LARGEST_FACTS: Final = 1 << 20

_Line = TypeVar("_Line")


@dataclass(frozen=True)
class KeptAudit:
    """The findings in one guest of the audit at the end of a test.

    :param guest: The guest's number within the test, from 1.
    :param findings: The aliases, as :func:`pytest_memtype.report.audit_report.finding_json` writes them.
    :param excused: For each of them, whether the verifier has refused a mapping of it, so that the test is
        about it.
    :param since_boot: Aliases that the guest had before the test, in words.
    :param observed: Mappings of others that the verifier calls aliases, in words.
    :param trouble: Why there was no audit; empty where there was one.
    :param picture: The guest's memory as an SVG document; empty without an alias.
    :param left: Number of further aliases, none of them worse than those of ``findings``.
    """

    guest: int
    findings: list[dict[str, Any]] = field(default_factory=list)
    excused: list[bool] = field(default_factory=list)
    since_boot: list[str] = field(default_factory=list)
    observed: list[str] = field(default_factory=list)
    trouble: str = ""
    picture: str = ""
    left: int = 0


@dataclass(frozen=True)
class KeptTest:
    """The result of one test.

    :param test: pytest's node id.
    :param tested: The exact kernel, as records have it.
    :param kernel: The spec of that kernel, as a user may write it.
    :param system: ``minimal``, or the distribution that ran in the guest.
    :param path: Its file, from the folder that pytest was started in where it is below that; else in full.
    :param status: ``passed``, ``failed``, ``error``, ``missed`` (the host or a guest couldn't be used),
        ``skipped``, ``failed as expected`` or ``passed unexpectedly``.
    :param seconds: How long it took, with its guests' start and end.
    :param headline: Why it failed or was skipped, in one line; else empty.
    :param details: All that pytest says of a failure; else empty.
    :param bug: Id of the reported bug that it reproduces; empty if none.
    :param bug_title: What goes wrong with that bug, in one line.
    :param case: The node id without the kernel's name; empty in runs by an earlier version.
    :param folders: Names of folders of the run that hold its logs besides its own folder: that of guests that
        it shared, and a target's.
    """

    test: str
    tested: str = ""
    kernel: str = ""
    system: str = "minimal"
    path: str = ""
    status: str = "passed"
    seconds: float = 0.0
    headline: str = ""
    details: str = ""
    bug: str = ""
    bug_title: str = ""
    case: str = ""
    folders: list[str] = field(default_factory=list)
    audits: list[KeptAudit] = field(default_factory=list)


@dataclass(frozen=True)
class KeptLayout:
    """The picture of a layout in a guest.

    :param layout: The layout's name.
    :param hardware: The guest's hardware, as records have it.
    :param test: Node id of the first test that had it.
    :param picture: An SVG document.
    :param remark: What the picture doesn't show, in words; empty if it shows all.
    """

    layout: str
    hardware: dict[str, Any]
    test: str
    picture: str
    remark: str = ""


@dataclass(frozen=True)
class RunFacts:
    """The facts of a run that no test knows.

    :param started: When it began, in UTC: ``2026-11-29 08:30:12``.
    :param seconds: How long it took.
    :param exit_status: pytest's.
    :param options: The options of the run that aren't the default, as on a command line.
    :param versions: Of the package, of Python, pytest and the host's kernel, by name.
    :param host: What the host is, by name: CPUs, memory.
    """

    started: str = ""
    seconds: float = 0.0
    exit_status: int = 0
    options: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    host: dict[str, str] = field(default_factory=dict)


def append_line(path: Path, line: KeptTest | KeptLayout) -> None:
    """Add a line to a file of a run's folder, which nothing else writes.

    :param path: The file, which is made if it isn't there.
    :param line: The line.
    :raises HostError: it can't be written.
    """
    append_lines(path, msgspec.json.encode(line) + b"\n")


def write_facts(run: Path, facts: RunFacts) -> None:
    """Write the facts of a run into its folder.

    :param run: The folder.
    :param facts: The facts.
    :raises UsageError: they can't be written.
    """
    write_atomically(run / FACTS, msgspec.json.format(msgspec.json.encode(facts)) + b"\n")


def kept_tests(run: Path) -> Iterator[KeptTest]:
    """The tests of a run, in the order of the run; none of one by an earlier version.

    :param run: The run's folder.
    :raises UsageError: the file is no such file.
    """
    return _lines(run / TESTS, KeptTest)


def kept_layouts(run: Path) -> Iterator[KeptLayout]:
    """The pictures of a run's layouts; none of a run by an earlier version.

    :param run: The run's folder.
    :raises UsageError: the file is no such file.
    """
    return _lines(run / LAYOUTS, KeptLayout)


def kept_facts(run: Path) -> RunFacts:
    """The facts of a run; those that nobody knows are empty.

    :param run: The run's folder.
    :raises UsageError: the file is no such file.
    """
    path = run / FACTS
    if not path.exists():
        return RunFacts()
    try:
        return msgspec.json.decode(read_file(path, most=_LARGEST_FACTS), type=RunFacts)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: doesn't hold a run's facts ({error})") from None


def _lines(path: Path, kind: type[_Line]) -> Iterator[_Line]:
    if not path.exists():
        return
    decoder = msgspec.json.Decoder(kind)
    with opened(path, most=_LARGEST) as file:
        for number, line in enumerate(file, start=1):
            try:
                yield decoder.decode(line)
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{path}:{number}: is no line of such a file ({error})") from None
