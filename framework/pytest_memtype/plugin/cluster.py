"""The part of the pytest plugin for ``--scheduler``: the tests of this run are run by a Dask cluster.

This process collects the tests, and hands them to :mod:`pytest_memtype.cluster` instead of running them. Each
report that comes back goes through pytest's hooks, as with pytest-xdist: nothing else of a run differs.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest
from rich.live import Live
from rich.table import Table

from pytest_memtype.errors import HostError, MemtypeError, UsageError
from pytest_memtype.host.progress import Remark
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.plugin.config import base_of, progress_of, resumed_run, run_of
from pytest_memtype.plugin.markers import hardware_of, layout_of, shares_guest
from pytest_memtype.plugin.session import variant_of
from pytest_memtype.report.record import case_of
from pytest_memtype.run.blame import Blame, set_blame
from pytest_memtype.run.options import LOCAL
from pytest_memtype.run.variants import Variant
from pytest_memtype.target import QEMU

if TYPE_CHECKING:
    from pytest_memtype.cluster.dispatch import Worker
    from pytest_memtype.cluster.luggage import Piece
    from pytest_memtype.cluster.tasks import Case, Task

_DURATIONS: Final = "memtype/durations"
_DRAWN_SECONDS: Final = 0.5
_LINE_SECONDS: Final = 10.0
"""How often a line of progress is printed where nobody can draw."""

# Besides the guest: pytest, the audit's arrays, and the guest that is started ahead.
_MEMORY_BESIDES: Final = 400 << 20

# Options that have done their work here, or name something that isn't there.
_OWN: Final = """
    kernel guest scheduler insecure_scheduler resume memtype_dir memtype_html target console target_config
    dry_run file_or_dir keyword markexpr deselect maxfail collectonly ignore ignore_glob pyargs plugins
    override_ini numprocesses maxprocesses dist tx px looponfail maxworkerrestart usepdb trace basetemp
    xmlpath rootdir
    inifilename confcutdir lf failedfirst newfirst last_failed_no_failures stepwise stepwise_skip
    stepwise_reset cacheclear cacheshow log_file pastebin help version debug traceconfig setuponly setupshow
    setupplan pythonwarnings random_order_bucket random_order random_order_seed disable_plugin_autoload
"""


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin that gives the tests to a cluster, where the user names one."""
    if hasattr(config, "workerinput"):
        return
    given = config.getoption("--scheduler")
    try:
        if given is None:
            if config.getoption("--resume") or config.getoption("--insecure-scheduler"):
                raise UsageError("--resume and --insecure-scheduler belong to a --scheduler; name one")
            return
        if config.getoption("numprocesses", None):
            raise UsageError("--scheduler: the cluster's workers run the tests; give no -n")
        if config.getoption("--target") != QEMU:
            raise UsageError("--scheduler: its workers run guests in QEMU; a --target needs none")
        if not config.option.collectonly:
            config.pluginmanager.register(ClusterRun(config, given), "memtype-cluster")
    except UsageError as error:
        raise pytest.UsageError(f"memtype: {error.message}") from None


