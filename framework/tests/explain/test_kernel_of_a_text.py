"""The kernel that a text is of, as it is told: nothing that a release doesn't say, and no other kernel."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import as_json, explain, sections
from pytest_memtype.explain.linux_source import age, is_newer

RAM = "[ 1.0] ioremap on RAM at 0x3f251000 - 0x3fa1afff\n"
TRACE = "[ 1.0] CPU: 0 PID: 0 Comm: swapper/0 Not tainted {} #48\n"
FREED = "x86/PAT: test:178 freeing invalid memtype [mem 0xfd000000-0xfd001fff]\n"
# LKML, July 2004, behind a shutdown.
GONE = """\
Jul  6 11:23:15 coyote kernel:  <7>mtrr: no MTRR for d0000000,2000000 found

at which point I rebooted to 2.6.7, reset my XF86Config to use the
old, known stable nv driver
"""


def told(text: str) -> str:
    found = [each.lines for each in sections(explain(read(text), [])) if each.title == "The kernel"]
    return "\n".join(found[0]) if found else ""


@pytest.mark.parametrize(
    ("release", "words"),
    [
        # Upstream dd09fad9d2ca. An update would be 4.20.1.
        ("4.20.0", "Linux 4.20.0 (line 2)."),
        ("6.1.0-18", "Linux 6.1.0-18 (line 2). Which update of 6.1 that is isn't said."),
        # Raspberry Pi OS' is 6.1.63.
        ("6.1.0-rpi7-rpi-v8", "Linux 6.1.0-rpi7-rpi-v8 (line 2). Which update of 6.1 that is isn't said."),
        # dri-devel, January 2022: of the merge window of 5.17.
        ("5.16.0+", "Linux 5.16.0+ (line 2). Commits were added to that; which the text doesn't say."),
        ("6.12.0-rc5+", "Linux 6.12.0-rc5+ (line 2)."),
    ],
)
def test_release_of_a_trace(release: str, words: str) -> None:
    assert told(RAM + TRACE.format(release)) == words


@pytest.mark.parametrize("release", ["6.15.0+", "6.15.0-13743-g8630c59e9936"])
def test_a_merge_window_may_have_what_the_next_series_has(release: str) -> None:
    known = age(read(RAM + TRACE.format(release)))
    assert is_newer(known, 6, 15) is True
    assert is_newer(known, 6, 16) is None
    assert is_newer(known, 6, 17) is False


def test_a_kernel_that_somebody_went_to_afterwards() -> None:
    assert as_json(explain(read(GONE), []))["kernel"] == "none"
    assert told(GONE) == "The text names Linux 2.6.7 (line 3), and is hardly of that kernel."


@pytest.mark.parametrize("words", ["went back to", "downgraded to", "am back on", "booted back into"])
def test_a_kernel_that_somebody_went_back_to(words: str) -> None:
    assert as_json(explain(read(f"So I {words} 6.1.20.\n{FREED}"), []))["kernel"] == "none"


@pytest.mark.parametrize("words", ["rebooted to", "upgraded to", "booted"])
def test_a_kernel_that_somebody_went_to_before(words: str) -> None:
    assert as_json(explain(read(f"I {words} 6.1.20, and got:\n{FREED}"), []))["kernel"] == "6.1"


def test_a_kernel_without_such_messages() -> None:
    """The label "x86/PAT: " is of 4.2 and later (9dac62909451)."""
    text = f"{FREED}I have kernel 2.6.32 here.\n"
    found = explain(read(text), [])
    assert as_json(found)["kernel"] == "none"
    assert "memtype_free()" in found.story.rule
    assert "hardly of that kernel" in told(text)


@pytest.mark.parametrize(
    "words", ["kernel 4.2.0", "kernel 5.4", "kernel 3.10.0-1160.el7", "the RHEL kernel 3.10.0"]
)
def test_a_kernel_that_may_have_them(words: str) -> None:
    assert as_json(explain(read(f"{FREED}I have {words} here.\n"), []))["kernel"] != "none"


# Russian notes on two reports of syzkaller's.
_TWO_TRACES = """\
WARNING: CPU: 1 PID: 1418 at arch/x86/mm/pat/memtype.c:1019 get_pat_info+0x216/0x270
Modules linked in:
CPU: 1 PID: 1418 Comm: syz-executor.3 Not tainted 5.10.234-syzkaller #0
Call Trace:
 untrack_pfn+0xdc/0x240
{}
WARNING: CPU: 0 PID: 21675 at arch/x86/mm/pat/memtype.c:1028 get_pat_info+0x210/0x270
CPU: 0 PID: 21675 Comm: syz-executor.5 Not tainted 6.1.118-syzkaller-00108-gdd21049e63b4 #0
"""


def test_of_two_traces_each_warning_has_its_own() -> None:
    found = explain(read(_TWO_TRACES.format("")), [])
    assert as_json(found)["release"] == "5.10.234-syzkaller"
    # Another process's trace needn't be of that kernel.
    other = _TWO_TRACES.format("").replace("PID: 1418 Comm", "PID: 99 Comm")
    assert as_json(explain(read(other), []))["kernel"] == "none"


@pytest.mark.parametrize(
    ("release", "distribution"),
    [
        ("3.3.8-1-amd64-vyatta", None),
        ("6.1.0-18-amd64", "Debian"),
        ("6.1.0-18-cloud-amd64", "Debian"),
        ("6.1.0-18-rt-amd64", None),
        ("6.12.12-amd64-unsigned", None),
    ],
)
def test_whose_kernel_a_release_is_of(release: str, distribution: str | None) -> None:
    kernel = read(RAM + TRACE.format(release)).kernel
    assert kernel is not None
    assert kernel.distribution == distribution


@pytest.mark.parametrize(
    ("words", "series"),
    [
        # Which of the two says it?
        ("I am stuck with the 5.7 kernel, as with the 5.10 it freezes.", "none"),
        ("Somewhere between 6.1.3 and 6.2.12 (also on 6.5.13) it changed.", "none"),
        ("kernel 5.4.1 and another thing\n\nNow on 5.8.2:", "none"),
        ("With 5.4.0-42-generic all is well. After the upgrade to 5.8.0-25-generic I have", "5.8"),
        ("I use kernel 5.8.2 with QEMU 7.2 and driver 3.4.5.", "5.8"),
        ("On 5.4.3 my wifi was slow.\n\nNow kernel 5.8.2 says:", "5.8"),
    ],
)
def test_a_kernel_of_several_that_are_named(words: str, series: str) -> None:
    assert as_json(explain(read(f"{words}\n{FREED}"), []))["kernel"] == series
