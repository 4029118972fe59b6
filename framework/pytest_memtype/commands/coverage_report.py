"""The course of ``memtype coverage``: a run of tests, and what its counters say."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from pytest_memtype.coverage.counters import Counts
from pytest_memtype.coverage.lines import Notes, SourceFile, gcov_program, source_files
from pytest_memtype.coverage.patch import ChangedLine, PatchedLine, changed_lines, patched
from pytest_memtype.coverage.reading import readings
from pytest_memtype.coverage.total import Total, total
from pytest_memtype.coverage.unreachable import reachable, unreachable
from pytest_memtype.errors import HostError, KernelError, UsageError, reason
from pytest_memtype.host.nearest import unknown
from pytest_memtype.host.resources import kernel_sets
from pytest_memtype.kernels.local import LocalKernel, find_local
from pytest_memtype.kernels.requirements import lacking
from pytest_memtype.kernels.spec import BuildSpec, parse
from pytest_memtype.plugin.config import run_of
from pytest_memtype.run.counters import GCOV
from pytest_memtype.run.suite import run_suite

_BOOT = "(the boot of a guest)"
_GCOVR_SECONDS = 600
_PLACE = re.compile(r"(.+):(\d+)")
_NOT_TAKEN = ("--scheduler", "--target", "--guest")
_WIDTH = 160


@dataclass(frozen=True)
class Asked:
    """The questions that the user asks.

    :param kernel: The spec of the kernel.
    :param places: Lines, as ``FILE:LINE``.
    :param patch: The file of a patch; None for none.
    :param html: The folder for a view; None for none.
    :param json: Print JSON?
    """

    kernel: str
    places: tuple[str, ...]
    patch: Path | None
    html: Path | None
    json: bool


class _Folder:
    """A plugin for pytest that keeps the folder of the run."""

    def __init__(self) -> None:
        self.run: Path | None = None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.run = run_of(session.config)


def check(asked: Asked, arguments: Sequence[str], *, run: Path | None) -> None:
    """Check what can be known before any test runs.

    :param asked: What the user wants.
    :param arguments: Arguments for pytest.
    :param run: The run to show; None for a new one.
    :raises UsageError: an option can't be used.
    :raises KernelError: the kernel isn't there, or wasn't built with GCOV and gcc.
    """
    kernel = _kernel(asked.kernel)
    gcov_program(kernel.compiler)
    if run is not None and arguments:
        raise UsageError("coverage: with --from no test is run, so name none")
    for argument in arguments:
        if argument.partition("=")[0] in _NOT_TAKEN:
            raise UsageError(
                f"coverage: {argument}: the counters of minimal guests on this host alone are read"
            )
    for place in asked.places:
        _place(place)
    if asked.patch is not None:
        _changed(asked.patch, kernel)
    if asked.html is not None:
        wanted = asked.html.absolute()
        there = next(each for each in (wanted, *wanted.parents) if os.path.lexists(each))
        if not there.is_dir():
            raise UsageError(f"--html {asked.html}: {there} is no folder; name another")
        if importlib.util.find_spec("gcovr") is None:
            raise UsageError(
                "--html: gcovr draws it, and isn't installed; pip install pytest-memtype[coverage]"
            )


def run_tests(kernel: str, arguments: Sequence[str]) -> tuple[int, Path]:
    """Run tests with their coverage; pytest's output goes to the standard error.

    :param kernel: The spec of the kernel.
    :param arguments: Arguments for pytest.
    :returns: the run's exit status, and its folder.
    """
    folder = _Folder()
    with contextlib.redirect_stdout(sys.stderr):
        status = run_suite(["--kernel", kernel, "--coverage", "-q", *arguments], plugins=[folder])
    if folder.run is None:
        raise HostError("coverage: no test was run")
    return status, folder.run


def report(asked: Asked, run: Path) -> str:
    """Tell what the counters of a run say, as the command prints it.

    :param asked: What the user wants to know.
    :param run: The run's folder.
    :raises UsageError: the run has no counters, or they are of another kernel.
    :raises HostError: gcov or gcovr doesn't do what it should.
    """
    kernel = _kernel(asked.kernel)
    found = total(readings(run))
    with tempfile.TemporaryDirectory(prefix="memtype-coverage-") as folder:
        notes = Notes(Path(folder), found.layout.names, kernel.build)
        gcov = gcov_program(kernel.compiler)
        paths = [notes.put(name, data) for name, data in found.layout.files(found.counts)]
        files = {file.name: file for file in source_files(gcov, notes, paths) if file.lines}
        known = unreachable(kernel_sets() / "coverage" / "unreachable.toml")
        left = reachable(files, known, _source(kernel))
        content: dict[str, Any] = {"kernel": kernel.release, "run": str(run), "files": _rows(files, left)}
        lines = [_table(files, left)]
        lines += _lost(found)
        content["lost"] = [asdict(each) for each in found.lost]
        if asked.patch is not None:
            about = patched(_changed(asked.patch, kernel), files)
            content["diff"] = [{**asdict(each.line), "times": each.times} for each in about]
            lines += ["", *_told_patch(about)]
        if asked.places:
            reached = {place: _reached(place, found, files, notes, gcov) for place in asked.places}
            content["tests"] = reached
            lines += [line for place, tests in reached.items() for line in _told_tests(place, tests)]
        if asked.html is not None:
            page = _draw(asked.html, notes, gcov, _source(kernel))
            content["html"] = str(page)
            lines += ["", f"written: {page}"]
    return json.dumps(content) if asked.json else "\n".join(lines)


def _kernel(spec: str) -> LocalKernel:
    wanted = parse(spec)
    if not isinstance(wanted, BuildSpec):
        raise UsageError(f"coverage: kernel {spec!r}: the counters are of a tree; use tree:PATH")
    kernel = find_local(wanted)
    if lacking((GCOV,), kernel.config):
        raise KernelError(
            f"kernel {spec!r}: it was built without CONFIG_{GCOV}=y, so it counts nothing; docs/kernels.md "
            "tells how to build one that does"
        )
    return kernel


def _source(kernel: LocalKernel) -> Path:
    # make O=BUILD leaves a link to the source there.
    link = kernel.build / "source"
    return (link if link.is_dir() else kernel.build).resolve()


def _changed(patch: Path, kernel: LocalKernel) -> list[ChangedLine]:
    try:
        text = patch.read_text(errors="replace")
    except OSError as error:
        raise UsageError(f"--diff: {reason(error)}") from None
    return changed_lines(text, _source(kernel))


def _place(text: str) -> tuple[str, int]:
    match = _PLACE.fullmatch(text)
    if match is None:
        raise UsageError(f"--tests {text}: write FILE:LINE, such as arch/x86/mm/pat/memtype.c:586")
    return match[1], int(match[2])


def _reached(
    place: str, found: Total, files: dict[str, SourceFile], notes: Notes, gcov: str
) -> dict[str, int]:
    """How often each test ran a line, for those that ran it, in the order of the run."""
    name, number = _place(place)
    if name not in files:
        raise UsageError(f"--tests {place}: {name} isn't profiled{unknown(name, list(files))}")
    if number not in files[name].lines:
        raise UsageError(f"--tests {place}: the line has no code")
    unit = next(each for each, path in notes.units.items() if f"{path}.c" == name)
    tests, paths = [], []
    for order, (test, counts) in enumerate(found.of_each()):
        tests.append(test)
        paths.append(notes.put(unit, _file(found, counts, unit), copy=f"@{order}"))
    reached = zip(tests, source_files(gcov, notes, paths), strict=True)
    # What the boot of a template has run, each of its clones had run before its test.
    return {test or _BOOT: file.lines[number] for test, file in reached if file.lines.get(number, 0) > 0}


def _file(found: Total, counts: Counts, unit: str) -> bytes:
    return next(data for name, data in found.layout.files(counts) if name == unit)


def _rows(files: dict[str, SourceFile], left: dict[str, SourceFile]) -> list[dict[str, Any]]:
    return [
        {
            "file": name,
            "lines": file.lines_run,
            "branches": file.branches_taken,
            "functions": file.functions_called,
            "reachable": {
                "lines": left[name].lines_run,
                "branches": left[name].branches_taken,
                "functions": left[name].functions_called,
                "not_run": _not_run(left[name]),
                "not_taken": _not_taken(left[name]),
            },
            "not_run": _not_run(file),
        }
        for name, file in sorted(files.items())
    ]


def _not_run(file: SourceFile) -> list[int]:
    return [number for number, times in sorted(file.lines.items()) if times <= 0]


def _not_taken(file: SourceFile) -> dict[int, list[int]]:
    """The branches never taken of each line that was run, by their places among the line's, from 0."""
    missed = {
        number: [place for place, times in enumerate(ways) if times <= 0]
        for number, ways in sorted(file.branches.items())
        if file.lines[number] > 0
    }
    return {number: places for number, places in missed.items() if places}


