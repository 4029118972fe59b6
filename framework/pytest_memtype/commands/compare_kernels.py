"""Comparison for ``memtype compare``: the suite on several kernels, or records of earlier runs."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from rich.console import Console

from pytest_memtype.errors import MemtypeError, UsageError
from pytest_memtype.plugin.config import run_of
from pytest_memtype.report.answer import answers, question
from pytest_memtype.report.compare import Change, Column, changes, differences
from pytest_memtype.report.compare_table import as_json, compare_table, escaped, markdown, short
from pytest_memtype.report.expected import Unexpected, unexpected
from pytest_memtype.report.kept import TESTS
from pytest_memtype.report.record import NONSENSE, Record, apart, read, tested
from pytest_memtype.run.suite import run_suite

_RECORDS = "records.jsonl"

_WIDTH = 160
"""Width in characters of a table that goes into a file or a pipe."""


@dataclass(frozen=True)
class Run:
    """The records of a run.

    :param name: Name of its folder, or of its file.
    :param records: Its records, in their order.
    :param folder: Folder of all runs; None for a record file elsewhere, which has no runs before it.
    """

    name: str
    records: Sequence[Record]
    folder: Path | None = None


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison of kernels.

    :param names: Names of the columns: kernels, with their run where several are compared.
    :param changes: Differences between the columns, by kind.
    :param surprises: Answers that differ from those expected of the kernel.
    :param failed: Node ids of tests that failed.
    :param partly: Number of tests that not all columns have.
    """

    names: tuple[str, ...]
    changes: tuple[Change, ...]
    surprises: tuple[Unexpected, ...]
    failed: tuple[str, ...] = ()
    partly: int = 0


class _Collector:
    """A plugin of the process that talks to the user: collects records and failures."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.failed: list[str] = []
        self._config: pytest.Config | None = None

    @property
    def run(self) -> Run:
        """The run, with the folder that its records went into."""
        if self._config is None or not self.records:
            return Run("this run", self.records)
        folder = run_of(self._config)
        return Run(folder.name, self.records, folder.parent)

    def pytest_configure(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.records += getattr(report, "memtype_records", [])
        if report.failed:
            self.failed.append(report.nodeid)


def compare_kernels(kernels: Sequence[str], arguments: Sequence[str]) -> tuple[int, Comparison]:
    """Run the suite on each kernel, and compare. Pytest's output goes to the standard error.

    :param kernels: Specs of kernels.
    :param arguments: Further command line for pytest.
    :returns: The run's exit status, see :func:`run_suite`, and the comparison.
    :raises MemtypeError: a kernel can't be had.
    :raises UsageError: there is nothing to compare. Where that shows before the run, nothing is run; else it
        has the run's exit status, if that isn't 0.
    """
    collector = _Collector()
    options = [option for kernel in kernels for option in ("--kernel", kernel)]
    with contextlib.redirect_stdout(sys.stderr):
        status = run_suite(
            [*options, "-q", "--no-summary", *arguments], plugins=[collector], or_own=True, least=2
        )
    try:
        return status, compared([collector.run], failed=collector.failed)
    except UsageError as error:
        # Where no test has come as far as a guest, the run has said why.
        error.exit_status = status or error.exit_status
        raise


def compare_runs(paths: Iterable[Path]) -> Comparison:
    """Compare the records of earlier runs.

    :param paths: Paths of their folders, or of record files.
    :raises UsageError: a path is neither, or its records can't be used.
    """
    runs = [read_run(path) for path in paths]
    try:
        return compared(runs)
    except NONSENSE as error:
        # Each line is a record, but its content was written by somebody else.
        names = ", ".join(run.name for run in runs)
        raise UsageError(
            f"{names}: a record makes no sense ({type(error).__name__}: {error}); name runs of memtype's own"
        ) from error


def read_run(path: Path) -> Run:
    """Read the run that a folder or a record file holds.

    :param path: The folder or the file.
    :raises UsageError: there is no run.
    """
    try:
        file = path / _RECORDS if path.is_dir() else path
        if not file.exists():
            if (path / TESTS).exists():
                raise UsageError(f"{path}: no test of this run did anything in a guest; name another")
            raise UsageError(f"{path}: no run; name a folder below .memtype/runs, or a records.jsonl")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    file = file.resolve()
    if file.name != _RECORDS:
        return Run(file.name, read(file))
    runs = file.parent.parent
    return Run(file.parent.name, read(file), runs if runs.name == "runs" else None)


def compared(runs: Sequence[Run], *, failed: Sequence[str] = ()) -> Comparison:
    """Compare every kernel of every run; several runs of the same several kernels kernel by kernel.

    :param runs: The runs.
    :param failed: Node ids of tests that failed.
    :raises UsageError: there is only one column.
    """
    split = [apart(run.records, tested) for run in runs]
    like_with_like = len(runs) > 1 < len(split[0]) and all(each.keys() == split[0].keys() for each in split)
    columns: list[Column] = []
    surprises: list[Unexpected] = []
    cases: list[set[str]] = []
    for run, found in zip(runs, split, strict=True):
        if like_with_like:
            columns.append(
                Column(run.name, [each for kernel in found for each in _named(kernel, found[kernel])])
            )
            cases.append({record["case"] for record in columns[-1].records})
        else:
            cases += [{record["case"] for record in each} for each in _by_kernel(run.records).values()]
        for kernel, records in found.items():
            if not like_with_like:
                columns.append(Column(f"{run.name} {short(kernel)}" if len(runs) > 1 else kernel, records))
            before = _before(run, records[0])
            earlier = () if before is None else before.records
            surprises += unexpected(records, earlier, run="" if before is None else before.name)
    if len(columns) < 2:
        raise UsageError(
            f"compare: {len(columns)} kernels or runs have a record; there is nothing to compare"
        )
    return Comparison(
        names=_distinct([column.name for column in columns]),
        changes=tuple(changes(differences(columns))),
        surprises=tuple(surprises),
        failed=tuple(dict.fromkeys(failed)),
        partly=len(cases[0].union(*cases) - cases[0].intersection(*cases)),
    )


def _named(kernel: str, records: Sequence[Record]) -> list[Record]:
    """Records of one kernel among others: their tests bear its name."""
    return [{**record, "case": f"{record['case']} on {short(kernel)}"} for record in records]


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Headings of columns; a heading that was there already, as of two folders of one name, is numbered."""
    count: Counter[str] = Counter()
    found = []
    for name in names:
        count[name] += 1
        found.append(name if count[name] == 1 else f"{name} ({count[name]})")
    return tuple(found)


