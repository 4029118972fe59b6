"""``memtype compare``, with guests of two kernels and with records of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main
from pytest_memtype.commands import compare_kernels
from pytest_memtype.commands.compare_kernels import compare_runs, show
from pytest_memtype.errors import UsageError
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.machine.qemu_versions import Qemu
from pytest_memtype.report.kept import TESTS, KeptTest, append_line
from pytest_memtype.report.record import SCHEMA, append, read
from pytest_memtype.run import suite
from pytest_memtype.run.variants import Variant

TEST = """
import pytest
from pytest_memtype import MemType

@pytest.mark.hardware(cpu="qemu64,-mtrr")
@pytest.mark.parametrize("number", [1, 2])
def test_it(guest, number):
    guest.process("X").mmap(guest.mmio(pages=1), MemType.WC, via="sysfs")
    guest.process("Y").mmap(guest.mmio(pages=1), MemType.UC_MINUS, via="sysfs")

def test_busy(guest):
    ioapic = guest.process("tool").mmap(guest.region(0xfec00000, 0x1000), MemType.UC_MINUS, via="devmem")
    # EPERM: the kernel itself has it (CONFIG_IO_STRICT_DEVMEM; iomem_is_exclusive()).
    assert ioapic.kernel.errno == 1
"""


def memtype(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pytest_memtype.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.timeout(1200)
def test_two_kernels(tmp_path: Path) -> None:
    """Without MTRRs 5.10 has no PAT, and sysfs no WC; 6.1 has it half, and maps UC- (kernel-rules.md)."""
    # So that the command, which has a time limit here, finds them.
    for name in ("bullseye", "bookworm"):
        bundle(f"debian:{name}", progress=silent)
    (tmp_path / "test_it.py").write_text(TEST)
    kernels = [option for suite in ("bullseye", "bookworm") for option in ("--kernel", f"debian:{suite}")]

    done = memtype(tmp_path, "compare", "--json", *kernels, "-n", "0", "test_it.py")

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["kernels"]) == 2
    (change,) = (each for each in found["changes"] if each["operation"] == "mmap sysfs WC of 1 page")
    assert list(change["answers"].values()) == ["ENOENT", "UC-"]
    assert change["times"] == 2
    assert change["tests"] == ["test_it.py::test_it[1]", "test_it.py::test_it[2]"]
    assert not any("UC- of" in each["operation"] for each in found["changes"])
    # A right answer, of which the model knows nothing: it has no busy resources.
    assert found["unexpected"] == []
    # The same from what the run has left, without running anything.
    again = memtype(tmp_path, "compare", "--markdown", ".memtype/latest")
    assert again.returncode == 0, again.stderr
    assert (
        "| mmap sysfs WC of 1 page | ENOENT | UC- | 2 | ` test_it.py::test_it[1] step 2 ` |" in again.stdout
    )


def record(kernel: str, result: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kernel": kernel,
        "kernel_version": "local",
        "hardware": {"cpu": "qemu64", "memory": "256M", "cmdline": ""},
        "test": f"test_it[{kernel}]",
        "tested": kernel,
        "case": "test_it",
        "guest": 1,
        "step": 1,
        "operation": "fork",
        "actor": "X",
        "arguments": {"name": "Y"},
        "result": result,
    }


def runs(folder: Path, *results: int) -> list[Path]:
    found = []
    for number, result in enumerate(results):
        path = folder / "runs" / f"run-{number}"
        path.mkdir(parents=True)
        append(path / "records.jsonl", [record("tree:/linux", result)])
        found.append(path)
    return found


@pytest.mark.parametrize(("status", "ends"), [(0, 2), (1, 1), (2, 2), (3, 3)])
def test_a_run_without_records_keeps_its_status(
    monkeypatch: pytest.MonkeyPatch, status: int, ends: int
) -> None:
    """A host that can't run guests is no wrong usage."""
    monkeypatch.setattr(compare_kernels, "run_suite", lambda *_, **__: status)
    done = CliRunner().invoke(main, ["compare", "--kernel", "debian:6.1", "--kernel", "debian:6.12"])
    assert done.exit_code == ends
    assert done.stderr == "memtype: compare: 0 kernels or runs have a record; there is nothing to compare\n"


