"""``memtype coverage --from``: what is told of a run's counters, of a tree with all that is read of one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_memtype.cli import main
from pytest_memtype.commands import coverage_report
from pytest_memtype.coverage.reading import Reading, readings, write

Counted = Callable[..., Reading]

NEEDED = (
    *("X86_64", "BLK_DEV_INITRD", "DEVTMPFS", "PROC_FS", "SYSFS", "PCI", "SERIAL_8250_CONSOLE", "BINFMT_ELF"),
    *("PRINTK", "FILE_LOCKING", "NET", "UNIX", "MODULES", "STACKTRACE"),
)

PATCH = """\
--- a/arch/small.c
+++ b/arch/small.c
@@ -4,4 +4,4 @@
 \t\treturn -1;
-\tif (number > 99)
-\t\treturn 2;
+\tif (number > 100)
+\t\treturn 1;
 \treturn 0;
"""


@pytest.fixture
def tree(build_tree: Path) -> Path:
    """The build tree, as a kernel's that gcc has built with GCOV."""
    done = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True)
    major, minor, patch = map(int, done.stdout.split("."))
    options = [*(f"CONFIG_{name}=y" for name in (*NEEDED, "GCOV_KERNEL"))]
    options.append(f"CONFIG_GCC_VERSION={major * 10000 + minor * 100 + patch}")
    (build_tree / ".config").write_text("\n".join(options) + "\n")
    image = bytearray(1024)
    image[0x202:0x206], image[0x20E] = b"HdrS", 0x40
    image[0x240:0x246] = b"6.1.0 "
    for name, content in (
        ("arch/x86/boot/bzImage", bytes(image)),
        ("include/generated/utsrelease.h", b'#define UTS_RELEASE "6.1.0"\n'),
        ("Module.symvers", b""),
    ):
        (build_tree / name).parent.mkdir(parents=True, exist_ok=True)
        (build_tree / name).write_bytes(content)
    return build_tree


@pytest.fixture
def run(counted: Counted, tmp_path: Path) -> Path:
    """A run: a template's boot has classified -1, and of its two clones one 5, and one 5 and 7."""
    folder = tmp_path / "run"
    folder.mkdir()
    write(counted(-1, template="template-1"), folder, "template-1")
    write(counted(5, test="test_it.py::test_first"), folder, "test-1")
    write(counted(-1, 5, 7, test="test_it.py::test_second", template="template-1"), folder, "test-2")
    write(Reading("test_it.py::test_dies", "tree:x", "", lost="the guest is exited"), folder, "test-3")
    return folder


def coverage(tree: Path, *arguments: str | Path) -> Result:
    command = ["coverage", "--kernel", f"tree:{tree}", *map(str, arguments)]
    return CliRunner().invoke(main, command, catch_exceptions=False)


def test_files(tree: Path, run: Path) -> None:
    result = coverage(tree, "--from", run)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    columns = ["lines", "branches", "functions"]
    assert lines[0].split() == ["file", *columns, "reachable:", *columns]
    # Of 6 lines with code one isn't run: no number was above 100. The list of what no guest can run has none.
    figures = ["83.3", "%", "of", "6", "75.0", "%", "of", "4", "1", "of", "1"]
    assert lines[1].split() == ["arch/small.c", *figures, *figures]
    assert lines[2].split()[:4] == ["mm/large.c", "0.0", "%", "of"]
    assert lines[4:] == [
        "the counters of 1 guests are lost:",
        "  test_it.py::test_dies: the guest is exited",
    ]


def test_a_tree_that_a_link_leads_to(tree: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)
    straight, around = coverage(tree, "--from", run), coverage(tmp_path / "link", "--from", run)
    assert (around.exit_code, around.stdout) == (0, straight.stdout)


