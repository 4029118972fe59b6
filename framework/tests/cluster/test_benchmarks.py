"""The benchmarks of clusters, which take hours: what they have measured is kept when they are ended."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


class Ended(Exception):
    """In the place of Ctrl-C, or of a machine that is needed."""


def benchmark(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, arguments)])
    with pytest.raises(Ended):
        module.main()


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_each_time_of_a_run_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = benchmark("cluster_runs")
    # That of the run that makes templates is none of the figures.
    times = iter([99.0, 12.0, 13.5])

    def seconds_and_run(*_: object) -> tuple[float, Path]:
        try:
            return next(times), tmp_path
        except StopIteration:
            raise Ended from None

    monkeypatch.setattr(module, "seconds_and_run", seconds_and_run)
    monkeypatch.setattr(module, "memtype", lambda *_, **__: '{"changes": [1, 2], "not_under_all": 0}')
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {0, 1})

    def pinned(*_: object) -> None:
        raise Ended

    monkeypatch.setattr(module, "pinned", pinned)
    (into := tmp_path / "figures").write_text('{"earlier": 1}\n')
    run(module, monkeypatch, "--into", into)
    figures = [{"xdist_s": 12.0}, {"local_s": 13.5}, {"changes": 2.0, "not_under_all": 0.0}]
    assert lines(into) == [{"earlier": 1}, *figures]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == figures


def test_each_size_of_a_cluster_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("cluster")
    monkeypatch.setattr(module, "asdict", vars)

    def measure(load: Any) -> SimpleNamespace:
        if load.workers > 10:
            raise Ended
        return SimpleNamespace(
            seconds=2.0, busy=0.5, scheduler_mib=1, client_mib=1, scheduler_cpu=1, client_cpu=1
        )

    monkeypatch.setattr(module, "measure", measure)
    run(module, monkeypatch, "--workers", "10,100", "--tasks", 100, "--into", tmp_path / "figures")
    (figures,) = lines(tmp_path / "figures")
    assert (figures["10"]["tasks"], figures["10"]["tasks_per_second"]) == (10.0, 5.0)
