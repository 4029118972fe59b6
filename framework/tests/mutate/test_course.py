"""The course of trials. The tests of these suites want no guest: they look at which fault is switched on.

A kernel with faults in it takes minutes to build. MEMTYPE_MUTANT_TREE names the build tree of one for the
last test, which plants, builds and tries.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock

from pytest_memtype.cli import main
from pytest_memtype.errors import KernelError
from pytest_memtype.kernels.mutant_catalogue import NONE, catalogue
from pytest_memtype.kernels.mutant_tree import PlantedTree
from pytest_memtype.mutate.course import rows_of
from pytest_memtype.mutate.rows import EQUIVALENT, KILLED, LIVED, TROUBLE, Row, add
from pytest_memtype.mutate.trial import Trial, trial

KERNEL = "debian:bookworm"
TREE = os.environ.get("MEMTYPE_MUTANT_TREE")

pytestmark = pytest.mark.timeout(600)

NOTICES = """
def test_it(request):
    assert request.config.getoption("--mutant") not in {names}
    with open({log!r}, "a") as log:
        log.write("{file}\\n")
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


def write(suite: Path, file: str, *names: str) -> None:
    """A test that fails with these faults, and notes that it passed with others."""
    log = str(suite.parent / "passed")
    (suite / file).write_text(NOTICES.format(names=set(names) or "()", log=log, file=file))


def passed(suite: Path) -> list[str]:
    log = suite.parent / "passed"
    return log.read_text().split() if log.exists() else []


def tried(suite: Path, mutant: str, *first: str, every: bool = False) -> Trial:
    return trial(KERNEL, mutant, suite=suite, folder=suite.parent, first=list(first), every=every)


def test_the_first_failure_ends_a_trial_and_the_area_comes_first(suite: Path) -> None:
    write(suite, "test_a.py", "interval-lookup")
    write(suite, "test_z.py", "interval-lookup", "list-leaks")
    said = tried(suite, "interval-lookup", "test_z.py", "test_not_there.py")
    assert said == Trial(killed_by=["suite/test_z.py::test_it"])
    assert passed(suite) == []
    # What the area doesn't notice, the rest may; what was run isn't run again.
    write(suite, "test_b.py", "ioremap-wraps")
    said = tried(suite, "ioremap-wraps", "test_z.py")
    assert said.killed_by == ["suite/test_b.py::test_it"]
    assert passed(suite).count("test_z.py") == 1


def test_a_suite_that_is_all_of_the_area(suite: Path) -> None:
    write(suite, "test_a.py")
    assert tried(suite, "interval-lookup", "test_a.py") == Trial(passed=1)


def test_all_tests_of_a_trial(suite: Path) -> None:
    for file in ("test_a.py", "test_b.py"):
        write(suite, file, "interval-lookup")
    write(suite, "test_c.py")
    said = tried(suite, "interval-lookup", every=True)
    assert sorted(said.killed_by) == ["suite/test_a.py::test_it", "suite/test_b.py::test_it"]
    assert (said.passed, passed(suite)) == (1, ["test_c.py"])


def test_a_kernel_without_faults_is_no_verdict(suite: Path) -> None:
    (suite / "test_guest.py").write_text("def test_it(guest):\n    pass\n")
    said = tried(suite, "interval-lookup")
    assert said.killed_by == []
    assert "has no fault 'interval-lookup' to switch on" in said.trouble


def test_a_worker_that_dies_is_no_verdict(suite: Path) -> None:
    body = "import os, signal\ndef test_it():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    (suite / "test_it.py").write_text(body)
    said = tried(suite, "interval-lookup")
    assert said.killed_by == []
    assert "crashed while running" in said.trouble


def test_a_suite_that_cannot_be_collected_is_no_verdict(suite: Path) -> None:
    (suite / "test_broken.py").write_text("import nothing_of_that_name\n")
    assert "pytest ended with status 2" in tried(suite, NONE).trouble


def course(suite: Path, *names: str, every: bool = False, named: bool = False) -> list[tuple[Row, bool]]:
    mutants = [mutant for mutant in catalogue() if mutant.name in names]
    tree = PlantedTree(KERNEL, tuple(mutants), {})
    return list(
        rows_of(tree, mutants, suite=suite, work=suite.parent, against="it", every=every, named=named)
    )


def outcomes(rows: list[tuple[Row, bool]]) -> dict[str, tuple[str, bool]]:
    return {row.mutant: (row.outcome, earlier) for row, earlier in rows}


def test_a_course_goes_on_where_it_ended(suite: Path) -> None:
    write(suite, "test_a.py", "interval-lookup", "mtrr-uc-rule")
    rows = course(suite, "interval-lookup", "list-leaks", "mtrr-uc-rule")
    assert outcomes(rows) == {
        NONE: (LIVED, False),
        "interval-lookup": (KILLED, False),
        "list-leaks": (LIVED, False),
        # Its proof is taken for it.
        "mtrr-uc-rule": (EQUIVALENT, False),
    }
    killed = next(row for row, _ in rows if row.outcome == KILLED)
    assert killed.killed_by == ("suite/test_a.py::test_it",)
    assert killed.seconds > 0
    # Why a test failed can be read.
    assert "--mutant" in (suite.parent / "interval-lookup.log").read_text()
    before = passed(suite)
    again = course(suite, "interval-lookup", "list-leaks", "ioremap-wraps")
    assert outcomes(again) == {
        "interval-lookup": (KILLED, True),
        "list-leaks": (LIVED, True),
        "ioremap-wraps": (LIVED, False),
    }
    assert len(passed(suite)) == len(before) + 1
    # Whoever names a fault wants it tried, and no proof.
    named = course(suite, "mtrr-uc-rule", "io-answer-lost", named=True)
    assert outcomes(named) == {"mtrr-uc-rule": (KILLED, False), "io-answer-lost": (EQUIVALENT, False)}


