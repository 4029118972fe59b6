"""Kernels that writers name: below a heading of a form, between two, as what isn't affected, as another's."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import as_json, explain

FREED = "x86/PAT: test:178 freeing invalid memtype [mem 0xfd000000-0xfd001fff]\n"
# platform-driver-x86, December 2021.
BETWEEN = """\
Between v5.15 and v5.16-rc the following (unrelated?) errors are
appearing in kernel.log:

resource sanity check: requesting [mem 0xff200000-0xff3fffff], which
spans more than 0000:00:0e.0 [mem 0xff298000-0xff29bfff]
caller devm_ioremap+0x45/0x80 mapping multiple BARs
"""
# linux-media, January 2009.
TWO = """\
I recently switched to openSUSE 11.1 and kernel 2.6.27.7. From that time
I get the following warning at boot.
I didn't get the problem with openSUSE 11.0 and kernel 2.6.25.20
It occurs in 64 bits and 32 bits.

<4>resource map sanity check conflict  0xddcfb000 0xddcfbfff 0xddcfb000
0xddcfb7ff 0000:01:02.0
"""


def kernel(text: str) -> object:
    return as_json(explain(read(text), []))["kernel"]


@pytest.mark.parametrize(
    "heading",
    [
        "### Kernel version",
        "**Kernel Version:**",
        "Kernel",
        "Linux kernel release",
        "Kernel version (uname -r)",
        "OS and kernel version",
        # Fedora's form.
        "2. What is the Version-Release number of the kernel:",
    ],
)
@pytest.mark.parametrize("gap", ["\n", "\n\n"])
@pytest.mark.parametrize(
    "words", ["6.1 (self-built)", "6.1.90", "Linux 6.1.90, as of Tuesday", "6.1.0-18-amd64"]
)
def test_a_kernel_below_a_heading(heading: str, gap: str, words: str) -> None:
    assert kernel(f"{heading}{gap}{words}\n\n### Log\n{FREED}") == "6.1"


@pytest.mark.parametrize(
    "heading",
    ["### Mesa version", "Last working kernel version", "Minimum kernel", "I rebuilt the kernel and then it"],
)
def test_what_stands_below_another_heading(heading: str) -> None:
    assert kernel(f"{heading}\n\n6.1.90\n\n### Log\n{FREED}") == "none"


def test_the_second_of_two_kernels_has_what_appeared_between_them() -> None:
    assert kernel(BETWEEN) == "5.16"
    assert kernel(BETWEEN.replace("Between v5.15 and v5.16-rc", "Between kernel 6.1.20 and 6.1.25")) == "6.1"


def test_between_two_kernels_where_nothing_is_said_to_have_changed() -> None:
    assert kernel(f"I tried kernels between 5.10 and 5.15.\n\n{FREED}") == "none"


def test_a_kernel_that_the_problem_was_not_got_with() -> None:
    assert as_json(explain(read(TWO), []))["release"] == "2.6.27.7"


@pytest.mark.parametrize(
    ("words", "series"),
    [
        # intel-gfx, May 2021.
        ("With 5.13-rc1 gdm fails to show and dmesg contains:", "5.13"),
        # LKML, November 2019.
        ("I tried latest (5.4) custom kernel (with UBSAN) on my Dell D600 laptop", "5.4"),
        ("I don't get the card to work with kernel 6.1.20", "6.1"),
        ("The card stopped working with kernel 6.1.20", "6.1"),
        ("It no longer works on 6.1.20", "6.1"),
        ("It works on 6.1.20", "none"),
        ("It doesn't happen, and works well on 6.1.20", "none"),
        ("I have qemu 9.2-rc1 here", "none"),
        # A wiki's: nobody says that his kernel is 5.14.
        ("Also, this behavior only exists on kernel 5.14 and onwards.", "none"),
        ("it needs to be kernel 5.14", "none"),
        # LKML, May 2002.
        ("Re: MTRR problem in kernel 4.7.2+ on Athlon+VIA?", "none"),
        ("I have kernel 5.16.0+ here", "5.16"),
        (
            "I thought installing DPDK required my Linux installation to be at Linux Kernel 5.0.0. "
            "However the build for kernel modules fails to build at kernel version 5.0.0.",
            "none",
        ),
        # net/socket.c prints that in 2.5.30 as well.
        ("Linux NET4.0 for Linux 2.4", "none"),
    ],
)
def test_a_kernel_in_a_sentence(words: str, series: str) -> None:
    assert kernel(f"{words}\n\n{FREED}") == series