def _table(files: dict[str, SourceFile], left: dict[str, SourceFile]) -> str:
    table = Table(box=None, header_style="bold")
    table.add_column("file", no_wrap=True)
    for column in ("lines", "branches", "functions", "reachable: lines", "branches", "functions"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, file in sorted(files.items()):
        table.add_row(name, *_figures(file), *_figures(left[name]))
    console = Console(width=_WIDTH, file=None)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _figures(file: SourceFile) -> tuple[str, str, str]:
    called, functions = file.functions_called
    return _share(file.lines_run), _share(file.branches_taken), f"{called} of {functions}"


def _share(of: tuple[int, int]) -> str:
    some, all_of_them = of
    return f"{100 * some / all_of_them:.1f} % of {all_of_them}" if all_of_them else "-"


def _lost(found: Total) -> Iterator[str]:
    if found.lost:
        yield ""
        yield f"the counters of {len(found.lost)} guests are lost:"
        yield from (f"  {each.test or 'a template'}: {each.reason}" for each in found.lost)


def _told_patch(about: Sequence[PatchedLine]) -> Iterator[str]:
    names = dict.fromkeys(each.line.file for each in about)
    if not names:
        yield "the patch changes no line of C code"
    for name in names:
        own = [each for each in about if each.line.file == name]
        if not own[0].profiled:
            yield f"{name}: changed lines: {len(own)}; the file isn't profiled"
            continue
        code = [each for each in own if each.times is not None]
        run = [each for each in code if each.times and each.times > 0]
        yield f"{name}: changed lines: {len(own)}, with code: {len(code)}, run: {len(run)}"
        yield from (
            f"  {each.line.number:5} {f'run {each.times} times' if each in run else 'not run':>16}  "
            f"{each.line.text.expandtabs(8)}"
            for each in code
        )


def _told_tests(place: str, tests: dict[str, int]) -> Iterator[str]:
    yield ""
    yield f"{place}: reached by {len(tests)}"
    yield from (f"  {test}: {times} times" for test, times in tests.items())


def _draw(folder: Path, notes: Notes, gcov: str, source: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    page = folder.absolute() / "index.html"
    command = [sys.executable, "-m", "gcovr", "--root", str(source), "--object-directory", str(source)]
    # See lines.py about negative ones.
    command += ["--gcov-ignore-parse-errors", "negative_hits.warn"]
    command += ["--gcov-executable", gcov, "--html-details", str(page), str(notes.place)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=notes.build, timeout=_GCOVR_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"--html: gcovr was not done in {_GCOVR_SECONDS} s") from None
    if done.returncode:
        raise HostError(f"--html: gcovr: {(done.stderr.splitlines() or ['no message'])[-1]}")
    return page
