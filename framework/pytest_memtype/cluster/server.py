"""The process that runs tests on a worker: it imports everything once, and forks for each request.

Starting pytest with all that the plugin needs takes 2 s of a core, a fork 20 ms. Requests are lines of JSON
on the standard input; answers are lines of JSON on the descriptor that the argument names, the last one
``END``.
It ends when nothing was asked for half a minute, as nobody tells it that a run is over.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import select
import shutil
import signal
import sys
import traceback
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import pytest

from pytest_memtype.bisect.attempt import attempt, find_test
from pytest_memtype.cluster.answer import LARGEST_LOG, LARGEST_LOGS, log_size
from pytest_memtype.cluster.preflight import preflight
from pytest_memtype.errors import MemtypeError
from pytest_memtype.host.private_folder import temporary_folder
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.bundle import bundle, bundle_in, use_bundle
from pytest_memtype.kernels.carry import import_kernels
from pytest_memtype.run import kept_logs
from pytest_memtype.run.folder import cluster_worker, module_of, shared_guests_folder, test_folder

_IDLE_SECONDS: Final = 30.0
_TAIL: Final = 1500
_PR_SET_PDEATHSIG: Final = 1
#: What a failed test's folder has for people; templates stay.
_LOGS: Final = frozenset({".log", ".json", ".jsonl", ".sh", ".txt"})


class Answers:
    """The lines that go back, each written when it is known: what was done outlives a crash.

    :param descriptor: Where they go.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        #: Paths here, and those that people know them by.
        self.paths: list[tuple[str, str]] = []

    def say(self, **content: Any) -> None:
        """Write a line of JSON to the worker."""
        text = json.dumps(content, allow_nan=False)
        for here, there in self.paths:
            text = text.replace(json.dumps(here)[1:-1], json.dumps(there)[1:-1])
        data = text.encode() + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]


def main() -> None:
    """Serve requests until none has come for a while."""
    answers = int(sys.argv[1])
    for name in ("plugin.hooks", "plugin.bugs", "plugin.fixtures", "guest.audited", "run.session"):
        importlib.import_module(f"pytest_memtype.{name}")
    if importlib.util.find_spec("_hypothesis_pytestplugin") is not None:
        # At the end of each session hypothesis' plugin imports this, which takes half a second (6.170).
        with contextlib.suppress(ImportError):
            importlib.import_module("hypothesis.internal.observability")
    # pytest collects garbage twice at the end of a session (9.2, unraisableexception.py). What is here
    # already is none, and needn't be looked through, nor copied for that, in each fork.
    gc.collect()
    gc.freeze()
    buffer = b""
    while select.select([0], [], [], _IDLE_SECONDS)[0]:
        data = os.read(0, 1 << 20)
        if not data:
            return
        *requests, buffer = (buffer + data).split(b"\n")
        for request in requests:
            _serve(json.loads(request), answers)


def _serve(request: dict[str, Any], answers: int) -> None:
    os.lseek(1, 0, os.SEEK_SET)
    os.ftruncate(1, 0)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        status = 1
        try:
            if os.getppid() == parent:
                _carry_out(request, Answers(answers))
                status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        # Whoever started this process says how it ended, with what was printed.
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            os.kill(os.getpid(), -code)
        sys.exit(code)
    os.write(answers, b"\nEND\n")


def _carry_out(request: dict[str, Any], answers: Answers) -> None:
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    if request["ask"] == "preflight":
        try:
            answers.say(able=preflight(request["accelerator"], root_is_fine=request["root"]))
        except MemtypeError as error:
            answers.say(unable=error.message)
        return
    if request["offline"]:
        mirror.stay_offline()
    try:
        kernel = _kernel(request)
    except MemtypeError as error:
        answers.say(lacks=request["kernel"], why=error.message)
        return
    root = Path(request["unpacked"][request["tests"]]) / request["root"]
    # It has no file of its own where all tests are elsewhere.
    root.mkdir(parents=True, exist_ok=True)
    os.chdir(root)
    with temporary_folder("task") as folder:
        carry_out = _try_test if request["ask"] == "attempt" else _run_tests
        carry_out(request, answers, folder, root, kernel)


