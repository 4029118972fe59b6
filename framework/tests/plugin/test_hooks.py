"""The plugin as its users see it: pytest in a folder of its own, with real guests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from memtype_support.inner_pytest import EXAMPLE, run
from memtype_support.processes import qemus_of

from pytest_memtype.host.private_folder import PREFIX

KILL = """
import os, signal
from pytest_memtype import MemType

def test_dies(guest):
    bar = guest.mmio(pages=1)
    os.kill(guest.machine.process.pid, signal.SIGKILL)
    guest.driver("drm").ioremap(bar, MemType.WC)

def test_next_is_fine(guest):
    assert guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC).accepted
"""


@pytest.fixture
def temporary(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of the pytest that is run, which other tests don't use."""
    folder = pytester.path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def leftovers(temporary: Path) -> list[Path]:
    """Private folders of guests."""
    return list(temporary.glob(f"{PREFIX}*"))


def test_what_can_not_be_had_skips_a_test_that_expects_a_guest_error(pytester: pytest.Pytester) -> None:
    """On a machine that can't do it the test says so, instead of passing for the wrong reason."""
    pytester.makepyfile(
        """
        import pytest
        from pytest_memtype.errors import GuestError, Unavailable

        def test_it(guest):
            with pytest.raises(GuestError):
                raise Unavailable("this QEMU has no such device")
        """
    )
    result = run(pytester, "-rs", "--kernel", "debian:bookworm")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*this QEMU has no such device*"])


CHECKED_AT_THE_END = """
import pytest
from pytest_memtype import MemType

@pytest.fixture
def mapped(guest):
    bar = guest.mmio(pages=1)
    guest.driver("drm").ioremap(bar, MemType.WC)
    yield bar
    assert guest.tracked(bar) == (), "left behind"

@pytest.mark.parametrize("number", [1, 2])
def test_it(mapped, number):
    pass
"""


def test_evidence_that_can_not_be_written_fails_its_test_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pathlib
        from pytest_memtype import MemType

        def test_it(guest):
            guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC)
            (folder,) = pathlib.Path(".memtype/runs").glob("*/*/guest-1")
            (folder.parent / "records.jsonl").mkdir()
            assert False, "as it should"

        def test_without_a_guest():
            pass
        """
    )
    result = run(pytester, "-n", "0", "--kernel", "debian:bookworm")
    text = str(result.stdout)
    assert "INTERNALERROR" not in text
    assert "as it should" in text
    assert "1 passed" in text


@pytest.mark.parametrize("shared", [False, True])
def test_a_check_that_fails_after_the_test_leaves_evidence(pytester: pytest.Pytester, shared: bool) -> None:
    """In a fixture of the user's own, which ends before the guests do."""
    marker = "pytestmark = pytest.mark.shared_guest\n" if shared else ""
    pytester.makepyfile(CHECKED_AT_THE_END.replace("@pytest.fixture", f"{marker}@pytest.fixture"))
    result = run(pytester, "-n", "0", "--kernel", "debian:bookworm")
    result.assert_outcomes(passed=2, errors=2)
    text = str(result.stdout)
    assert text.count("drm ioremap WC [mem") == 2
    folders = [line.partition("evidence: ")[2] for line in result.outlines if line.startswith("evidence: ")]
    assert len(folders) == 2
    for each in folders:
        assert [*(pytester.path / each).glob("guest-*/rerun.sh")], each


