"""Runs of tests on a real cluster: what comes back is what a run without one gives."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from memtype_support.dask_cluster import DaskCluster, dask_cluster, run_tests

from pytest_memtype.plugin.cluster import ClusterRun
from pytest_memtype.run.folder import KEPT_RUNS
from pytest_memtype.run.options import LOCAL

GUESTS = """
import pytest
from pytest_memtype import MemType

pytestmark = pytest.mark.hardware(memory="96M")


@pytest.mark.parametrize("number", range(4))
def test_maps(guest, number):
    bar = guest.mmio(pages=4)
    guest.driver("drm").ioremap(bar, (MemType.WC, MemType.UC_MINUS)[number % 2])
    guest.driver("fbdev").ioremap(bar, MemType.UC_MINUS)


@pytest.mark.hardware(memory="96M", cpus=2)
def test_fails(guest):
    guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC)
    assert False, "on purpose"
"""

PLAIN = """
import os, signal, sys
import pytest


@pytest.mark.parametrize("number", range(6))
def test_passes(number):
    print("number", number)


def test_fails():
    assert 1 == 2


def test_skipped():
    pytest.skip("why not")


def test_told_by_a_conftest(from_conftest):
    assert from_conftest == 42
"""

CONFTEST = """
import pytest


@pytest.fixture
def from_conftest():
    return 42
"""

TALKATIVE = """
from pytest_memtype.plugin import cluster

cluster._LINE_SECONDS = -1
"""

LITTLE_MEMORY = """
from pytest_memtype.cluster import scheduler

scheduler.available_memory = lambda: 1000 << 20
"""

SUBTESTS = """
def test_has_parts(subtests):
    for number in range(3):
        with subtests.test("part", number=number):
            assert number != 1
"""

KILLS = """
import os


def test_before(): pass


def test_kills():
    os.kill(os.getpid(), 9)


