"""Bisections whose kernels are tried by a cluster: the answers are those of this machine."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from memtype_support.dask_cluster import DaskCluster, dask_cluster

from pytest_memtype.bisect import search
from pytest_memtype.bisect.attempt import UNKNOWN, Attempt
from pytest_memtype.cli import main
from pytest_memtype.cluster.attempts import ClusterAttempts, attempts_on
from pytest_memtype.errors import HostError
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import resolve
from pytest_memtype.kernels.kept_indexes import every

SERIES = ["debian:bullseye", "debian:bookworm", "debian:trixie"]

# No mirror has it any more.
GONE = "debian:6.1.0-1-cloud-amd64"

# What changes is in a file beside it, as is pytest's setting: both have to be there on the workers.
TEST = """
import pytest
from since import CHANGED

pytestmark = pytest.mark.hardware(memory="96M")


def test_old(guest, request):
    assert request.config.getini("junit_suite_name") == "settings travel"
    assert guest.version < CHANGED
"""

OTHERS = """
import os
from pathlib import Path


def test_skipped(memtype_variant):
    import pytest
    pytest.skip("why not")


def test_kills(memtype_variant):
    os.kill(os.getpid(), 9)


def test_waits(memtype_variant):
    # Nobody writes to it.
    Path({pipe!r}).read_bytes()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "tests"
    (place / "deep").mkdir(parents=True)
    (place / "pytest.ini").write_text("[pytest]\njunit_suite_name = settings travel\n")
    (place / "deep" / "test_old.py").write_text(TEST)
    (place / "deep" / "since.py").write_text("CHANGED = (6, 12)\n")
    (place / "test_others.py").write_text(OTHERS.format(pipe=str(tmp_path / "pipe")))
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def few_kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The mirror has many between these; three have them all in the cache."""
    releases = [resolve(spec).removeprefix("debian:") for spec in SERIES]

    def few(**how: object) -> object:
        return [kernel for kernel in every(**how) if kernel.release in releases]  # type: ignore[arg-type]

    monkeypatch.setattr(search, "every", few)
    return releases


@dataclass
class Result:
    status: int
    out: str
    err: str


@pytest.fixture
def bisect(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """The command in this process, with the output of all that it starts."""

    def run(test: str, *arguments: str) -> Result:
        ends = ["--good", SERIES[0], "--bad", SERIES[-1]]
        try:
            status = main(["bisect", test, *ends, *arguments], standalone_mode=False)
        except click.ClickException as error:
            error.show()
            status = error.exit_code
        return Result(status or 0, *capfd.readouterr())

    return run


@pytest.mark.usefixtures("folder")
def test_the_answer_is_that_of_this_machine(
    cluster: DaskCluster, few_kernels: list[str], bisect: Callable[..., Result]
) -> None:
    test = "deep/test_old.py::test_old"
    here = bisect(test)
    there = bisect(test, "--scheduler", str(cluster.file))
    assert (here.status, there.status) == (0, 0), f"{here}{there}"
    first, *lines = there.out.splitlines()
    # Two workers try two kernels at once.
    assert first.endswith("3 are tried at most, in 2 rounds of 2 at once")
    assert sorted(lines[:3]) == sorted(here.out.splitlines()[1:4])
    result = [line for line in here.out.splitlines()[4:] if not line.startswith("kernels tried")]
    assert [line for line in lines[3:] if not line.startswith("kernels tried")] == result
    assert f"good: linux-image-{few_kernels[1]} " in there.out
    assert f"bad:  linux-image-{few_kernels[2]} " in there.out
    # What pytest said there is shown: each kernel has two tries.
    assert (there.err.count("1 passed in "), there.err.count("1 failed in ")) == (4, 2)


@pytest.fixture
def attempts(cluster: DaskCluster, folder: Path, request: pytest.FixtureRequest) -> Iterator[ClusterAttempts]:
    test = f"{folder}/test_others.py::{request.param}"
    with attempts_on(str(cluster.file), test, insecure=False, progress=silent) as found:
        yield found


@pytest.mark.parametrize("attempts", ["test_skipped"], indirect=True)
def test_a_kernel_that_isnt_there_harms_no_other(attempts: ClusterAttempts) -> None:
    real = resolve("debian:bookworm")
    made = dict(attempts.try_all([GONE, real]))
    assert made[real] == Attempt(UNKNOWN, (UNKNOWN,), "Skipped: why not")
    assert made[GONE].answer == UNKNOWN
    assert "6.1.0-1-cloud-amd64" in made[GONE].reason


@pytest.mark.parametrize("attempts", ["test_kills"], indirect=True)
def test_one_that_kills_its_process_has_no_answer(attempts: ClusterAttempts) -> None:
    ((_, made),) = attempts.try_all([resolve("debian:bookworm")])
    assert made.answer == UNKNOWN
    assert made.reason.startswith("killed 3 workers: its process ended with status -9")


@pytest.mark.parametrize("attempts", ["test_waits"], indirect=True)
def test_those_that_are_not_waited_for_are_stopped(attempts: ClusterAttempts, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with closing(attempts.try_all([resolve("debian:bookworm"), GONE])) as made:
        assert next(made)[0] == GONE
        # Opened as soon as the other one reads it, and then it has nobody who writes.
        writer = os.open(pipe, os.O_WRONLY)
    looks = select.poll()
    looks.register(writer, 0)
    # Nobody reads it any more.
    assert looks.poll(30_000) == [(writer, select.POLLERR)]
    os.close(writer)


def test_a_scheduler_that_dies_ends_it(tmp_path: Path, folder: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    test = f"{folder}/test_others.py::test_waits"
    with (
        # One worker may take up the test that waits before the other.
        dask_cluster(tmp_path, ["one", "two"]) as own,
        attempts_on(str(own.file), test, insecure=False, progress=silent) as attempts,
    ):
        made = attempts.try_all([GONE, resolve("debian:bookworm")])
        assert next(made)[0] == GONE
        own.stop("scheduler")
        with pytest.raises(HostError, match="the connection to the scheduler is lost"):
            next(made)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--insecure-scheduler"], "belongs to a --scheduler"),
        (["--scheduler", "hello"], "name a scheduler file"),
        (["--scheduler", "tcp://192.0.2.7:8786"], "needs tls:// with certificates on both sides"),
        (["--scheduler", "local", "--good", "tree:/linux"], "git bisect tries one commit after the other"),
        (["--scheduler", "local", "--jobs", "0"], "not in the range"),
    ],
)
def test_wrong_usage(folder: Path, arguments: list[str], why: str, bisect: Callable[..., Result]) -> None:
    result = bisect(f"{folder}/test_others.py::test_kills", *arguments)
    assert result.status == 2
    assert why in result.err


def test_no_test(folder: Path, bisect: Callable[..., Result]) -> None:
    result = bisect(f"{folder}/test_none.py::test_a", "--scheduler", "local")
    assert (result.status, result.out) == (2, "")
    assert "no test; name it as pytest does" in result.err


def test_no_worker_that_can(tmp_path: Path, folder: Path, bisect: Callable[..., Result]) -> None:
    with dask_cluster(tmp_path, []) as idle:
        idle.worker("bare", resources="")
        result = bisect(f"{folder}/test_others.py::test_kills", "--scheduler", str(idle.file))
    assert (result.status, result.out) == (3, "")
    assert "it declares no resource qemu" in result.err
    assert result.err.endswith("memtype: no worker of the cluster can run guests\n")