def _try_test(request: dict[str, Any], answers: Answers, folder: Path, root: Path, kernel: str) -> None:
    """Make an attempt of a bisection."""
    answers.paths = list(zip((str(root),), request["paths"], strict=True))
    answers.say(start=request["kernel"])
    # With "=": pytest looks for its settings above each argument that is a path.
    arguments = [f"--basetemp={folder / 'tmp'}", f"--memtype-dir={folder}", *_plugin()]
    made = attempt(kernel, find_test(request["test"]), arguments)
    answers.say(attempt=asdict(made), kernel=request["kernel"], output=_said(LARGEST_LOG))


def _run_tests(request: dict[str, Any], answers: Answers, folder: Path, root: Path, kernel: str) -> None:
    run = folder / "runs" / request["run"]
    answers.paths = list(zip((str(root), str(run)), request["paths"], strict=True))
    task = _Task(request, answers, run, kernel)
    arguments = [
        *("--rootdir", str(root), "-n", "0", "-p", "no:cacheprovider"),
        *(["-c", str(root / request["inifile"])] if request["inifile"] else []),
        *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"),
        *("--basetemp", str(folder / "tmp"), "--memtype-dir", str(folder)),
        *request["arguments"],
        # As the client was told: of tests outside of the root folder ids begin where pytest was told to look.
        *(each for each in request["named"] if Path(each).is_dir() or each in request["files"]),
    ]
    arguments += _plugin()
    # conftest.py asks for it.
    os.environ["PYTEST_XDIST_WORKER"] = cluster_worker(request["nodeids"])
    status = pytest.main(arguments, plugins=[task])
    task.end(int(status))


def _plugin() -> list[str]:
    """The arguments for pytest by which it finds the plugin, where nobody has installed it."""
    installed = any(each.name == "memtype" for each in entry_points(group="pytest11"))
    return [] if installed else ["-p", "pytest_memtype.plugin"]


def _kernel(request: dict[str, Any]) -> str:
    """The kernel's spec on this machine; what the client sent of it is put where it is looked for."""
    spec: str = request["kernel"]
    sent = request["unpacked"].get(request["bundle"])
    if not spec:
        return "none"
    if sent and request["facts"]:
        folder = Path(sent)
        use_bundle(spec, bundle_in(folder, spec=spec, kit=folder, **request["facts"]))
    elif sent:
        import_kernels(Path(sent) / "kernels.tar.gz", progress=silent)
    bundle(spec)
    return spec


