"""The logs of tests that passed on a cluster, as ``memtype evidence --test`` fetches them from a real one."""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from memtype_support.dask_cluster import DaskCluster, dask_cluster, run_tests

from pytest_memtype.cli import main
from pytest_memtype.cluster import fetch
from pytest_memtype.cluster.journal import KEPT
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.run.folder import test_folder as folder_of
from pytest_memtype.run.kept_logs import FOLDER

OWN = """
import pytest
from pytest_memtype import MemType

pytestmark = pytest.mark.hardware(memory="96M")


def test_maps(guest):
    guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC)


def test_has_no_guest(): pass
"""

SHARED = """
import pytest
from pytest_memtype import MemType

pytestmark = [pytest.mark.hardware(memory="96M"), pytest.mark.shared_guest]


@pytest.mark.parametrize("memtype", [MemType.WC, MemType.UC_MINUS])
def test_shares(guest, memtype):
    guest.driver("drm").ioremap(guest.mmio(pages=1), memtype)
"""


TWO_TASKS = """
import pytest
from pytest_memtype import MemType

pytestmark = [pytest.mark.hardware(memory="96M"), pytest.mark.shared_guest]


def test_one_of_two(guest, memtype_kernel_version):
    guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC)
    assert not memtype_kernel_version.startswith("5.10")
"""


@dataclass
class Ran:
    """A run on a cluster of one worker, all of whose tests have passed.

    :param cluster: The cluster.
    :param run: The run's folder.
    """

    cluster: DaskCluster
    run: Path

    def test(self, name: str) -> str:
        """The node id of a test whose logs were kept."""
        return self.note(name)["test"]

    def note(self, name: str) -> dict[str, str]:
        notes = map(json.loads, (self.run / KEPT).read_text().splitlines())
        return next(each for each in notes if f"::{name}[" in each["test"])

    def kept(self, name: str) -> Path:
        """The file in which the worker keeps the logs of a test."""
        note = self.note(name)
        return cache_directory() / FOLDER / note["run"] / note["name"]

    def fetch(self, test: str, *options: str) -> Result:
        return CliRunner().invoke(main, ["evidence", str(self.run), "--test", test, *options])


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    place = tmp_path_factory.mktemp("fetch")
    tests = place / "tests"
    tests.mkdir()
    (tests / "pytest.ini").write_text("[pytest]\n")
    (tests / "test_own.py").write_text(OWN)
    (tests / "test_shared.py").write_text(SHARED)
    with dask_cluster(place, ["one"]) as cluster:
        done = run_tests(tests, f"--scheduler={cluster.file}", seconds=900)
        assert "4 passed" in done.stdout, done.stdout + done.stderr
        found = Ran(cluster, (tests / ".memtype/latest").resolve())
        yield found
    shutil.rmtree(found.kept("test_maps").parent, ignore_errors=True)


@pytest.fixture
def ran(first: Ran, tmp_path: Path) -> Iterator[Ran]:
    """The run as it has ended, for each test anew, and what the worker keeps."""
    run = shutil.copytree(first.run, tmp_path / first.run.name)
    folder = first.kept("test_maps").parent
    contents = {file: file.read_bytes() for file in folder.iterdir()}
    yield Ran(first.cluster, run)
    folder.mkdir(mode=0o700, exist_ok=True)
    for file, content in contents.items():
        file.write_bytes(content)
        file.chmod(0o600)


def _logs(content: bytes) -> dict[str, bytes]:
    lines = map(json.loads, content.splitlines())
    return {each["log"]: zlib.decompress(base64.b64decode(each["data"])) for each in lines}


def _line(name: str, content: bytes) -> bytes:
    return json.dumps({"log": name, "data": base64.b64encode(zlib.compress(content)).decode()}).encode()


def _below(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def _trouble(done: Result, status: int) -> str:
    assert done.exit_code == status, done.output
    (line,) = (each for each in done.stderr.splitlines() if each.startswith("memtype: "))
    assert done.stdout == ""
    return line


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["test_maps", "test_shares"])
def test_what_the_worker_has_kept_comes_into_the_runs_folder(ran: Ran, name: str) -> None:
    before = _below(ran.run)
    kept = _logs(ran.kept(name).read_bytes())
    done = ran.fetch(ran.test(name), "--json")
    assert done.exit_code == 0, done.output
    assert _below(ran.run) == before | kept
    (folder,) = {path.partition("/")[0] for path in kept}
    assert json.loads(done.stdout) == {
        "test": ran.test(name),
        "folder": str(ran.run / folder),
        "logs": len(kept),
    }
    # As --keep-logs would have brought it back: the console, and what was said to the agent.
    assert any(path.endswith("guest-1/console.log") for path in kept)
    assert any(b"Linux version" in content for content in kept.values())


def test_tests_that_share_a_guest_have_its_logs(ran: Ran) -> None:
    notes = [json.loads(line) for line in (ran.run / KEPT).read_text().splitlines()]
    shares = [each for each in notes if "test_shares" in each["test"]]
    assert len(shares) == 2
    assert len({each["name"] for each in shares}) == 1
    assert len(notes) == 3