def test_example_writes_records_and_prints_the_table(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(EXAMPLE)
    result = run(pytester, "-v", "--accel", "tcg", "--kernel", "debian:bookworm")
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines(
        [
            r".*test_second_driver_must_match\[debian:bookworm\] PASSED.*",
            r"6\.1\.0-\d+-cloud-amd64, layout firmware.*",
            r".*ioremap WC +ioremap UC- +alias +substituted +WC +≠ +1.*",
        ]
    )
    lines = (pytester.path / ".memtype" / "latest" / "records.jsonl").read_text().splitlines()
    first, second = (json.loads(line) for line in lines)
    assert (first["step"], first["operation"], first["requested"]) == (1, "ioremap", "WC")
    assert second["verdict"]["rule"] == "alias"
    assert second["verdict"]["conflict"]["owner"] == "drm"
    assert (second["granted"], second["layout"], second["accelerator"]) == ("WC", "firmware", "tcg")
    assert second["test"].startswith("test_example_writes_records_and_prints_the_table.py::test_second")
    # Tests that pass leave no logs.
    # What the processes of a run tell each other is hidden.
    left = [path.name for path in (pytester.path / ".memtype" / "latest").iterdir() if path.name[0] != "."]
    assert sorted(left) == ["layouts.jsonl", "records.jsonl", "run.json", "tests.jsonl"]


def test_a_killed_guest_fails_its_test_and_leaves_nothing(pytester: pytest.Pytester, temporary: Path) -> None:
    pytester.makepyfile(KILL)
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.re_match_lines(
        [
            r".*test_a_killed.*\.py:7: GuestExited: QEMU \(process \d+\) was killed by SIGKILL "
            # Either, depending on how soon the kernel had killed it.
            r"\((waiting|writing to the agent's port) for the answer to 'ioremap'.*\)",
            "last console lines:",
            "kernel console: .*console.log",
            r"run this guest again: /.*/guest-1/rerun\.sh",
        ]
    )
    assert result.stdout.str().count("rerun.sh") == 1
    assert qemus_of(pytester.path) == []
    assert leftovers(temporary) == []
    # The logs that the message names are there.
    (log,) = (pytester.path / ".memtype").glob("runs/*/*/guest-1/console.log")
    assert b"Linux version" in log.read_bytes()


def test_a_guest_that_hangs_says_once_how_to_run_it_again(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_hangs(guest):
            guest._agent.heartbeat = 2
            guest.qmp.execute("stop")
            guest.shell("echo never")
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    assert result.stdout.str().count("rerun.sh") == 1


def test_ctrl_c_leaves_nothing(pytester: pytest.Pytester, temporary: Path) -> None:
    running, tell = os.pipe()
    pytester.makepyfile(
        f"""
        import os
        def test_hangs(guest):
            os.write({tell}, b"running")
            guest.console.expect(b"never printed", timeout=200)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=pytester.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=[tell],
    )
    os.close(tell)
    try:
        assert os.read(running, 16) == b"running"
        # What is left would be found.
        assert qemus_of(pytester.path)
        assert leftovers(temporary)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        os.close(running)
        process.kill()
        process.wait()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert qemus_of(pytester.path) == []
    assert leftovers(temporary) == []


def test_workers_share_one_record_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_one=EXAMPLE, test_two=EXAMPLE)
    result = run(pytester, "-n", "2")
    result.assert_outcomes(passed=2)
    (records,) = (pytester.path / ".memtype").glob("runs/*/records.jsonl")
    tests = [json.loads(line)["test"] for line in records.read_text().splitlines()]
    assert len(tests) == 4
    # The operations of a test stay together.
    assert tests[0] == tests[1] != tests[2] == tests[3]


WARNS = """
import pexpect
import pytest
from pytest_memtype import MemType

def warn(guest):
    guest.driver("drm").ioremap(guest.ram(pages=1), MemType.UC_MINUS)

def test_unexpected(guest):
    warn(guest)

@pytest.mark.expect_oops(match="ioremap on RAM")
def test_expected(guest):
    warn(guest)

@pytest.mark.expect_oops(match="something else")
def test_another(guest):
    warn(guest)

@pytest.mark.expect_oops(match="ioremap on RAM")
def test_missing(guest):
    pass

def test_unexpected_and_then_skipped(guest):
    warn(guest)
    pytest.skip("it is no use")

@pytest.mark.expect_oops(match="ioremap on RAM")
def test_skipped_before_what_is_expected(guest):
    pytest.skip("it is no use")

@pytest.mark.expect_oops(match="sysrq")
def test_expected_panic(guest):
    guest.shell("echo c > /proc/sysrq-trigger")

def test_unexpected_panic(guest):
    guest.shell("echo c > /proc/sysrq-trigger")
"""


@pytest.mark.parametrize("fresh", ["clone", "boot"])
def test_reports_of_the_kernel_fail_the_test_that_does_not_expect_them(
    pytester: pytest.Pytester, fresh: str
) -> None:
    pytester.makepyfile(WARNS)
    result = run(pytester, "-rA", f"--fresh={fresh}")
    result.assert_outcomes(passed=2, failed=5, skipped=1)
    result.stdout.re_match_lines_random(
        [
            r"PASSED .*test_expected\[.*",
            r"PASSED .*test_expected_panic\[.*",
            r"FAILED .*test_unexpected\[.*",
            r"FAILED .*test_unexpected_and_then_skipped\[.*",
            r"the kernel reported WARNING in .*ioremap.*",
            r"expect_oops: the kernel reported nothing that matches 'something else'",
            r"expect_oops: the kernel reported nothing that matches 'ioremap on RAM'",
            r".*GuestPanicked: the guest's kernel panicked .*sysrq.*",
        ]
    )


def test_what_a_failure_leaves(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from pytest_memtype import MemType
        def test_fails(guest):
            assert guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC).verdict.rejected
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    (folder,) = (pytester.path / ".memtype" / "latest").glob("[!.]*/")
    result.stdout.re_match_lines([rf"evidence: \.memtype/runs/.*{folder.name}"])
    assert {path.name for path in folder.iterdir()} == {"guest-1", "records.jsonl"}
    guest = folder / "guest-1"
    names = {path.name for path in guest.iterdir()}
    assert names >= {"agent.log", "console.log", "guest.json", "qmp.log", "rerun.sh"}
    about = json.loads((guest / "guest.json").read_text())
    assert about["layout"] == "firmware"
    assert about["kernel"].startswith("6.1.0-")
    (record,) = (json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines())
    assert record["operation"] == "ioremap"

    with pexpect.spawn(str(guest / "rerun.sh"), timeout=60) as shell:
        shell.expect_exact("The verifier is loaded. Device memory for tests: 0xfd000000, 16 MiB.")
        shell.expect_exact("# ")
        shell.sendline("uname -r; exit")
        shell.expect_exact(about["kernel"])
        shell.expect(pexpect.EOF)


#: The guest of the second test is still being started when the run has ended without that test.
LATE_REMARK = """
import threading
import pytest
from pytest_memtype.host.progress import Remark
from pytest_memtype.run.session import Session

ending, begun = threading.Event(), threading.Event()
make = Session._make

def late(self, kind, logs):
    if threading.current_thread() is threading.main_thread():
        return make(self, kind, logs)
    begun.set()
    ending.wait()
    ready = make(self, kind, logs)
    self._progress(Remark("a template is damaged, and made again"))
    return ready

def pytest_configure():
    Session._make = late

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish():
    ending.set()
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_what_the_start_of_a_guest_that_nobody_asks_for_says_is_printed(
    pytester: pytest.Pytester, temporary: Path, workers: int
) -> None:
    pytester.makeconftest(LATE_REMARK)
    pytester.makepyfile(
        "def test_a(guest):\n    from conftest import begun\n    assert begun.wait(60)\n    assert False\n"
        "def test_b(guest): pass\n"
    )
    options = ("-p", "no:randomly", "--accel", "tcg", "--kernel", "debian:bookworm", "-n", str(workers))
    result = run(pytester, "--maxfail=1", *options)
    result.assert_outcomes(failed=1)
    assert result.outlines.count("memtype: a template is damaged, and made again") == 1
    assert qemus_of(pytester.path) == []
    assert leftovers(temporary) == []
