"""The plugin as its users see it: pytest in a folder of its own, with real guests."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from memtype_support import broken_qemu
from memtype_support.empty_cache import empty_cache
from memtype_support.processes import qemus_of

from pytest_memtype.errors import KernelError
from pytest_memtype.host.private_folder import PREFIX
from pytest_memtype.plugin import session
from pytest_memtype.run.variants import Variant

# As docs and api.md show it.
EXAMPLE = """
from pytest_memtype import MemType

def test_second_driver_must_match(guest):
    bar = guest.mmio(pages=4)
    first = guest.driver("drm").ioremap(bar, MemType.WC)
    second = guest.driver("fbdev").ioremap(bar, MemType.UC_MINUS)
    assert first.accepted and first.granted is MemType.WC
    assert second.verdict.rejected and second.verdict.rule == "alias"
    assert second.verdict.conflict.owner == "drm"
    assert second.kernel.accepted and second.granted is MemType.WC
"""

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


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


def test_example_writes_records_and_prints_the_table(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(EXAMPLE)
    result = run(pytester, "-v", "--accel", "tcg", "--kernel", "debian:bookworm")
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines(
        [
            r".*test_second_driver_must_match\[debian:6\.1\.0-\d+-cloud-amd64\] PASSED.*",
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
    assert left == ["records.jsonl"]


@pytest.fixture
def newer_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's QEMU says that it is one that nobody has tested."""
    empty_cache(tmp_path / "cache")
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "cache"))
    newer = broken_qemu.make(tmp_path / "bin", "newer")
    monkeypatch.setenv("PATH", str(newer.parent), prepend=os.pathsep)


@pytest.mark.usefixtures("newer_qemu")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_newer_qemu_than_was_tested_is_told_once(pytester: pytest.Pytester, workers: int) -> None:
    pytester.makepyfile("def test_a(memtype_kernel): pass\ndef test_b(memtype_kernel): pass\n")
    result = run(pytester, "-n", str(workers), "--kernel", "debian:bookworm")
    result.assert_outcomes(passed=2)
    said = [line for line in result.outlines if "newer than the newest that was tested" in line]
    assert said == ["memtype: QEMU 99.1.0 is newer than the newest that was tested, 11.1"]


@pytest.mark.usefixtures("newer_qemu")
def test_a_newer_qemu_than_was_tested_is_still_on_the_terminal_afterwards(tmp_path: Path) -> None:
    """A stage is drawn over by the next one."""
    program = "from pytest_memtype.cli import main; main()"
    arguments = ["-c", program, "run", "--kernel", "tree:/dev/null/none"]
    terminal = pexpect.spawn(sys.executable, arguments, cwd=str(tmp_path), dimensions=(24, 200))
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert isinstance(terminal.before, bytes)
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", terminal.before)
    lines = [line.strip(b"\r") for line in plain.split(b"\n")]
    assert b"QEMU 99.1.0 is newer than the newest that was tested, 11.1" in lines, plain


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
    assert qemus_of(pytester.path) == []
    assert leftovers(temporary) == []
    # The logs that the message names are there.
    (log,) = (pytester.path / ".memtype").glob("runs/*/*/guest-1/console.log")
    assert b"Linux version" in log.read_bytes()


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
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        os.close(running)
        process.kill()
        process.wait()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert qemus_of(pytester.path) == []
    assert leftovers(temporary) == []


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