@pytest.mark.parametrize("more", [[], ["--scheduler", "tcp://127.0.0.1:8786"]])
@pytest.mark.parametrize("kernels", [["set:default"], ["debian:bookworm", "debian:6.1"]])
def test_one_kernel_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, kernels: list[str], more: list[str]
) -> None:
    """Whether it is named once, or by two names."""
    exact = "debian:6.1.0-56-cloud-amd64"
    variant = Variant(kernels[0], exact, tested=exact)
    monkeypatch.setattr(suite, "all_variants", lambda *_, **__: [variant])
    qemu = Qemu("qemu", "QEMU 7.2", (7, 2, 0), frozenset(), file_migration=False)
    monkeypatch.setattr(suite, "usable_qemu", lambda **_: qemu)
    monkeypatch.setattr(suite, "ready", lambda _: pytest.fail("a kernel was fetched"))
    named = [word for each in kernels for word in ("--kernel", each)]
    done = CliRunner().invoke(main, ["compare", *named, *more])
    assert done.exit_code == 2
    assert done.stderr == f"memtype: {exact} is the only kernel; name at least 2, each with --kernel\n"


def test_a_kernel_that_answers_otherwise_than_last_time(tmp_path: Path) -> None:
    compared = compare_runs(runs(tmp_path, 0, 12))
    (change,) = compared.changes
    assert change.answers == ("ok", "ENOMEM")
    (surprise,) = compared.surprises
    assert (surprise.expected, surprise.found, surprise.source) == ("ok", "ENOMEM", "run-0")
    assert "not as expected: test_it[tree:/linux], step 1" in show(compared, form="table")
    assert json.loads(show(compared, form="json"))["unexpected"][0]["source"] == "run-0"


@pytest.mark.parametrize("damage", [{"result": {}, "operation": "read", "arguments": 5}, {"requested": "UC"}])
def test_an_earlier_run_that_makes_no_sense_is_passed_over(tmp_path: Path, damage: dict[str, Any]) -> None:
    first, second, third, fourth = runs(tmp_path, 0, 0, 12, 12)
    asked: dict[str, Any] = {"region": {}, "verdict": {}}
    append(second / "records.jsonl", [record("tree:/linux", 0) | {"arguments": {}} | asked | damage])
    compared = compare_runs([third, fourth])
    assert [(each.source, each.expected) for each in compared.surprises] == [(first.name, "ok")]
    assert not compare_runs([fourth, third]).changes


def test_the_same_beginning_doesnt_make_it_the_same_run(tmp_path: Path) -> None:
    """Most tests begin with a process, of which nothing differs from run to run."""
    found = runs(tmp_path, 0, 0)
    for path, result in zip(found, (0, 12), strict=True):
        append(path / "records.jsonl", [record("tree:/linux", result) | {"step": 2}])
    (surprise,) = compare_runs(found).surprises
    assert (surprise.step, surprise.expected, surprise.found, surprise.source) == (2, "ok", "ENOMEM", "run-0")


@pytest.mark.parametrize("place", [".memtype", "elsewhere"])
def test_a_run_that_has_just_ended_is_held_against_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """It is known by its folder, which ``--memtype-dir`` may have put anywhere."""
    monkeypatch.chdir(tmp_path)
    kernels = ("tree:/linux", "tree:/other")
    folders = [tmp_path / place / "runs" / name for name in ("20261201-000000-1", "20261201-000001-1")]
    for folder, result in zip(folders, (0, 12), strict=True):
        folder.mkdir(parents=True)
        for kernel in kernels:
            same = record(kernel, 0)
            append(folder / "records.jsonl", [same, record(kernel, result) | {"step": 2}])

    def run_suite(_: list[str], *, plugins: list[Any], **_others: bool) -> int:
        (collector,) = plugins
        collector.pytest_configure(SimpleNamespace())
        records = read(folders[1] / "records.jsonl")
        report = SimpleNamespace(memtype_records=records, failed=False, nodeid="")
        collector.pytest_runtest_logreport(report)
        return 0

    monkeypatch.setattr(compare_kernels, "run_suite", run_suite)
    monkeypatch.setattr(compare_kernels, "run_of", lambda _: folders[1])
    status, compared = compare_kernels.compare_kernels(kernels, ())
    assert status == 0
    assert [(each.step, each.source) for each in compared.surprises] == [(2, "20261201-000000-1")] * 2