def test_html_that_can_be_no_folder_is_named_before_tests_run(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the error would stand in place of all that minutes of tests have counted."""
    monkeypatch.setattr(coverage_report, "run_tests", lambda *_: pytest.fail("tests were run"))
    file = tmp_path / "file"
    file.touch()
    for place in (file, file / "html"):
        result = coverage(tree, "--html", place)
        assert result.exit_code == 2
        assert result.stderr == f"memtype: --html {place}: {file} is no folder; name another\n"


def test_which_tests_reach_a_line(tree: Path, run: Path) -> None:
    places = ("arch/small.c:4", "arch/small.c:7", "arch/small.c:6")
    result = coverage(
        tree, "--from", run, "--json", *(each for place in places for each in ("--tests", place))
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["tests"] == {
        "arch/small.c:4": {"(the boot of a guest)": 1},
        "arch/small.c:7": {"test_it.py::test_first": 1, "test_it.py::test_second": 2},
        "arch/small.c:6": {},
    }


def test_which_lines_of_a_patch_were_run(tree: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "fix.patch").write_text(PATCH)
    result = coverage(tree, "--from", run, "--diff", tmp_path / "fix.patch")
    assert result.exit_code == 0, result.output
    told = result.stdout.splitlines()[-3:]
    assert told[0] == "arch/small.c: changed lines: 2, with code: 2, run: 1"
    assert told[1].split() == ["5", "run", "3", "times", "if", "(number", ">", "100)"]
    assert told[2].split() == ["6", "not", "run", "return", "1;"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tests", "arch/small.c"], "write FILE:LINE, such as arch/x86/mm/pat/memtype.c:586"),
        (["--tests", "arch/smalls.c:4"], "arch/smalls.c isn't profiled; did you mean 'arch/small.c'"),
        (["--tests", "arch/small.c:2"], "the line has no code"),
        (["--diff", "/nonexistent.patch"], "--diff: /nonexistent.patch: No such file"),
        (["test_it.py"], "with --from no test is run, so name none"),
    ],
)
def test_wrong_usage_is_one_line(tree: Path, run: Path, arguments: list[str], message: str) -> None:
    result = coverage(tree, "--from", run, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_kernel_that_counts_nothing(tree: Path, run: Path) -> None:
    text = (tree / ".config").read_text()
    (tree / ".config").write_text(text.replace("CONFIG_GCOV_KERNEL=y", ""))
    result = coverage(tree, "--from", run)
    assert (result.exit_code, "built without CONFIG_GCOV_KERNEL=y" in result.stderr) == (3, True)
    other = CliRunner().invoke(main, ["coverage", "--kernel", "debian:bookworm"])
    assert (other.exit_code, "the counters are of a tree; use tree:PATH" in other.stderr) == (2, True)


def test_a_run_without_counters(tree: Path, tmp_path: Path) -> None:
    result = coverage(tree, "--from", tmp_path)
    assert (result.exit_code, f"{tmp_path}: no counters" in result.stderr) == (2, True)
    (tmp_path / "coverage").mkdir()
    (tmp_path / "coverage" / "test-1.json").write_text('{"names": []}')
    assert "not the counters of a guest" in coverage(tree, "--from", tmp_path).stderr


def test_one_template_is_read_by_one_clone(counted: Counted, tmp_path: Path) -> None:
    """Workers that read it at the same moment leave one reading."""
    write(counted(1, template="template-1"), tmp_path, "template-1")
    write(counted(2, template="template-1"), tmp_path, "template-1")
    assert list(readings(tmp_path)) == [counted(1, template="template-1")]
    assert [path.name for path in (tmp_path / "coverage").iterdir()] == ["template-1.json"]


def test_a_file_system_may_have_no_links(
    counted: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        # As of vfat, and of many that hosts share with guests and containers.
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    write(counted(1, template="template-1"), tmp_path, "template-1")
    assert [path.name for path in (tmp_path / "coverage").iterdir()] == ["template-1.json"]


def test_a_view_by_gcovr(tree: Path, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("gcovr")
    result = coverage(tree, "--from", run, "--html", tmp_path / "html")
    assert result.exit_code == 0, result.output
    assert "arch/small.c" in (tmp_path / "html" / "index.html").read_text()
    shutil.rmtree(tmp_path / "html")
