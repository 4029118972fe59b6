"""The data of a run's page: an index that the page loads at once, and files that it loads when asked."""

from __future__ import annotations

import itertools
import shlex
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pytest_memtype.bugs.matrix import Cell, cells_of, combined, kernels_of, read_cells
from pytest_memtype.errors import UsageError
from pytest_memtype.report.compare import Steps, changes, differences_of
from pytest_memtype.report.compare_table import short
from pytest_memtype.report.kept import TESTS, KeptTest, RunFacts, kept_facts, kept_layouts, kept_tests
from pytest_memtype.report.overview_table import kind_of
from pytest_memtype.report.record import NONSENSE, Record, case_of, each_of, host_of, names_apart
from pytest_memtype.report.result import Status
from pytest_memtype.report.verdict_table import answer, hardware_words, mapped_already
from pytest_memtype.site.chunks import Chunks, script, shown
from pytest_memtype.site.evidence import Evidence
from pytest_memtype.site.findings import Pictures, shown_audit, worst_of
from pytest_memtype.site.steps import line, size_of

BAD: Final = tuple(each.value for each in Status if each.is_bad)
"""The statuses of tests for which a run ends with another status than 0."""

UNKNOWN: Final = "unknown"
"""The status of a test of which there are records alone."""

_LARGEST_RECORDS: Final = 1 << 32
_STEPS_IN_A_PIECE: Final = 1000
_EXAMPLES: Final = 50
_MOST_CHANGES: Final = 5000
_MOST_PICTURES: Final = 1000
_LONG: Final = 65536
# A run's options with which its tests have to be run again, besides kernel and guest.
_FOR_RERUN: Final = ("--layout", "--accel", "--fresh", "--target", "--target-config", "--console", "--mutant")
_ABOUT: Final = ("kernel", "kernel_version", "system", "accelerator", "accelerator_reason", "qemu")


@dataclass
class Summary:
    """The line of a run on the page of all runs.

    :ivar name: The run's name, which its page and folder have.
    :ivar kernels: The kernels that were tested.
    :ivar statuses: How many tests have each status.
    :ivar steps: Number of records.
    :ivar kinds: How many mappings were answered in each way, as the overview counts them.
    :ivar results: The status of each test, by node id.
    :ivar cases: Each test without its kernel, and the guest's system, by node id.
    """

    name: str
    facts: RunFacts
    kernels: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    results: dict[str, str] = field(default_factory=dict)
    cases: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether the results of its tests are known: runs by earlier versions have records alone."""
        return not self.results or set(self.results.values()) != {UNKNOWN}

    @property
    def failed(self) -> int:
        """Number of tests for which the run ends with another status than 0."""
        return sum(self.statuses[each] for each in BAD)

    @property
    def disagreements(self) -> int:
        """Number of mappings on which verifier and Linux disagree."""
        return sum(count for kind, count in self.kinds.items() if kind.startswith("≠"))


@dataclass
class _Test:
    """A test, as a row of the index; numbers are places in the index's lists, -1 for none."""

    nodeid: str
    case: str
    tested: str
    system: str = "minimal"
    kernel: int = -1
    layout: int = -1
    hardware: int = -1
    status: str = UNKNOWN
    seconds: float = 0.0
    steps: int = 0
    disagreements: int = 0
    bug: str = ""
    headline: str = ""
    pieces: list[int] = field(default_factory=list)
    failure: int = -1
    audit: int = -1
    findings: int = 0
    worst: str = ""


@dataclass
class _Piece:
    """Steps of a test that are written into one file."""

    test: int
    guests: dict[int, list[str]] = field(default_factory=dict)
    steps: list[list[Any]] = field(default_factory=list)
    size: int = 0


class _Numbers:
    """A list of different things, each named by its place in it."""

    def __init__(self) -> None:
        self.places: dict[Any, int] = {}

    def __call__(self, thing: Any) -> int:
        return self.places.setdefault(thing, len(self.places))

    def texts(self) -> list[str]:
        return [shown(each) for each in self.places]


def write_run(run: Path, folder: Path, *, name: str) -> Summary:
    """Write the data of a run into a folder, and tell what there is.

    :param run: The run's folder, or its file ``records.jsonl``.
    :param folder: The folder, which is there and empty.
    :param name: The name that the site has for the run: the folder's address from the page.
    :raises UsageError: the run's files are none, or can't be read.
    """
    try:
        return _Run(run, folder, name).write()
    except NONSENSE as error:
        # Each line is a record, but its content was written by somebody else.
        raise UsageError(
            f"{run}: a record makes no sense ({type(error).__name__}: {error}); name runs of memtype's own"
        ) from error


