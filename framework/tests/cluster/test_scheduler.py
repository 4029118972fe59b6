"""The client against a real cluster whose tasks mean ill, and the addresses that it takes."""

from __future__ import annotations

import os
import pickle
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError
from urllib.request import urlopen

import cloudpickle
import dask
import pytest
from memtype_support.dask_cluster import DaskCluster, dask_cluster, run_tests

from pytest_memtype.cluster import scheduler
from pytest_memtype.cluster.answer import LARGEST, take
from pytest_memtype.cluster.scheduler import ByValue, CarefulClient, checked_address, connected
from pytest_memtype.errors import AnswerLost, AnswerRefused, HostError, UsageError
from pytest_memtype.run.options import LOCAL

# The workers don't have this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class _Evil:
    """When it is unpickled, a file says by whom."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return exec, (f"import os; open({self.place!r} + str(os.getpid()), 'w').close()",)


class _EvilError(Exception):
    def __init__(self, place: str) -> None:
        super().__init__("evil")
        self.place = place

    def __reduce__(self) -> Any:
        code = f"import os; open({self.place!r} + str(os.getpid()), 'w').close()"
        return eval, (f"exec({code!r}) or __import__('builtins').ValueError('evil')",)


def _evil(place: str) -> object:
    return _Evil(place)


def _evil_pickle(place: str) -> bytes:
    return pickle.dumps(_Evil(place))


def _evil_in_a_list(place: str) -> object:
    return [b"bytes", {"a": _Evil(place)}]


def _large(_: str) -> bytes:
    return bytes(2 << 30)


def _raises(place: str) -> bytes:
    raise _EvilError(place)


def _array(_: str) -> object:
    # Its serialiser is Dask's own, which pickles the type.
    import numpy

    return numpy.zeros(8)


def _judge(answer: object) -> None:
    if isinstance(answer, AnswerRefused):
        raise answer
    take(answer, ())


@pytest.fixture(scope="module")
def client(cluster: DaskCluster) -> Iterator[CarefulClient]:
    with connected(str(cluster.file), insecure=False, workers=1) as found:
        found.wait_for_workers(1, timeout=60)
        yield found


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (_evil, "no bytes"),
        (_evil_pickle, "isn't compressed"),
        (_evil_in_a_list, "no bytes"),
        (_large, f"2048 MiB; {LARGEST >> 20} are allowed"),
        (_raises, "its task ended with an exception"),
        (_array, "no bytes"),
    ],
)
def test_a_hostile_task_is_refused_and_nothing_of_it_is_run_here(
    client: CarefulClient, tmp_path: Path, task: Any, why: str
) -> None:
    future = client.submit(ByValue(task), f"{tmp_path}/by-", pure=False)
    fine = [client.submit(bytes, bytes([number]), pure=False) for number in range(3)]
    for each in (future, *fine):
        client.sync(each._state.wait)
    # Those that are fetched with it aren't spoiled.
    answers = dict(client.answers([*fine[:2], future, *fine[2:]]))
    assert [answers[each] for each in fine] == [b"\0", b"\1", b"\2"]
    with pytest.raises(AnswerRefused, match=why):
        _judge(answers[future])
    assert not list(tmp_path.glob(f"by-{os.getpid()}"))


def test_results_come_in_bounded_parts(client: CarefulClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the scheduler nor the client holds more than one may have."""
    parts: list[int] = []
    fetch = client._results

    def note(keys: list[Any]) -> Any:
        results = fetch(keys)
        parts.append(sum(len(cast("bytes", each)) for each in results))
        return results

    monkeypatch.setattr(client, "_results", note)
    large = [client.submit(bytes, (LARGEST // 2 - 1000) + number, pure=False) for number in range(3)]
    small = [client.submit(bytes, [number % 256], pure=False) for number in range(150)]
    for each in (*large, *small):
        client.sync(each._state.wait)
    answers = dict(client.answers([*small, *large]))
    assert [answers[each] for each in small] == [bytes([number % 256]) for number in range(150)]
    assert [len(answers[each]) for each in large] == [LARGEST // 2 - 1000 + number for number in range(3)]
    assert len(parts) < 8
    assert max(parts) <= LARGEST


@pytest.mark.timeout(120)
def test_an_answer_that_its_worker_takes_along_is_lost_at_once(tmp_path: Path) -> None:
    """Nobody waits for its being computed anew: here there is no worker left that could."""
    with dask_cluster(tmp_path, ["one"]) as cluster:
        cluster.joined()
        with connected(str(cluster.file), insecure=False, workers=1) as client:
            future = client.submit(bytes, b"answer", pure=False)
            client.sync(future._state.wait)
            cluster.stop("one")
            cluster.left("one")
            # As if the size had come a moment before.
            assert [type(answer) for _, answer in client._gathered([future])] == [AnswerLost]


@pytest.mark.timeout(120)
def test_a_scheduler_that_stands_still_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_TOLD_SECONDS", 1.0)
    monkeypatch.setattr(scheduler, "_GATHER_SECONDS", 1.0)
    with dask_cluster(tmp_path, ["one"]) as cluster:
        cluster.joined()
        with connected(str(cluster.file), insecure=False, workers=1) as client:
            future = client.submit(bytes, b"answer", pure=False)
            client.sync(future._state.wait)
            with cluster.frozen("scheduler"):
                for ask in (
                    client.known_workers,
                    lambda: list(client.answers([future])),
                    lambda: list(client._gathered([future, future])),
                ):
                    with pytest.raises(HostError, match="the scheduler hasn't answered for 1 s"):
                        ask()
            assert dict(client.answers([future])) == {future: b"answer"}


def test_an_answer_whose_task_is_forgotten_is_lost(client: CarefulClient) -> None:
    gone, there = (client.submit(bytes, word, pure=False) for word in (b"gone", b"there"))
    for each in (gone, there):
        client.sync(each._state.wait)
    gone.cancel()
    answers = dict(client.answers([gone, there]))
    assert isinstance(answers[gone], AnswerLost)
    assert answers[there] == b"there"


def _other_interface() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        # Nothing is sent. The address is of a network for documentation (RFC 5737).
        line.connect(("192.0.2.1", 9))
        return str(line.getsockname()[0])


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("tcp://192.0.2.7:8786", "needs tls:// with certificates on both sides"),
        ("tcp://127.0.0.1", "not an address"),
        ("tcp://127.0.0.1:x", "not an address"),
        ("ws://127.0.0.1:8786", "not an address"),
        ("inproc://127.0.0.1:8786", "not an address"),
        ("nothing.json", "No such file or directory; name a scheduler file"),
    ],
)
def test_an_address_that_isnt_taken(address: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        checked_address(address, insecure=False)


def test_addresses_that_are_taken() -> None:
    for address in ("tcp://127.0.0.1:1", "tcp://[::1]:1", "tcp://localhost:1", "tls://192.0.2.7:8786"):
        assert checked_address(address, insecure=False) == address
    assert checked_address("tcp://192.0.2.7:8786", insecure=True) == "tcp://192.0.2.7:8786"


def test_a_file_that_names_another_machine_is_no_way_around(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text('{"address": "tcp://192.0.2.7:8786"}')
    with pytest.raises(UsageError, match="needs tls://"):
        checked_address(str(file), insecure=False)
    file.write_text("[]")
    with pytest.raises(UsageError, match="not a scheduler file"):
        checked_address(str(file), insecure=False)


def test_another_interface_of_this_machine_needs_tls_too(tmp_path: Path) -> None:
    try:
        own = _other_interface()
    except OSError:
        own = "192.0.2.7"
    done = run_tests(tmp_path, "--scheduler", f"tcp://{own}:8786")
    assert done.returncode == 4
    assert "needs tls:// with certificates on both sides" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_certificate_has_to_be_named() -> None:
    with (
        pytest.raises(UsageError, match=r"distributed\.comm\.tls\.ca-file names no certificate"),
        connected("tls://127.0.0.1:1", insecure=False, workers=1),
    ):
        pass


def test_all_workers_are_known_whatever_the_client_looks_at_by_itself() -> None:
    # Each 2 s, else: one look in some thousands found no worker, and the run told that all were gone.
    often = {"distributed.client.scheduler-info-interval": "1ms"}
    with dask.config.set(often), connected(LOCAL, insecure=False, workers=2) as client:
        client.wait_for_workers(2, timeout=60)
        assert {len(client.known_workers()) for _ in range(300)} == {2}


def test_a_local_cluster_leaves_the_cores_to_the_guests() -> None:
    """By default each of its processes looks about fifty times a second, and takes 2 % of a core."""
    with connected(LOCAL, insecure=False, workers=1) as client:
        interval = client.submit(dask.config.get, "distributed.admin.tick.interval", pure=False)
        profiled = client.submit(dask.config.get, "distributed.worker.profile.enabled", pure=False)
        assert (interval.result(timeout=60), profiled.result(timeout=60)) == ("1s", False)


@pytest.mark.filterwarnings("error:Port .* is already in use")
def test_a_local_cluster_shows_its_tasks_to_no_other_user() -> None:
    with connected(LOCAL, insecure=False, workers=1) as client:
        client.wait_for_workers(1, timeout=60)
        info = client.sync(client.scheduler.identity)
        programs = [info, *info["workers"].values()]
        for port in (each["services"]["dashboard"] for each in programs):
            for page in (
                "health",
                "json/identity.json",
                "info/main/workers.html",
                "metrics",
                "individual-plots",
            ):
                with pytest.raises(HTTPError, match="404"):
                    urlopen(f"http://127.0.0.1:{port}/{page}", timeout=30)


@pytest.mark.parametrize(("gibibytes", "count"), [(5, 2), (1, 1), (90, 3)])
def test_a_local_cluster_has_no_more_workers_than_there_is_memory_for(
    gibibytes: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "available_memory", lambda: gibibytes << 30)
    with connected(LOCAL, insecure=False, workers=3, memory=2 << 30) as client:
        client.wait_for_workers(count, timeout=60)
        workers = client.known_workers().values()
        assert [each["resources"]["memory"] for each in workers] == [(gibibytes << 30) // count] * count