def usage_error(result: pytest.RunResult, message: str) -> None:
    """Pytest's status for wrong usage (its documentation, "Exit codes"), and one line."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [*result.errlines, *result.outlines]
    errors = [line for line in lines if line.startswith("ERROR: memtype: ")]
    assert len(errors) == 1, lines
    assert message in errors[0]
    assert not [line for line in lines if "Traceback" in line or "collected" in line], lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kernel", "windows:11"], "kernel 'windows:11': no such kind of kernel; known are debian:SUITE"),
        (["--kernel", "debian:potato"], "kernel 'debian:potato': no such Debian suite; known are bullseye"),
        (["--kernel", "debain:bookworm"], "did you mean 'debian:bookworm'"),
        (["--kernel", "debian:bokworm"], "did you mean 'bookworm'?"),
        (["--kernel", "set:lst"], "no set of kernels is called 'lst'; did you mean 'lts'?"),
        (["--layout", "wb-devise"], "no layout is called 'wb-devise'; did you mean 'wb-device'?"),
        (["--layout", "wb-devise", "-n", "2"], "no layout is called 'wb-devise'; did you mean 'wb-device'?"),
        (["--accel", "kvmm"], "--accel 'kvmm': there is no such choice; did you mean 'kvm'?"),
        (["--fresh", "colne"], "--fresh 'colne': there is no such choice; did you mean 'clone'?"),
        (["--guest", "debian:bookwurm"], "not known; did you mean 'debian:bookworm'?"),
        (["-n", "2", "nosuch.py"], "file or directory not found: nosuch.py"),
    ],
)
def test_what_is_written_wrongly_is_one_line_before_anything_is_collected(
    pytester: pytest.Pytester, arguments: list[str], message: str
) -> None:
    pytester.makepyfile(EXAMPLE)
    usage_error(run(pytester, *arguments), message)


def test_a_kernel_that_can_not_be_had_is_looked_for_once(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def never(*specs: object, **_: object) -> list[Variant]:
        asked.append(specs)
        raise KernelError("the mirror is gone")

    monkeypatch.setattr(session, "all_variants", never)
    pytester.makepyfile(test_one="def test_it(guest): ...", test_two="def test_it(guest): ...")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret == 3
    result.stdout.fnmatch_lines(["*memtype: the mirror is gone*"])
    assert str(result.stdout).count("the mirror is gone") == 1
    assert len(asked) == 1


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "workers"])
@pytest.mark.parametrize("trouble", ["no QEMU", "broken QEMU", "cache", "kernel"])
def test_a_host_that_can_run_nothing_is_one_line_and_status_3(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, trouble: str, workers: list[str]
) -> None:
    cases = {
        "no QEMU": "qemu-system-x86_64 is not on this host",
        "broken QEMU": "--version ended with status 127",
        "cache": "the cache folder can't be made",
        "kernel": "nearest are debian:",
    }
    arguments = ["--kernel", "debian:6.999", "--offline"] if trouble == "kernel" else []
    folder = pytester.path / ".bin"
    if trouble == "no QEMU":
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))
    if trouble == "broken QEMU":
        broken_qemu.make(folder, "status 127")
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    if trouble == "cache":
        (pytester.path / ".file").touch()
        monkeypatch.setenv("MEMTYPE_CACHE", str(pytester.path / ".file" / "cache"))
    pytester.makepyfile(test_one=EXAMPLE, test_two=EXAMPLE)
    result = run(pytester, *workers, *arguments)
    lines = [*result.outlines, *result.errlines]
    assert result.ret == 3, lines
    assert len([line for line in lines if cases[trouble] in line]) == 1, lines
    assert not [line for line in lines if "INTERNALERROR" in line or "Traceback" in line], lines


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("layout('nowhere')", "marker layout: no layout is called 'nowhere'; known are .*firmware"),
        ("layout('wb-devise')", "marker layout: no layout is called 'wb-devise'; did you mean 'wb-device'"),
        ("layout(17)", "marker layout: 17 is neither a name nor a Layout"),
        ("layout()", "the marker layout takes one argument"),
        ("hardware(cpu='')", "hardware: cpu '' is not a QEMU CPU"),
        ("hardware(colour='red')", "marker hardware: nothing is called 'colour'; known are cpu, memory, "),
        ("hardware(mem='1G')", "marker hardware: nothing is called 'mem'; did you mean .*'memory'"),
        ("hardware('qemu64', cpu='max')", "marker hardware: give each by its name, once"),
        ("distribution('debian:bookwurm')", "not known; did you mean 'debian:bookworm'"),
        ("expect_oops('(')", "expect_oops wants match=, a regular expression"),
        ("expect_alias(before=6)", "expect_alias takes before=, a kernel version"),
        ("hardware(memory='2T')", "goes beyond the 40 bits of the CPU's physical addresses"),
    ],
)
def test_a_bad_marker_is_one_line(pytester: pytest.Pytester, marker: str, message: str) -> None:
    pytester.makepyfile(f"import pytest\n\n@pytest.mark.{marker}\ndef test_it(guest): pass\n")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    # The file and the line of the marker.
    result.stdout.re_match_lines([rf"test_a_bad_marker_is_one_line\.py:3: test_it\S*: .*({message})"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_bad_marker_of_a_parameter_and_of_a_module(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_parameter="""
        import pytest
        @pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.layout("nosuch"))])
        def test_it(guest, x): pass
        """,
        test_module="""
        import pytest
        pytestmark = pytest.mark.layout("nosuch")
        class TestIt:
            def test_it(self, guest): pass
        """,
        test_others_own="""
        import pytest
        @pytest.mark.layout("of another plugin", colour=1)
        def test_it(): pass
        """,
    )
    result = run(pytester)
    result.assert_outcomes(errors=2)
    for name in ("test_parameter", "test_module"):
        result.stdout.re_match_lines([rf"{name}\.py:\d: .*no layout is called 'nosuch'"])


def test_a_layout_of_the_users_own(pytester: pytest.Pytester) -> None:
    (pytester.path / "layouts").mkdir()
    (pytester.path / "layouts" / "mine.toml").write_text(
        'description = "of the test"\ndefault = "uncached"\n'
        '[[ranges]]\nbase = "0"\nsize = "256M"\ntype = "write-back"\n'
    )
    pytester.makepyfile(
        """
        def test_it(guest):
            assert guest.layout.description == "of the test"
            assert "size=  256MB, count=1: write-back" in guest.shell("cat /proc/mtrr").output
        """
    )
    run(pytester, "--layout", "mine").assert_outcomes(passed=1)


def test_a_layout_of_the_users_own_is_known_below_its_folder(pytester: pytest.Pytester) -> None:
    """For a marker in the folders up to pytest's root; for --layout beside any test of the run."""
    toml = 'description = "{}"\ndefault = "write-back"\n'
    for folder, name in (("layouts", "at-the-root"), ("two/layouts", "beside-another")):
        (pytester.path / folder).mkdir(parents=True)
        (pytester.path / folder / f"{name}.toml").write_text(toml.format(name))
    (pytester.path / "one" / "deep").mkdir(parents=True)
    (pytester.path / "one" / "deep" / "test_one.py").write_text(
        "import pytest\n\n@pytest.mark.layout('at-the-root')\n"
        "def test_marked(guest):\n    assert guest.layout.name == 'at-the-root'\n\n"
        "def test_not_marked(guest):\n    assert guest.layout.name == 'beside-another'\n"
    )
    run(pytester, "--layout", "beside-another").assert_outcomes(passed=2)