def test_behind(): pass
"""


def _folder(place: Path, **files: str) -> Path:
    place.mkdir(exist_ok=True)
    (place / "pytest.ini").write_text("[pytest]\n")
    for name, text in files.items():
        (place / f"{name}.py").write_text(text)
    return place


def _records(folder: Path) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    for line in (folder / ".memtype/latest/records.jsonl").read_text().splitlines():
        record = json.loads(line)
        found.setdefault(record["test"], []).append(record)
    return found


def test_a_local_cluster_gives_what_xdist_gives(tmp_path: Path) -> None:
    by_xdist = _folder(tmp_path / "xdist", test_guests=GUESTS)
    by_dask = _folder(tmp_path / "dask", test_guests=GUESTS)
    first = run_tests(by_xdist, "-n", "2")
    second = run_tests(by_dask, "--scheduler", "local", "--junitxml", "junit.xml")
    assert (first.returncode, second.returncode) == (1, 1), second.stdout + second.stderr
    assert "1 failed, 4 passed" in first.stdout
    assert "1 failed, 4 passed" in second.stdout
    asked, answered = _records(by_xdist), _records(by_dask)
    assert asked.keys() == answered.keys()
    for test, records in asked.items():
        for one, other in zip(records, answered[test], strict=True):
            assert one.keys() == other.keys()
            for key in ("operation", "verdict", "kernel_answer", "granted", "layout", "qemu", "tested"):
                assert one.get(key) == other.get(key)
    # The logs of the test that failed, and of no other, are where the report says.
    logs = [path for path in (by_dask / ".memtype/latest").resolve().iterdir() if path.is_dir()]
    assert [path.name.startswith("test_guests.py-test_fails") for path in logs] == [True]
    assert f"evidence: {logs[0]}" in second.stdout
    assert (logs[0] / "guest-1/guest.json").is_file()
    assert (logs[0] / "records.jsonl").is_file()
    assert list(logs[0].glob("guest-1/*.log"))
    assert 'tests="5"' in (by_dask / "junit.xml").read_text()


def test_a_local_cluster_runs_tests_where_each_core_has_little_memory(tmp_path: Path) -> None:
    folder = _folder(tmp_path, test_plain="def test_a(): pass\n", conftest=LITTLE_MEMORY)
    done = run_tests(folder, "--scheduler", "local")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "workers: 1 with QEMU" in done.stdout


def test_logs_of_tests_that_pass_come_back_if_asked_for(cluster: DaskCluster, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "tests", test_guests=GUESTS)
    done = run_tests(folder, f"--scheduler={cluster.file}", "--keep-logs", "-k", "maps")
    assert done.returncode == 0, done.stdout + done.stderr
    run = (folder / ".memtype/latest").resolve()
    tests = {path.parent.parent.name for path in run.glob("*/guest-1/*.log")}
    assert len(tests) == 4
    assert all(name.startswith("test_guests.py-test_maps") for name in tests)


def test_reports_of_tests_without_guests_are_as_without_a_cluster(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    folder = _folder(tmp_path / "tests", test_plain=PLAIN, conftest=CONFTEST)
    alone = run_tests(folder, "-n", "0", "-rA", "-p", "no:cacheprovider")
    done = run_tests(folder, f"--scheduler={cluster.file}", "-rA", "-p", "no:cacheprovider")
    assert done.returncode == alone.returncode == 1
    for kind in ("PASSED", "FAILED", "SKIPPED"):
        lines = [sorted(re.findall(f"^{kind}.*$", each.stdout, re.M)) for each in (alone, done)]
        assert lines[0] == lines[1], done.stdout + done.stderr
        assert lines[0]
    assert "assert 1 == 2" in done.stdout
    assert str(folder / "test_plain.py") not in done.stderr
    assert "workers: 2 with QEMU" in done.stdout


def test_subtests_are_as_with_xdist(cluster: DaskCluster, tmp_path: Path) -> None:
    pytest.importorskip("_pytest.subtests", reason="pytest 8 has no subtests fixture")
    folder = _folder(tmp_path / "tests", test_parts=SUBTESTS)
    # pytest 9.2 quotes the values of a report that has travelled once more.
    by_xdist = run_tests(folder, "-n", "1", "-rA", "-p", "no:cacheprovider")
    done = run_tests(folder, f"--scheduler={cluster.file}", "-rA", "-p", "no:cacheprovider")
    assert done.returncode == by_xdist.returncode == 1
    lines = [re.findall("^SUBFAILED.*$", each.stdout, re.M) for each in (by_xdist, done)]
    assert lines[0] == lines[1], done.stdout + done.stderr
    assert len(lines[0]) == 1
    assert "refused" not in done.stdout + done.stderr


def test_tests_may_lie_outside_of_the_root_folder(cluster: DaskCluster, tmp_path: Path) -> None:
    tests = _folder(tmp_path / "tests", test_plain=PLAIN, conftest=CONFTEST)
    start = tmp_path / "start"
    start.mkdir()
    done = run_tests(start, f"--scheduler={cluster.file}", f"--rootdir={start}", str(tests))
    assert done.returncode == 1
    assert "1 failed, 7 passed, 1 skipped" in done.stdout


def test_files_outside_of_the_root_folder_may_have_the_same_name(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    files = [_folder(tmp_path / name, test_same="def test_x(): ...\n") / "test_same.py" for name in "ab"]
    start = tmp_path / "start"
    start.mkdir()
    done = run_tests(
        start,
        f"--scheduler={cluster.file}",
        f"--rootdir={start}",
        "--import-mode=importlib",
        *map(str, files),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_a_test_that_kills_its_process_is_left_out_and_named(cluster: DaskCluster, tmp_path: Path) -> None:
    done = run_tests(_folder(tmp_path / "tests", test_kills=KILLS), f"--scheduler={cluster.file}", "-v")
    assert done.returncode == 1
    assert "1 failed, 2 passed" in done.stdout
    assert "killed 3 workers: its process ended with status -9" in done.stdout


def test_the_first_failure_ends_the_run_if_asked(cluster: DaskCluster, tmp_path: Path) -> None:
    text = "import pytest\n\n\n@pytest.mark.parametrize('n', range(40))\ndef test_fails(n):\n    assert 0\n"
    done = run_tests(_folder(tmp_path / "tests", test_many=text), f"--scheduler={cluster.file}", "-x")
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    assert "stopping after 1 failures" in done.stdout


def test_a_run_that_was_cut_off_goes_on(cluster: DaskCluster, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "tests", test_kills="def test_a(): pass\n\n\ndef test_b(): pass\n")
    address = (f"--scheduler={cluster.file}",)
    assert run_tests(folder, *address).returncode == 0
    journal = (folder / ".memtype/latest/cluster.jsonl").resolve()
    first, _, rest = journal.read_text().partition("\n")
    # The second line was cut off in its middle.
    journal.write_text(f"{first}\n{rest[: len(rest) // 2]}")
    (folder / "test_kills.py").write_text("def test_a(): assert 0\n\n\ndef test_b(): assert 0\n")
    done = run_tests(folder, *address, "--resume", journal.parent.name)
    assert "1 failed, 1 passed" in done.stdout
    journal.write_text("{}\n")
    done = run_tests(folder, *address, "--resume", journal.parent.name)
    assert done.returncode == 2
    assert "name a run of memtype's own" in done.stderr + done.stdout


def test_the_oldest_run_can_be_resumed(cluster: DaskCluster, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "tests", test_plain="def test_a(): pass\n")
    assert run_tests(folder, f"--scheduler={cluster.file}").returncode == 0
    runs = folder / ".memtype/runs"
    (folder / ".memtype/latest").resolve().rename(runs / "20200101-000000-1")
    for second in range(KEPT_RUNS - 1):
        (runs / f"20200102-0000{second:02}-1").mkdir()
    (folder / "test_plain.py").write_text("def test_a(): assert 0\n")
    done = run_tests(folder, f"--scheduler={cluster.file}", "--resume", "20200101-000000-1")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert (runs / "20200101-000000-1/cluster.jsonl").is_file()


def test_progress_counts_the_tests_that_a_resumed_run_had_done(cluster: DaskCluster, tmp_path: Path) -> None:
    plain = "def test_a(): pass\n\n\ndef test_b(): pass\n"
    folder = _folder(tmp_path / "tests", test_plain=plain, conftest=TALKATIVE)
    assert run_tests(folder, f"--scheduler={cluster.file}").returncode == 0
    journal = (folder / ".memtype/latest/cluster.jsonl").resolve()
    journal.write_text(journal.read_text().partition("\n")[0] + "\n")
    done = run_tests(folder, f"--scheduler={cluster.file}", "--resume", journal.parent.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"no kernel: (.*) tests;", done.stdout)[-1] == "2 of 2"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_letters_of_tests_are_printed_again_when_a_run_was_broken_off(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While lines of kernels and workers are drawn, there are none."""
    monkeypatch.setattr(sys, "__stdout__", _Terminal())
    run = ClusterRun(pytestconfig, LOCAL)

    def letter() -> str:
        status: Any = run.pytest_report_teststatus()
        next(status)
        with pytest.raises(StopIteration) as end:
            status.send(("passed", ".", "PASSED"))
        return str(end.value.value[1])

    with contextlib.suppress(KeyboardInterrupt), run._drawing():
        assert letter() == ""
        raise KeyboardInterrupt
    assert letter() == "."