class ClusterRun:
    """The plugin that stands between the tests of this run and a cluster.

    :param config: pytest's configuration.
    :param given: The address of the scheduler, as the user gave it.
    """

    def __init__(self, config: pytest.Config, given: str) -> None:
        try:
            from pytest_memtype.cluster import dispatch, journal, luggage, scheduler, tasks
        except ModuleNotFoundError as error:
            raise UsageError(
                f"--scheduler: {error.name} isn't installed; pip install 'pytest-memtype[cluster]'"
            ) from None
        self._dispatch, self._journal, self._luggage = dispatch, journal, luggage
        self._scheduler, self._tasks = scheduler, tasks
        self._config, self._given = config, given
        self._insecure = bool(config.getoption("--insecure-scheduler"))
        if given != LOCAL:
            scheduler.checked_address(given, insecure=self._insecure)
        self._local = given == LOCAL
        resume = config.getoption("--resume")
        self._earlier: Path | None = self._run_called(resume) if resume else None
        if self._earlier is not None:
            config.stash[resumed_run] = self._earlier
        self._items: dict[str, pytest.Item] = {}
        self._session: pytest.Session | None = None
        self._tests: Any = None
        self._input: dict[str, Any] = {}
        self._sent: dict[str, Piece] = {}
        self._told: set[str] = set()
        self._said: set[str] = set()
        self._counts: dict[str, Counter[str]] = {}
        self._workers: list[Worker] = []
        self._live: Live | None = None
        self._drawn = time.monotonic()
        self._seconds: dict[str, float] = {}
        self._options = {
            name: value
            for name, value in vars(config.option).items()
            if name not in _OWN.split() and _is_simple(value)
        }

    def _run_called(self, name: str) -> Path:
        found = [path for path in (Path(name), base_of(self._config) / "runs" / name) if path.is_dir()]
        if not found:
            raise UsageError(f"--resume {name}: no such run; name a folder below .memtype/runs")
        return found[0].resolve()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the collected tests on the cluster.

        :param session: pytest's session.
        """
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            # As pytest's own loop has it.
            errors = "error" if session.testsfailed == 1 else "errors"
            raise session.Interrupted(f"{session.testsfailed} {errors} during collection")
        self._session = session
        self._items = {item.nodeid: item for item in session.items}
        reporter = session.config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            reporter.showfspath = False
        try:
            self._run()
        except KeyboardInterrupt:
            raise
        except MemtypeError as error:
            advice = f"; what is recorded stays, go on with: {self._command()}" if self._told else ""
            pytest.exit(f"memtype: {error.message}{advice}", returncode=error.exit_status)
        finally:
            self._keep_durations()
        return True

    def _run(self) -> None:
        config = self._config
        run = run_of(config)
        for item in self._items.values():
            # Those that are told from a journal are done, too.
            self._counts.setdefault(_kernel_of(item), Counter())["all"] += 1
        if self._earlier is not None:
            for nodeid, reports in self._journal.noted(self._earlier):
                if nodeid in self._items and nodeid not in self._told:
                    self.done(nodeid, reports)
            self._journal.take_over_logs(run, self._earlier)
        left = [nodeid for nodeid in self._items if nodeid not in self._told]
        if not left:
            return
        self._tests = self._luggage.tests(
            config.rootpath,
            config.inipath,
            [config.invocation_params.dir / each for each in self._named()],
        )
        self._input = _for_plugins(config)
        slots = len(os.sched_getaffinity(0))
        with self._scheduler.connected(
            self._given, insecure=self._insecure, workers=slots, memory=self._memory_of(left)
        ) as client:
            course = self._dispatch.ClusterRun(
                client,
                self,
                accelerator=config.getoption("--accel"),
                package=self._luggage.package(),
                local=self._local,
            )
            try:
                course.prepare()
                with self._drawing():
                    for _ in course.run(self._cases(left)):
                        pass
            finally:
                self._workers = list(course.workers.values())
                course.close()

    def _cases(self, nodeids: Sequence[str]) -> list[Case]:
        known = self._known_durations()
        mean = sum(known.values()) / len(known) if known else self._tasks.UNKNOWN
        cases = []
        for nodeid in nodeids:
            item = self._items[nodeid]
            variant = variant_of(item)
            name = variant.name if variant else ""
            place = together = ""
            if variant is not None:
                place = f"{hardware_of(item)} {layout_of(item)}"
                if shares_guest(item):
                    together = nodeid.partition("::")[0]
            group = item.get_closest_marker("xdist_group")
            if group is not None:
                together = f"group {group.kwargs.get('name') or (group.args or ('',))[0]}"
                place = together
            seconds = known.get(case_of(nodeid, name), mean)
            cases.append(self._tasks.Case(nodeid, name, place, together, seconds))
        return cases

    def _known_durations(self) -> dict[str, float]:
        cache = getattr(self._config, "cache", None)
        found = cache.get(_DURATIONS, {}) if cache is not None else {}
        return {
            str(name): float(value)
            for name, value in (found.items() if isinstance(found, dict) else ())
            if isinstance(value, int | float)
        }

    def _keep_durations(self) -> None:
        cache = getattr(self._config, "cache", None)
        if cache is not None and self._seconds:
            cache.set(_DURATIONS, {**self._known_durations(), **self._seconds})

    def request(self, task: Task) -> tuple[dict[str, Any], list[Piece]]:
        """The request for a task, and what has to travel with it.

        :param task: The task.
        """
        config, first = self._config, self._items[task.nodeids[0]]
        variant = variant_of(first) or Variant("", "")
        exact = variant.exact
        facts: dict[str, str] = {}
        if exact and not exact.startswith("debian:"):
            made = bundle(variant.kernel)
            facts = {"release": made.release, "version": made.version, "key": made.key}
            if exact not in self._sent:
                self._sent[exact] = self._luggage.bundle_folder(made.directory)
        sent = self._sent.get(exact)
        request = {
            "ask": "tests",
            "run": run_of(config).name,
            "kernel": exact,
            "variant": variant.name,
            "tested": variant.tested,
            "system": variant.system,
            "bundle": sent.name if sent else "",
            "facts": facts,
            "tests": self._tests.piece.name,
            "root": self._tests.root,
            "inifile": self._tests.inifile,
            "nodeids": list(task.nodeids),
            "named": self._relative(config.invocation_params.dir / each for each in self._named()),
            "files": self._relative(self._items[each].path for each in task.nodeids),
            "options": self._options,
            "input": self._input,
            "arguments": self._arguments(),
            "offline": bool(config.getoption("--offline")),
            "paths": [str(config.rootpath), str(run_of(config))],
            "memory": self._memory_of(task.nodeids),
        }
        return request, [self._tests.piece, *([sent] if sent else [])]

    def _memory_of(self, nodeids: Iterable[str]) -> int:
        """Bytes of memory that the test takes of these which takes most."""
        memory = max((hardware_of(self._items[each]).memory_bytes for each in nodeids), default=0)
        return 2 * memory + _MEMORY_BESIDES

    def _named(self) -> list[str]:
        """The files and folders of tests that the user named, or that pytest's settings name."""
        return list(dict.fromkeys(each.partition("::")[0] for each in self._config.args))

    def _relative(self, paths: Iterable[Path]) -> list[str]:
        return list(dict.fromkeys(os.path.relpath(path, self._config.rootpath) for path in paths))

    def _arguments(self) -> list[str]:
        option = self._config.option
        plugins = [each for each in option.plugins if "xdist" not in each]
        own = [f"-o={each}" for each in option.override_ini or () if not each.startswith("testpaths=")]
        return [*own, *(part for each in plugins for part in ("-p", each))]

    def lacks(self, task: Task, why: str) -> bool:
        """Have a kernel travel that a worker can't get by itself; whether that is possible.

        :param task: The task that found it.
        :param why: Why the worker can't get it.
        """
        exact = (variant_of(self._items[task.nodeids[0]]) or Variant("", "")).exact
        return self._luggage.send_too(
            exact, self._sent, why, say=self.say, progress=progress_of(self._config)
        )

    def done(self, nodeid: str, reports: list[dict[str, Any]]) -> None:
        """Tell a test's reports, and note them in the run's journal.

        :param nodeid: The test.
        :param reports: Its reports, as pytest serialises them.
        """
        made = []
        try:
            for data in reports:
                # They are changed there.
                copy = {**data, "longrepr": _copied(data.get("longrepr"))}
                # A skip has file, line and reason, as a tuple that JSON doesn't know.
                if isinstance(copy["longrepr"], list):
                    copy["longrepr"] = tuple(copy["longrepr"])
                report = self._config.hook.pytest_report_from_serializable(config=self._config, data=copy)
                if not isinstance(report, pytest.TestReport):
                    # A worker's pytest may have subtests where this one has none.
                    raise TypeError("pytest here doesn't know a report's type")
                made.append(report)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.failed(nodeid, f"its reports make no sense ({type(error).__name__}: {error})", host=True)
            return
        self._journal.note(run_of(self._config), nodeid, reports)
        self._seconds[case_of(nodeid, _kernel_of(self._items[nodeid]))] = round(
            sum(report.duration for report in made), 3
        )
        self._tell(nodeid, made)

    def failed(self, nodeid: str, why: str, *, host: bool) -> None:
        """Tell a test that no worker could run to its end.

        :param nodeid: The test.
        :param why: Why, in one line.
        :param host: Whether no test is to blame.
        """
        item = self._items[nodeid]
        report = pytest.TestReport(nodeid, item.location, {}, "failed", f"memtype: {why}", "call")
        set_blame(report, Blame.HOST if host else Blame.TEST)
        self._tell(nodeid, [report])

    def _tell(self, nodeid: str, reports: Sequence[pytest.TestReport]) -> None:
        self._told.add(nodeid)
        item, hook = self._items[nodeid], self._config.hook
        count = self._counts[_kernel_of(item)]
        count["done"] += 1
        count["failed"] += any(report.failed for report in reports)
        hook.pytest_runtest_logstart(nodeid=nodeid, location=item.location)
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=nodeid, location=item.location)
        assert self._session is not None
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)

    def logs(self, logs: dict[PurePosixPath, bytes]) -> None:
        """Write the logs of failed tests into the run's folder.

        :param logs: Their contents, by their path below it.
        """
        from pytest_memtype.cluster.answer import write_logs

        try:
            write_logs(run_of(self._config), logs)
        except OSError as error:
            raise HostError(f"{run_of(self._config)}: a log can't be written ({error.strerror})") from None

    def kept(self, nodeid: str, worker: str, name: str) -> None:
        """Note in the run's folder which worker keeps the logs of a test that passed.

        :param nodeid: The test.
        :param worker: The worker's address.
        :param name: The name under which it keeps them.
        """
        run = run_of(self._config)
        # From whatever folder they are asked for.
        named = self._given == LOCAL or "://" in self._given
        scheduler = self._given if named else str(Path(self._given).resolve())
        self._journal.note_kept(run, self._journal.Kept(nodeid, run.name, name, worker, scheduler))

    def say(self, line: str) -> None:
        """Tell the user a line, once.

        :param line: The line.
        """
        if line not in self._said:
            self._said.add(line)
            progress_of(self._config)(Remark(line))

    def progress(self, workers: Sequence[Worker]) -> None:
        """Draw a line for each kernel and each worker; where nobody can draw, print one now and then.

        :param workers: The workers.
        """
        if self._live is not None:
            # There may be a thousand workers, and dozens of answers in a second.
            if time.monotonic() - self._drawn > _DRAWN_SECONDS:
                self._drawn = time.monotonic()
                self._live.update(self._picture(workers))
        elif time.monotonic() - self._drawn > _LINE_SECONDS:
            self._drawn = time.monotonic()
            able = sum(worker.facts is not None for worker in workers)
            done = "; ".join(
                f"{name or 'no kernel'}: {_words(count)}" for name, count in self._counts.items()
            )
            progress_of(self._config)(f"{done}; {able} workers")

    def _picture(self, workers: Sequence[Worker]) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, count in self._counts.items():
            table.add_row(name or "no kernel", _words(count))
        for worker in workers:
            table.add_row(worker.name, "no tests" if worker.facts is None else f"QEMU {worker.facts['qemu']}")
        return table

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        capture = self._config.pluginmanager.getplugin("capturemanager")
        if not sys.__stdout__ or not sys.__stdout__.isatty() or capture is None:
            yield
            return
        try:
            with (
                capture.global_and_fixture_disabled(),
                Live(transient=True, refresh_per_second=2) as self._live,
            ):
                yield
        finally:
            self._live = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(self) -> Iterator[Any]:
        """Print no letter for a test while the lines of kernels and workers are drawn."""
        status = yield
        if self._live is not None and status is not None:
            return status[0], "", ""
        return status

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what ran the tests."""
        kinds = Counter(worker.facts["qemu"] for worker in self._workers if worker.facts)
        found = ", ".join(f"{count} with QEMU {qemu}" for qemu, count in sorted(kinds.items()))
        terminalreporter.write_line(f"workers: {found or 'none'} (scheduler {self._given})")
        if self._insecure and not self._scheduler.is_secure(self._given):
            terminalreporter.write_line(
                "--insecure-scheduler: anybody who reaches the scheduler could change these results"
            )

    def _command(self) -> str:
        program = Path(sys.argv[0]).name
        before = [*(["python", "-m", "pytest"] if program == "__main__.py" else [program]), *sys.argv[1:]]
        if "--resume" in before:
            at = before.index("--resume")
            del before[at : at + 2]
        return shlex.join([*before, "--resume", str(run_of(self._config))])


def _for_plugins(config: pytest.Config) -> dict[str, Any]:
    """Facts that other plugins tell a worker of pytest-xdist, such as the seed of a random order."""
    node = SimpleNamespace(config=config, workerinput={})
    # Not all of xdist's nodes' attributes are there.
    with contextlib.suppress(AttributeError):
        config.hook.pytest_configure_node(node=node)
    return {name: value for name, value in node.workerinput.items() if _is_simple(value)}


def _kernel_of(item: pytest.Item) -> str:
    """The name of the kernel in a test's guest; empty for a test without a guest."""
    return (variant_of(item) or Variant("", "")).name


def _words(count: Counter[str]) -> str:
    failed = f", {count['failed']} failed" if count["failed"] else ""
    return f"{count['done']} of {count['all']} tests{failed}"


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _is_simple(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_simple, value))
    return value is None or isinstance(value, str | int | float | bool)