def test_runs_that_are_the_same(tmp_path: Path) -> None:
    compared = compare_runs(runs(tmp_path, 0, 0))
    assert not compared.changes
    assert not compared.surprises
    assert show(compared, form="table").endswith("0 steps differ, in 0 ways\n")


def test_runs_of_the_same_kernels_are_compared_kernel_by_kernel(tmp_path: Path) -> None:
    """What differs between the kernels is the same in both runs, and no change."""
    found = []
    for number, result in enumerate((12, 12, 0)):
        path = tmp_path / "runs" / f"run-{number}"
        path.mkdir(parents=True)
        only = {**record("tree:/new", 0), "test": "test_other[tree:/new]", "case": "test_other"}
        append(path / "records.jsonl", [record("tree:/old", result), record("tree:/new", 0), only])
        found.append(path)
    same = compare_runs(found[:2])
    assert (same.names, same.changes, same.partly) == (("run-0", "run-1"), (), 0)
    (change,) = compare_runs(found[1:]).changes
    assert change.answers == ("ENOMEM", "ok")
    assert change.cases == ["test_it on tree:/old"]
    # Another kernel beside them is a column of its own, as all the others are then.
    append(found[2] / "records.jsonl", [record("tree:/third", 0)])
    assert len(compare_runs(found[1:]).names) == 5


def test_a_record_file_stands_for_its_run(tmp_path: Path) -> None:
    found = runs(tmp_path, 0, 0, 12)
    files = [path / "records.jsonl" for path in found]
    assert compare_runs(files[:2]).names == ("run-0 tree:/linux", "run-1 tree:/linux")
    # The last answered otherwise than the one before it; none before it is held against what came later.
    (surprise,) = compare_runs([files[2], files[0]]).surprises
    assert (surprise.found, surprise.source) == ("ENOMEM", "run-1")
    (tmp_path / "latest").symlink_to(found[2])
    assert compare_runs([tmp_path / "latest" / "records.jsonl", found[1]]).names[0] == "run-2 tree:/linux"


def test_a_record_that_lies_elsewhere_has_no_run_before_it(tmp_path: Path) -> None:
    found = runs(tmp_path, 0, 12)
    mine = tmp_path / "mine.jsonl"
    mine.write_bytes((found[1] / "records.jsonl").read_bytes())
    (tmp_path / "kept").mkdir()
    kept = (found[1] / "records.jsonl").rename(tmp_path / "kept" / "records.jsonl")
    compared = compare_runs([mine, kept, kept.parent])
    assert compared.names == ("mine.jsonl tree:/linux", "kept tree:/linux", "kept tree:/linux (2)")
    assert not compared.surprises


def test_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to compare"):
        compare_runs(runs(tmp_path, 0))
    with pytest.raises(UsageError, match="no run"):
        compare_runs([tmp_path / "nothing"])
    skipped = tmp_path / "runs" / "skipped"
    skipped.mkdir()
    append_line(skipped / TESTS, KeptTest("test_it", status="skipped"))
    with pytest.raises(UsageError, match="skipped: no test of this run did anything in a guest"):
        compare_runs([skipped])
    with pytest.raises(UsageError, match="File name too long"):
        compare_runs([tmp_path / ("x" * 300)])


def test_on_github_the_table_goes_into_the_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    done = CliRunner().invoke(main, ["compare", *map(str, runs(tmp_path, 0, 12))])
    assert done.exit_code == 1
    text = summary.read_text()
    assert text.startswith("## memtype compare\n\n| operation | ")
    assert "| ok | ENOMEM | 1 | ` test_it step 1 ` |" in text


def test_a_record_brings_no_html_into_markdown(tmp_path: Path) -> None:
    first, second = runs(tmp_path, 0, 12)
    for folder in (first, second):
        path = folder / "records.jsonl"
        path.write_text(path.read_text().replace('"fork"', '"<b>![x](http://evil)|"'))
    text = show(compare_runs([first, second]), form="markdown")
    assert "| &lt;b>![x]\\(http://evil)\\|" in text
    assert "<b>" not in text