def test_a_worker_that_cant_says_so_and_if_none_can_the_run_ends(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "tests", test_plain="def test_a(): pass\n")
    with dask_cluster(tmp_path, []) as cluster:
        cluster.worker("bare", resources="")
        cluster.worker("root", environment={"MEMTYPE_WORKER_ROOT": ""})
        cluster.worker("without", environment={"PATH": _path_without_qemu(tmp_path)})
        cluster.joined()
        done = run_tests(folder, f"--scheduler={cluster.file}")
    assert done.returncode == 3, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "it declares no resource qemu: start it with --resources 'qemu=1'" in said
    if os.geteuid() == 0:
        assert "it runs as root: run it as another user, or set MEMTYPE_WORKER_ROOT=1" in said
    assert "gets no tests: qemu-system-x86_64 is not on this host" in said
    assert "no worker of the cluster can run guests" in said


def test_a_worker_that_lacks_kvm_gets_no_tests_that_want_it(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "tests", test_plain="def test_a(): pass\n")
    with dask_cluster(tmp_path, ["undeclared"]) as cluster:
        lacks_it = not os.access("/dev/kvm", os.R_OK | os.W_OK)
        if lacks_it:
            cluster.worker("declared", resources="qemu=1 kvm=1")
        cluster.joined()
        done = run_tests(folder, f"--scheduler={cluster.file}", "--accel", "kvm")
    assert done.returncode == 3, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "it declares no resource kvm: start it with --resources 'qemu=1 kvm=1'" in said
    assert lacks_it == ("/dev/kvm can't be opened here, and the run wants --accel kvm" in said)
    assert "no worker of the cluster can run guests" in said


def _path_without_qemu(place: Path) -> str:
    folder = place / "bin"
    folder.mkdir()
    for name in ("sh", "setpriv"):
        (folder / name).symlink_to(
            next(p for p in map(Path, ("/usr/bin", "/bin")) if (p / name).exists()) / name
        )
    return str(folder)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--resume", "x"], "belong to a --scheduler"),
        (["--scheduler", "local", "-n", "2"], "give no -n"),
        (["--scheduler", "local", "--resume", "x"], "no such run"),
        (["--scheduler", "hello"], "name a scheduler file"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, arguments: list[str], why: str) -> None:
    done = run_tests(_folder(tmp_path / "tests"), *arguments)
    assert done.returncode == 4
    assert why in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
