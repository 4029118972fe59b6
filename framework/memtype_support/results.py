"""Results of tests for what writes them, made by hand: one of each status, and one with a guest's bad
intentions."""

from __future__ import annotations

from pytest_memtype.report.properties import Properties
from pytest_memtype.report.result import Result, Status

# What ends or begins KTAP, Markdown, HTML, a command of GitHub's runner, or a terminal's.
EVIL = (
    "\nKTAP version 1\n1..3\n# Subtest: evil\nSubtest: evil\nnot ok 7 evil\nok 1 evil # SKIP\n"
    "reboot: System halted\nKernel panic - not syncing: VFS: evil\n::add-mask::evil\n##[error]evil\n"
    "``` </code><script>alert(1)</script> | **bold** [link](http://evil) "
    "\x1b[31mred\x00 \udcff %0A::error::evil"
)


def made(
    test: str,
    status: Status = Status.PASSED,
    *,
    kernel: str = "debian:bookworm",
    headline: str = "",
    details: str = "",
    more: Properties | None = None,
) -> Result:
    release = {"debian:bookworm": "6.1.0-50-cloud-amd64", "debian:trixie": "6.12.1-cloud-amd64"}[kernel]
    known = {
        "tested": kernel,
        "kernel": release,
        "kernel_version": f"{release.partition('-')[0]}-1",
        "layout": "firmware",
        "hardware": "default",
        "accelerator": "tcg",
        "qemu": "7.2.22",
        "verdicts.accepted": "2",
        "verdicts.alias": "1",
        "disagreements": "1",
    }
    return Result(
        test=f"{test}[{kernel}]",
        status=status,
        seconds=1.25,
        started=1_700_000_000.5,
        headline=headline,
        details=details,
        properties=known | (more or {}),
        line=12,
    )


def of_each_status(kernel: str = "debian:bookworm") -> list[Result]:
    one, two = "a/test_one.py", "a/test_two.py"
    each = [
        (f"{one}::test_passes", Status.PASSED, "", ""),
        (f"{one}::TestIt::test_fails", Status.FAILED, "it did", "it\ndid"),
        (f"{two}::test_breaks", Status.ERROR, "it broke", "it broke"),
        (f"{two}::test_no_host", Status.MISSED, "no QEMU", "no QEMU"),
        (f"{two}::test_skipped", Status.SKIPPED, "it wants #3", ""),
        (f"{two}::test_known", Status.XFAILED, "known", ""),
        (f"{two}::test_better", Status.XPASSED, "", ""),
    ]
    return [
        made(test, status, kernel=kernel, headline=headline, details=details)
        for test, status, headline, details in each
    ]


def evil() -> Result:
    return made(f"a/test_one.py::test_evil[{EVIL}]", Status.FAILED, headline=EVIL, details=EVIL)