def test_a_suite_that_fails_without_a_fault_ends_the_course(suite: Path) -> None:
    write(suite, "test_a.py", NONE)
    with pytest.raises(KernelError, match="without any fault the suite doesn't pass") as caught:
        course(suite, "interval-lookup")
    assert caught.value.details == ("suite/test_a.py::test_it",)


def test_a_trial_that_dies_is_no_verdict(suite: Path) -> None:
    text = "import os, signal\n\ndef test_it(request):\n"
    text += '    if request.config.getoption("--mutant") != "none":\n'
    text += "        os.kill(os.getppid(), signal.SIGKILL)\n"
    (suite / "test_a.py").write_text(text)
    rows = course(suite, "interval-lookup")
    row = rows[-1][0]
    assert row.outcome == TROUBLE
    assert "was killed by SIGKILL without an answer" in row.note


def test_a_trial_that_cannot_be_started_is_no_verdict(suite: Path) -> None:
    write(suite, "test_a.py")
    (suite.parent / "none.log").mkdir()
    with pytest.raises(KernelError, match="without any fault the suite doesn't pass") as caught:
        course(suite)
    assert caught.value.details == (f"the trial can't be started: {suite.parent}/none.log: Is a directory",)


def test_a_trial_without_an_end_is_no_verdict(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy host has noticed no fault."""
    write(suite, "test_a.py")
    add(suite.parent / "rows.jsonl", Row(NONE, LIVED, against="it"))
    monkeypatch.setattr("pytest_memtype.mutate.course._LIMIT_SECONDS", 0.0)
    ((row, _),) = course(suite, "interval-lookup")
    assert (row.outcome, row.note) == (TROUBLE, "the trial was not done in 0 s")
    assert not row.killed_by


def test_a_trial_can_be_ended_when_the_course_is_in_the_background(suite: Path) -> None:
    """A shell has what it starts with "&" ignore SIGINT, by which a trial ends whose course was killed."""
    test = "import os\n\ndef test_it():\n    with open(f'/proc/{os.getppid()}/status') as status:\n"
    test += "        ignored = next(line for line in status if line.startswith('SigIgn:'))\n"
    test += "    assert not int(ignored.split()[1], 16) & 1 << (2 - 1)\n"
    (suite / "test_a.py").write_text(test)
    program = [sys.executable, "-m", "pytest_memtype.mutate.trial", KERNEL, NONE, str(suite), "."]
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *program]
    subprocess.run(command, cwd=suite.parent, check=True, timeout=300)
    said = json.loads((suite.parent / "answer.json").read_text())
    assert (said["passed"], said["killed_by"], said["trouble"]) == (1, [], "")


def test_an_unknown_fault_is_wrong_usage(suite: Path) -> None:
    write(suite, "test_a.py")
    command = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", "--mutant", "nonsense"]
    done = subprocess.run([*command, str(suite)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no fault is called 'nonsense'; memtype mutate --list names them" in done.stderr


def test_two_commands_in_one_folder_do_not_mix_their_answers(tmp_path: Path) -> None:
    arguments = ["mutate", "--kernel", f"tree:{tmp_path / 'linux'}", "--work", str(tmp_path)]
    with FileLock(tmp_path / "lock"):
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 3
    assert result.stderr == (
        f"memtype: {tmp_path}: another memtype mutate is at work there; wait for it, or name another folder "
        "with --work\n"
    )
    # It ends with the command that holds it.
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, "there is no folder" in result.stderr) == (3, True)
    assert "there is no folder" in CliRunner().invoke(main, arguments).stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name the kernel to plant faults in: --kernel tree:PATH"),
        (["--kernel", "debian:bookworm"], "name the kernel to plant faults in: --kernel tree:PATH"),
        (["--kernel", "tree:/", "interval-lokup"], "did you mean 'interval-lookup' or"),
    ],
)
def test_wrong_usage(arguments: list[str], reason: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["mutate", "--work", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert reason in result.output


def test_the_list_has_each_fault() -> None:
    result = CliRunner().invoke(main, ["mutate", "--list"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines] == [mutant.name for mutant in catalogue()]
    assert any("(until 6.16, 04c35ab3bdae (6.9), CVE-2024-35877)" in line for line in lines)
    result = CliRunner().invoke(main, ["mutate", "--list", "--json"])
    assert [entry["name"] for entry in json.loads(result.output)] == [mutant.name for mutant in catalogue()]


@pytest.mark.skipif(TREE is None, reason="MEMTYPE_MUTANT_TREE names no kernel's build tree")
@pytest.mark.timeout(7200)
def test_a_kernel_with_faults(suite: Path, tmp_path: Path) -> None:
    test = "from pytest_memtype import MemType\n\n\ndef test_it(guest):\n"
    test += "    window = guest.mmio(pages=2)\n"
    test += '    guest.driver("other").ioremap(window[1:], MemType.UC_MINUS)\n'
    test += "    outcome = guest.driver('fb').ioremap(window[:1], MemType.WC)\n"
    test += "    assert outcome.granted is MemType.WC\n"
    (suite / "test_touching.py").write_text(test)
    command = ["mutate", "--kernel", f"tree:{TREE}", "--work", str(tmp_path / "work"), "--suite", str(suite)]
    command += ["--json", "interval-conflict-first", "set-ro-leaves-dirty", "pat-slot-order"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1, result.stderr
    said = json.loads(result.stdout.splitlines()[-1])
    assert {row["mutant"]: row["outcome"] for row in said["rows"]} == {
        NONE: LIVED,
        "interval-conflict-first": KILLED,
        "set-ro-leaves-dirty": LIVED,
        "pat-slot-order": KILLED,
    }