def _by_kernel(records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(tested(record), []).append(record)
    return found


def _is_like(record: Record, like: Record) -> bool:
    """Whether a record is of the same kernel package, QEMU and accelerator as another."""
    same = all(record[key] == like[key] for key in ("kernel", "kernel_version"))
    # Records of earlier versions don't name QEMU's.
    known = [key for key in ("qemu", "accelerator") if key in record and key in like]
    return same and all(record[key] == like[key] for key in known)


def _before(run: Run, like: Record) -> Run | None:
    """The last earlier run of the same kernel package by the same QEMU, with these records; None without.

    Its first records are the same as a rule: a process is started, and nothing of that differs.
    """
    if run.folder is None or not run.folder.is_dir():
        return None
    for folder in sorted(run.folder.iterdir(), reverse=True):
        if folder.name >= run.name:
            continue
        try:
            records = read(folder / _RECORDS)
        except MemtypeError:
            continue
        same = [each for each in records if _is_like(each, like)]
        if same and _make_sense(same):
            return Run(folder.name, same)
    return None


def _make_sense(records: Iterable[Record]) -> bool:
    """Whether records can be compared. Those of a run that nobody has named spoil no comparison of others."""
    try:
        for record in records:
            question(record)
            answers(record)
    except NONSENSE:
        return False
    return True


def show(comparison: Comparison, *, form: str) -> str:
    """The text of a comparison, as the command prints it.

    :param comparison: The comparison.
    :param form: ``table``, ``markdown`` or ``json``.
    """
    if form == "json":
        content = {
            "kernels": comparison.names,
            "changes": as_json(comparison.names, comparison.changes),
            "unexpected": [asdict(each) for each in comparison.surprises],
            "failed": comparison.failed,
            "not_under_all": comparison.partly,
        }
        return json.dumps(content, indent=1) + "\n"
    steps = sum(len(change.differences) for change in comparison.changes)
    lines = [f"{steps} steps differ, in {len(comparison.changes)} ways"]
    if comparison.partly:
        lines.append(f"{comparison.partly} tests did not run under all of them")
    lines += [f"not as expected: {each}" for each in comparison.surprises]
    lines += [f"failed: {each}" for each in comparison.failed]
    if form == "markdown":
        told = "\n".join(f"- {escaped(line)}" for line in lines)
        return f"{markdown(comparison.names, comparison.changes)}\n{told}\n"
    console = Console(width=max(_WIDTH, Console().width))
    with console.capture() as capture:
        console.print(compare_table(comparison.names, comparison.changes))
    table = "\n".join(line.rstrip() for line in capture.get().splitlines())
    return table + "\n" + "\n".join(lines) + "\n"