def test_a_shared_guest_is_booted_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        pids = set()
        @pytest.mark.parametrize("n", range(3))
        def test_it(guest, n):
            pids.add(guest.machine.process.pid)
            assert len(pids) == 1
        """
    )
    run(pytester, "--shared-guest").assert_outcomes(passed=3)


def test_other_suites_are_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    run(pytester, "--kernel", "debian:6.999").assert_outcomes(passed=1)
    assert not (pytester.path / ".memtype").exists()


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
            r"the kernel reported warning: .*ioremap.*",
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
    result.stdout.re_match_lines([rf"logs: .*{folder.name}"])
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


@pytest.mark.parametrize("workers", [0, 1])
def test_a_folder_of_runs_that_can_not_be_one_is_a_usage_error(
    pytester: pytest.Pytester, workers: int
) -> None:
    """Before any guest boots for a test that has no place for its logs."""
    pytester.makepyfile("def test_it(guest): ...")
    result = run(pytester, "-n", str(workers), "--kernel", "debian:bookworm", "--memtype-dir", "/dev/null/a")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (said,) = (line for line in [*result.outlines, *result.errlines] if "memtype: /dev/null/a: " in line)
    assert "can't be made or used (/dev/null is no folder); name another with --memtype-dir" in said


def test_unknown_guest_is_a_usage_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(guest): ...")
    result = run(pytester, "--guest", "fedora:41")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*guest 'fedora:41': not known; known are minimal, debian:bookworm*"])


def test_distribution_is_skipped_on_the_minimal_guest_or_has_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.distribution
        def test_any(guest): raise AssertionError

        @pytest.mark.distribution("debian:trixie")
        def test_named(guest): ...

        def test_ssh(guest):
            with pytest.raises(Exception, match="wants a guest with a distribution; use --guest"):
                guest.ssh()
        """
    )
    result = run(pytester, "--kernel", "debian:bookworm", "-k", "any or ssh", "-rs")
    result.assert_outcomes(skipped=1, passed=1, deselected=1)
    result.stdout.fnmatch_lines(["SKIPPED*it wants a guest with a distribution, such as --guest debian:*"])
    listed = run(pytester, "--collect-only", "-q", "-k", "named").stdout
    listed.re_match_lines([r".*test_named\[debian:6\.12\.\d+\+deb13-amd64@trixie\]"])
    elsewhere = run(pytester, "--collect-only", "-q", "-k", "named", "--guest", "debian:bookworm").stdout
    elsewhere.re_match_lines([r".*test_named\[debian:6\.1\.0-\d+-amd64@bookworm\]"])


def test_kernels_of_pytests_settings_are_not_forgotten(tmp_path: Path) -> None:
    """What memtype run has looked up is what its own arguments say, and nothing else."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --kernel debian:bullseye\n")
    (tmp_path / "test_it.py").write_text("def test_it(guest): ...\n")
    program = "from pytest_memtype.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        program,
        "run",
        "--collect-only",
        "-q",
        "--kernel",
        "debian:bookworm",
        "test_it.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.findall(r"test_it\[debian:(\d+\.\d+)", done.stdout) == ["5.10", "6.1"]