class _Task:
    """The plugin of a pytest that runs the tests of one request: to the rest of the plugin a worker of xdist.

    :param request: The request.
    :param answers: Where reports go.
    :param run: The folder of the run's logs here.
    :param kernel: The spec of the kernel here.
    """

    def __init__(self, request: dict[str, Any], answers: Answers, run: Path, kernel: str) -> None:
        self._request, self._answers, self._run, self._kernel = request, answers, run, kernel
        self._worker = cluster_worker(request["nodeids"])
        self._config: pytest.Config | None = None
        self._failed = False
        self._room = self._keeps = LARGEST_LOGS
        self._sent: set[Path] = set()
        self._has_guests: set[str] = set()
        # Of modules with guests that tests share: those that passed; None if one has failed.
        self._shared: dict[str, list[str] | None] = {}
        self._files = {os.path.normpath(Path.cwd() / each) for each in request["files"]}

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        self._config = config
        vars(config.option).update(self._request["options"])
        names = self._request["variant"], self._request["tested"]
        variant = (names[0], self._kernel, self._request["system"], names[1])
        vars(config)["workerinput"] = {
            **self._request["input"],
            "workerid": self._worker,
            "testrunuid": self._request["run"],
            "memtype_base": str(self._run.parent.parent),
            "memtype_name": self._request["run"],
            "memtype_mirror": mirror.state(),
            "memtype_variants": [variant],
            "memtype_alone": True,
            "memtype_keep_logs": True,
        }
        vars(config)["workeroutput"] = {}

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        # The other files' tests are other tasks'.
        other = collection_path.suffix == ".py" and collection_path.name not in ("__init__.py", "conftest.py")
        return True if other and str(collection_path) not in self._files else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Iterator[None]:
        yield
        # These tests, in this order, whatever a plugin did with them here.
        found = {item.nodeid: item for item in items}
        items[:] = [found[nodeid] for nodeid in self._request["nodeids"] if nodeid in found]
        guests = (item.nodeid for item in items if "guest_factory" in getattr(item, "fixturenames", ()))
        self._has_guests.update(guests)
        missing = [nodeid for nodeid in self._request["nodeids"] if nodeid not in found]
        if missing:
            self._answers.say(missing=missing)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._answers.say(uncollected=report.nodeid, why=str(report.longrepr)[-LARGEST_LOG:])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._failed = False
        self._answers.say(start=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        assert self._config is not None
        self._failed = self._failed or report.failed
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        try:
            self._answers.say(report=data)
        except (TypeError, ValueError):
            # A user's plugin has attached something: it doesn't travel.
            plain = {name: value for name, value in data.items() if _is_plain(value)}
            self._answers.say(report=plain)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        folder, module = test_folder(self._run, nodeid), module_of(nodeid)
        if self._failed:
            if nodeid in self._has_guests:
                self._shared[module] = None
            self._send_logs(folder)
        elif self._request["options"].get("keep_logs"):
            # All that is left travels at the end.
            return
        elif folder.is_dir():
            self._keep_logs(folder, [nodeid])
        elif nodeid in self._has_guests:
            tests = self._shared.setdefault(module, [])
            if tests is not None:
                tests.append(nodeid)

    def end(self, status: int) -> None:
        """Say how pytest ended, and send or keep the logs that are left: those of guests that tests share.

        :param status: pytest's exit status.
        """
        for module, passed in self._shared.items():
            if passed:
                self._keep_logs(shared_guests_folder(self._run, module, self._worker), passed)
        if self._keeps < LARGEST_LOGS:
            with contextlib.suppress(OSError, MemtypeError):
                kept_logs.trim(kept_logs.LIMIT)
        if self._run.is_dir():
            self._send_logs(self._run)
        output = getattr(self._config, "workeroutput", {})
        self._answers.say(
            end=status,
            remarks=output.get("memtype_remarks", []),
            trouble=output.get("memtype_trouble"),
            said="" if status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) else _said(_TAIL),
        )

    def _keep_logs(self, folder: Path, passed: list[str]) -> None:
        """Keep the logs of tests that passed on this machine, and say under which name.

        :param folder: The folder of the logs, which is removed.
        :param passed: The tests.
        """
        if any(folder.glob("*/template")):
            # A template that could not be made: its logs travel at the end.
            return
        logs = list(self._logs(folder))
        size = sum(log_size(content) for _, content in logs)
        # All or nothing: whoever asks for them takes what comes for all that there was.
        if logs and size <= self._keeps:
            self._keeps -= size
            lines = [json.dumps(_log_line(name, content)) for name, content in logs]
            # Tests have passed, whether or not there is room.
            with contextlib.suppress(OSError, MemtypeError):
                kept = kept_logs.keep(self._request["run"], "\n".join(lines).encode())
                for nodeid in passed:
                    self._answers.say(kept=nodeid, name=kept)
        shutil.rmtree(folder, ignore_errors=True)

    def _send_logs(self, folder: Path) -> None:
        for name, content in self._logs(folder):
            self._room -= log_size(content)
            if self._room >= 0:
                self._answers.say(**_log_line(name, content))

    def _logs(self, folder: Path) -> Iterator[tuple[str, bytes]]:
        """The logs of a folder, each once: their names below the run's folder, and their ends."""
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            inside = path.relative_to(self._run)
            hidden = any(part.startswith(".") or part == "template" for part in inside.parts)
            if path.suffix not in _LOGS or hidden or path in self._sent or not path.is_file():
                continue
            self._sent.add(path)
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - LARGEST_LOG))
                yield str(inside), file.read(LARGEST_LOG)


def _log_line(name: str, content: bytes) -> dict[str, str]:
    return {"log": name, "data": base64.b64encode(zlib.compress(content)).decode()}


def _said(most: int) -> str:
    """The end of what pytest has printed, so many bytes at most: standard output and error are one file."""
    sys.stdout.flush()
    size = os.fstat(1).st_size
    return os.pread(1, most, max(0, size - most)).decode(errors="replace")


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


if __name__ == "__main__":
    main()