def test_it_is_kept_for_its_user_alone(ran: Ran) -> None:
    file = ran.kept("test_maps")
    assert file.stat().st_mode & 0o777 == 0o600
    for folder in (file.parent, file.parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_what_is_there_is_not_fetched_again(ran: Ran) -> None:
    test = ran.test("test_maps")
    folder = folder_of(ran.run, test)
    (folder / "guest-1").mkdir(parents=True)
    (folder / "guest-1" / "console.log").write_text("of a test that failed")
    done = ran.fetch(test, "--tar", str(ran.run.parent / "evidence.tar"))
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == f"{folder}: 1 files, 0.0 MiB"
    assert (ran.run.parent / "evidence.tar").is_file()


@pytest.mark.timeout(600)
def test_a_worker_that_was_started_anew_still_has_it(ran: Ran) -> None:
    ran.cluster.stop("one")
    ran.cluster.left("one")
    ran.cluster.worker("one")
    ran.cluster.joined()
    done = ran.fetch(ran.test("test_maps"))
    assert done.exit_code == 0, done.output
    assert _logs(ran.kept("test_maps").read_bytes()).items() <= _below(ran.run).items()


@pytest.mark.timeout(600)
def test_a_worker_that_is_gone_is_named(ran: Ran, tmp_path: Path) -> None:
    place = tmp_path / "without-workers"
    place.mkdir()
    with dask_cluster(place, []) as cluster:
        said = _trouble(ran.fetch(ran.test("test_maps"), "--scheduler", str(cluster.file)), 3)
    assert f"it ran on worker {ran.note('test_maps')['worker']}, and {cluster.file} has no worker" in said


@pytest.mark.timeout(600)
def test_what_was_removed_there_is_said_to_be(ran: Ran) -> None:
    CliRunner().invoke(main, ["cache", "remove", ran.run.name])
    assert not ran.kept("test_maps").exists()
    said = _trouble(ran.fetch(ran.test("test_maps")), 3)
    assert "has its logs no more, as a machine keeps the newest 256 MiB" in said


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (_line("../../evil/console.log", b"x"), "a log is named '../../evil/console.log'"),
        (_line("another-test-0123/guest-1/console.log", b"x"), "it isn't what was kept when the test ended"),
        (b"\x80\x04cos\nsystem\n.", "it isn't JSON"),
        (b"", "it isn't what was kept when the test ended"),
    ],
)
def test_a_hostile_answer_is_refused_and_nothing_is_written(ran: Ran, answer: bytes, why: str) -> None:
    before = _below(ran.run.parent)
    ran.kept("test_maps").write_bytes(answer)
    said = _trouble(ran.fetch(ran.test("test_maps")), 3)
    assert f"was refused: {why}" in said
    assert _below(ran.run.parent) == before


@pytest.mark.timeout(600)
def test_a_worker_that_does_not_answer_is_waited_for_within_bounds(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_SECONDS", 3.0)
    before = _below(ran.run)
    with ran.cluster.frozen("one"):
        said = _trouble(ran.fetch(ran.test("test_maps")), 3)
    assert f"{ran.test('test_maps')}: no answer from 127.0.0.1 in 3 s, whose workers are busy" in said
    assert _below(ran.run) == before


@pytest.mark.timeout(600)
def test_a_busy_worker_does_not_hide_what_another_says(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_SECONDS", 10.0)
    ran.cluster.worker("two")
    try:
        ran.cluster.joined()
        ran.kept("test_maps").write_bytes(b"")
        with ran.cluster.frozen("one"):
            said = _trouble(ran.fetch(ran.test("test_maps")), 3)
    finally:
        ran.cluster.stop("two")
    assert "was refused: it isn't what was kept when the test ended" in said


def test_a_test_that_has_none_is_told_from_one_that_is_not_there(ran: Ran) -> None:
    said = _trouble(ran.fetch("test_own.py::test_has_no_guest"), 2)
    assert "test_own.py::test_has_no_guest: it has left no logs on a worker" in said
    test = ran.test("test_maps")
    said = _trouble(ran.fetch(test.replace("maps", "map")), 2)
    assert f"no such test has ended in {ran.run.name}; did you mean {test!r}" in said


@pytest.mark.timeout(1800)
def test_of_a_local_cluster_this_machine_has_it(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_own.py").write_text(OWN)
    done = run_tests(tmp_path, "--scheduler", "local", seconds=900)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    # It doesn't matter that its scheduler is gone.
    ran = Ran(DaskCluster(tmp_path), (tmp_path / ".memtype/latest").resolve())
    fetched = ran.fetch(ran.test("test_maps"))
    assert fetched.exit_code == 0, fetched.output
    assert _logs(ran.kept("test_maps").read_bytes()).items() <= _below(ran.run).items()
    shutil.rmtree(ran.kept("test_maps").parent)


def test_tests_of_one_module_in_two_tasks_have_logs_of_their_own(tmp_path: Path) -> None:
    """Each task has a guest that its tests share: nobody's replace those of the test that failed."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_two.py").write_text(TWO_TASKS)
    place = tmp_path / "cluster"
    place.mkdir()
    with dask_cluster(place, ["one"]) as cluster:
        kernels = ("--kernel", "debian:bullseye", "--kernel", "debian:bookworm")
        done = run_tests(tmp_path, f"--scheduler={cluster.file}", *kernels, seconds=900)
        assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
        ran = Ran(cluster, (tmp_path / ".memtype/latest").resolve())
        before = _below(ran.run)
        fetched = ran.fetch(ran.test("test_one_of_two"))
    assert fetched.exit_code == 0, fetched.output
    after = _below(ran.run)
    assert {name: after[name] for name in before} == before
    consoles = [name for name in after if name.endswith("/guest-1/console.log")]
    assert len(consoles) == 2
    assert len({after[name] for name in consoles}) == 2