class _Run:
    def __init__(self, run: Path, folder: Path, name: str) -> None:
        self._records = run if run.is_file() else run / "records.jsonl"
        self._run = self._records.parent
        self._folder, self._name = folder, name
        self._tests: list[_Test] = []
        self._places: dict[str, int] = {}
        self._kernels, self._layouts, self._hardware, self._strings = (_Numbers() for _ in range(4))
        # Of each row of the matrix: test, guest and step, again and again.
        self._rows: dict[tuple[int, ...], array[int]] = {}
        self._columns: dict[int, Steps] = {}
        self._about: dict[tuple[str, ...], None] = {}
        self._steps = Chunks(folder, "steps")
        self._piece = _Piece(-1)
        self._pictures = Pictures(folder, name)
        self._summary = Summary(name, RunFacts())

    def write(self) -> Summary:
        """Write all files."""
        facts = kept_facts(self._run)
        if self._records.exists():
            for record in each_of(self._records, most=_LARGEST_RECORDS):
                self._take(record)
        elif not (self._run / TESTS).exists():
            raise UsageError(f"{self._run}: has neither records nor results of a run; name a folder that has")
        self._flush()
        self._steps.close()
        self._take_results(facts)
        named = names_apart(self._kernels.places)
        names = [shown(named[each]) for each in self._kernels.places]
        index = {
            "name": self._name,
            "environment": self._environment(facts),
            "kernels": names,
            "short": list(map(short, names)),
            "layouts": self._layouts.texts(),
            "hardware": self._hardware.texts(),
            "rows": self._matrix(),
            "tests": self._table(),
            "pictures": self._layout_pictures(),
            "bugs": self._bugs(),
            "differences": self._differences(),
            # Behind all that add to it.
            "strings": self._strings.texts(),
        }
        (self._folder / "index.js").write_text(script("index", index), encoding="ascii")
        summary = self._summary
        summary.facts, summary.kernels = facts, names
        summary.results = {each.nodeid: each.status for each in self._tests}
        summary.cases = {each.nodeid: (each.case, each.system) for each in self._tests}
        summary.statuses = Counter(summary.results.values())
        return summary

    def _test(self, nodeid: str, case: str, tested: str) -> int:
        if nodeid not in self._places:
            self._places[nodeid] = len(self._tests)
            self._tests.append(_Test(nodeid, case, tested))
        return self._places[nodeid]

    def _take(self, record: Record) -> None:
        number = self._test(record["test"], record["case"], record["tested"])
        test = self._tests[number]
        test.system = str(record.get("system", test.system))
        test.kernel = self._kernels((record["tested"], host_of(record)))
        test.layout = self._layouts(record.get("layout", ""))
        test.hardware = self._hardware(hardware_words(record["hardware"]) or "default")
        test.steps += 1
        self._summary.steps += 1
        self._columns.setdefault(test.kernel, Steps()).add(record)
        self._about[tuple(str(record.get(each, "")) for each in _ABOUT)] = None
        if "kernel_answer" in record:
            self._count(record, number)
        if self._piece.test != number or len(self._piece.steps) >= _STEPS_IN_A_PIECE:
            self._flush()
            self._piece = _Piece(number)
        step = line(record)
        self._piece.steps.append(step)
        self._piece.size += size_of(step)
        if record["guest"] not in self._piece.guests:
            names = ("kernel", "system", "boot", "accelerator", "qemu")
            self._piece.guests[record["guest"]] = [shown(record.get(each, "")) for each in names]

    def _count(self, record: Record, number: int) -> None:
        """Count a request in the matrix, and note where it was made."""
        test, given = self._tests[number], answer(record)
        kind = kind_of(given)
        asked = mapped_already(record), record["operation"], record["requested"]
        words = *asked, given.verifier, given.linux, given.page_table, kind
        key = test.kernel, test.layout, test.hardware, *map(self._strings, words)
        self._rows.setdefault(key, array("q")).extend((number, record["guest"], record["step"]))
        self._summary.kinds[kind] += 1
        test.disagreements += kind.startswith("≠")

    def _flush(self) -> None:
        piece = self._piece
        if piece.steps:
            pieces = self._tests[piece.test].pieces
            number = self._steps.add(piece.test, [piece.guests, piece.steps], piece.size)
            if number not in pieces:
                pieces.append(number)

    def _take_results(self, facts: RunFacts) -> None:
        failures, audits = Chunks(self._folder, "failures"), Chunks(self._folder, "audits")
        evidence = Evidence(self._folder / "evidence", f"{self._name}/evidence")
        kernels = {tested: number for (tested, _), number in self._kernels.places.items()}
        for kept in kept_tests(self._run):
            number = self._test(kept.test, kept.case or case_of(kept.test, kept.tested), kept.tested)
            test = self._tests[number]
            test.system = kept.system
            if test.kernel < 0 and kept.tested:
                # It did nothing in a guest.
                if kept.tested not in kernels:
                    kernels[kept.tested] = self._kernels((kept.tested, "no guest"))
                test.kernel = kernels[kept.tested]
            test.status, test.seconds, test.headline = kept.status, kept.seconds, shown(kept.headline)
            test.bug = shown(kept.bug)
            found = [each for audit in kept.audits for each in audit.findings]
            if kept.audits:
                test.findings = len(found) + sum(each.left for each in kept.audits)
                test.worst = worst_of(found)
                shows = [shown_audit(each, self._pictures) for each in kept.audits]
                test.audit = audits.add(number, shows, 1000 * (1 + len(found)))
            if kept.status in BAD:
                copied = evidence.of_test(self._run, kept)
                details = {
                    "details": shown(kept.details, _LONG),
                    "consoles": copied.consoles,
                    "links": copied.links,
                    "left": shown(copied.left_out),
                    "again": shown(rerun_command(kept, facts)),
                }
                size = len(details["details"]) + sum(len(text) for _, text in copied.consoles)
                test.failure = failures.add(number, details, size + 500)
        failures.close()
        audits.close()

    def _matrix(self) -> list[list[int]]:
        """The rows of the matrix: what the key has, how many steps, and the file that names them."""
        places = Chunks(self._folder, "places")
        rows = []
        for number, (key, steps) in enumerate(self._rows.items()):
            rows.append([*key, len(steps) // 3, places.add(number, steps.tolist(), 6 * len(steps))])
        places.close()
        return rows

    def _table(self) -> dict[str, list[Any]]:
        """The tests as columns, each of which has a value for each test."""
        columns: dict[str, list[Any]] = {
            name: [getattr(each, name) for each in self._tests]
            for name in (
                "kernel", "layout", "hardware", "seconds", "steps", "disagreements", "pieces", "failure",
                "audit", "findings",
            )
        }  # fmt: skip
        for name in ("status", "bug", "headline", "worst"):
            columns[name] = [self._strings(getattr(each, name)) for each in self._tests]
        cases = _Numbers()
        columns["case"] = [cases(each.case) for each in self._tests]
        columns["cases"] = cases.texts()
        return columns

    def _layout_pictures(self) -> list[dict[str, str]]:
        return [
            {
                "layout": shown(kept.layout),
                "hardware": shown(hardware_words(kept.hardware) or "default"),
                "test": shown(kept.test),
                "file": self._pictures.add(kept.picture),
                "remark": shown(kept.remark),
            }
            for kept in itertools.islice(kept_layouts(self._run), _MOST_PICTURES)
        ]

    def _bugs(self) -> dict[str, Any]:
        cells = read_cells(self._run / "bugs.jsonl")
        titles = {each.bug: each.bug_title for each in kept_tests(self._run) if each.bug}
        names = kernels_of(cells)
        return {
            "kernels": list(map(shown, names)),
            "bugs": [
                [
                    shown(bug),
                    shown(titles.get(bug, "")),
                    [self._bug_cell(cells_of(cells, bug, each)) for each in names],
                ]
                for bug in sorted({each.bug for each in cells})
            ],
        }

    def _bug_cell(self, mine: list[Cell]) -> list[Any]:
        evidence = "\n".join(line for each in mine for line in each.evidence)
        tests = [self._places[each.test] for each in mine if each.test in self._places]
        return [shown(combined(mine)), shown(evidence), tests]

    def _differences(self) -> dict[str, Any]:
        numbers = list(self._columns)
        found = changes(differences_of([self._columns[each] for each in numbers]))
        return {
            "kernels": numbers,
            "left": max(0, len(found) - _MOST_CHANGES),
            "changes": [
                {
                    "operation": shown(change.operation),
                    "answers": list(map(shown, change.answers)),
                    "times": len(change.differences),
                    "examples": [
                        [shown(each.case), each.guest, each.step] for each in change.differences[:_EXAMPLES]
                    ],
                }
                for change in found[:_MOST_CHANGES]
            ],
        }

    def _environment(self, facts: RunFacts) -> list[tuple[str, str]]:
        pairs = [("started (UTC)", facts.started), ("seconds", str(facts.seconds))] if facts.started else []
        if facts.started:
            pairs.append(("pytest ended with", str(facts.exit_status)))
        pairs.append(("options", shlex.join(facts.options) or "none"))
        for about in self._about:
            kernel, version, system, accelerator, why, qemu = about
            where = "" if system in ("", "minimal") else f" in {system}"
            pairs.append((f"kernel {kernel}{where}", f"package or source {version}"))
            pairs.append((f"accelerator of {kernel}", f"{accelerator}: {why}"))
            pairs.append((f"QEMU of {kernel}", qemu))
        pairs += [*facts.versions.items(), *facts.host.items()]
        return list(dict.fromkeys((shown(name), shown(value)) for name, value in pairs))


def rerun_command(test: KeptTest, facts: RunFacts) -> str:
    """The command that runs a test again, on the very kernel that it ran on.

    :param test: The test.
    :param facts: The facts of its run.
    """
    kernel = test.tested.partition("@")[0] if test.tested.startswith("debian:") else test.kernel
    # A target runs its own, and --target names it.
    kernel = "" if test.tested.startswith("target:") else kernel
    words = ["memtype", "run", *(["--kernel", kernel] if kernel else [])]
    words += [] if test.system == "minimal" else ["--guest", test.system]
    for name, value in zip(facts.options, facts.options[1:], strict=False):
        words += [name, value] if name in _FOR_RERUN else []
    words += ["--shared-guest"] if "--shared-guest" in facts.options else []
    file, colons, name = test.test.partition("::")
    # A node id says nothing of a file that isn't below pytest's root folder.
    return shlex.join([*words, f"{test.path or file}{colons}{name}"])
