"""Texts that show several machines: what one has says nothing of the memory of another."""

from __future__ import annotations

import pytest

from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.dumps.facts import Kind
from pytest_memtype.dumps.machines import elsewhere
from pytest_memtype.dumps.read import read
from pytest_memtype.dumps.text import rows
from pytest_memtype.explain.explanation import Explanation, as_json, explain, sections
from pytest_memtype.explain.linux_source import age


def explained(text: str) -> Explanation:
    return explain(read(text), [each.bug for each in catalogue()])


def told(text: str, title: str) -> str:
    return "\n".join(line for each in sections(explained(text)) if each.title == title for line in each.lines)


REFUSED = (
    "x86/PAT: app:700 map pfn expected mapping type uncached-minus for [mem 0xe8000000-0xe8000fff], got "
)
REFUSED += "write-combining\n"
IOMEM = "e0000000-efffffff : PCI Bus 0000:01\n  e8000000-e8ffffff : 0000:01:00.0\n"
MTRRS = "reg00: base=0x000000000 (    0MB), size= 4096MB, count=1: write-back\n"
CONFLICT = "x86/PAT: java:41 conflicting memory types fe000000-fe800000 write-combining<->uncached-minus\n"
LIST = "PAT memtype list:\nPAT: [mem 0x00000000e8000000-0x00000000e9000000] uncached-minus\n"

# What others say and show below the reporter's words, each in the form of some tracker, forum or list.
OF_ANOTHER = [
    "Message #10 received at the tracker:\n",
    "### Post by otto on 2015-01-02\n",
    "--- Comment #4 from Otto <otto@example.org> 2012-03-05 10:00:00 UTC ---\n",
    "Otto Example (otto-e) wrote on 2011-04-05: #3\n",
    "otto commented on Mar 3\n",
    "Posted by: otto on 3 March 2015\n",
    "by otto » Tue Mar 03, 2015 10:11 am\n",
    "« Reply #3 on: March 03, 2015, 10:11:12 AM »\n",
    "From: Otto <otto@example.org>\n",
    "On my other laptop, where all is well:\n",
    "It is the same on another machine.\n",
    "Me too!\n",
    "In the guest:\n",
]


@pytest.mark.parametrize("heading", OF_ANOTHER)
def test_what_another_machine_has_is_not_told_of_the_first(heading: str) -> None:
    text = f"I have 5.15.80 here.\n{REFUSED}\n{heading}\n{IOMEM}\n{MTRRS}\n{LIST}\n{CONFLICT}"
    found = explained(text)
    memory = told(text, "The memory")
    assert "0000:01:00.0" not in memory
    assert "The MTRRs that the text lists may be another machine's." in memory
    assert not found.about.entries
    assert found.known_bug == "none"
    assert [each.aside for each in found.dump.complaints] == [False, True]
    # It is understood, and the line is told.
    assert not found.dump.unread
    assert "java:41" in told(text, "Besides")
    assert found.machine is not None
    assert any("another machine" in note for note in found.machine.notes)


@pytest.mark.parametrize(
    "heading",
    [
        "### Post by ann on 2015-01-03\n",
        "--- Comment #5 from Ann <ann@example.org> 2012-03-06 ---\n",
        "Here are the lists:\n",
    ],
)
def test_the_same_speaker_goes_on(heading: str) -> None:
    first = heading.replace("#5", "#3").replace("03-06", "03-04")
    text = f"{first}{REFUSED}\n{heading}\n{IOMEM}\n{MTRRS}"
    assert "It is 0000:01:00.0 (/proc/iomem): all of it." in told(text, "The memory")
    assert "The MTRRs say" in told(text, "The memory")


HOSTS = """\
Mar 03 09:00:01 {0} kernel: Linux version 5.15.0-97-generic (buildd@box) (gcc) #107-Ubuntu SMP
Mar 03 09:00:01 {0} kernel: BIOS-e820: [mem 0x00000000e0000000-0x00000000efffffff] reserved
Mar 03 10:11:12 {1} kernel: {2}
"""


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("alpha", "beta", False),
        ("alpha", "alpha.example.org", True),
        # The name that a machine has until it has read its own.
        ("localhost", "alpha", True),
    ],
)
def test_lines_of_two_hosts(first: str, second: str, same: bool) -> None:
    text = HOSTS.format(first, second, REFUSED.strip())
    assert (as_json(explained(text))["kernel"] == "5.15") is same
    assert ("It is reserved (e820)" in told(text, "The memory")) is same
    assert ("doesn't say that it is of that kernel" in told(text, "The kernel")) is not same


@pytest.mark.parametrize(("host", "same"), [("box1", True), ("box2", False)])
def test_what_a_shell_prints_is_of_its_prompts_host(host: str, same: bool) -> None:
    text = f"root@box1:~# dmesg | tail -1\n{REFUSED}root@{host}:~# uname -r\n6.8.12-4-pve\n"
    text += f"root@{host}:~# cat /proc/iomem\n{IOMEM}"
    assert (as_json(explained(text))["kernel"] == "6.8") is same
    assert ("0000:01:00.0" in told(text, "The memory")) is same


def test_hosts_in_a_log_of_another_language() -> None:
    text = HOSTS.replace("Mar 03", "juin 12").format("alpha", "beta", REFUSED.strip())
    assert as_json(explained(text))["kernel"] == "none"


def test_words_between_the_lines_of_two_hosts_deny_no_kernel() -> None:
    lines = HOSTS.replace("Linux version 5.15.0-97-generic", "").format("alpha", "beta", REFUSED.strip())
    kernel = told(f"I have kernel 5.10.3 here.\n{lines}", "The kernel")
    assert kernel == "The text names Linux 5.10.3 (line 1), and doesn't say that it is of that kernel."


def test_a_listing_between_the_lines_of_two_hosts_is_nobodys() -> None:
    text = HOSTS.format("alpha", "beta", REFUSED.strip())
    assert "The MTRRs that the text lists may be another" in told(f"{text}/proc/mtrr:\n{MTRRS}", "The memory")
    one = HOSTS.format("beta", "beta", REFUSED.strip())
    assert "The MTRRs say" in told(f"{one}/proc/mtrr:\n{MTRRS}", "The memory")


BOOT = """\
[    0.000000] Linux version 5.4.0-42-generic (buildd@box) (gcc) #46-Ubuntu SMP
[    0.000000] DMI: {}
[    0.000000] BIOS-e820: [mem 0x00000000d0000000-0x00000000dfffffff] {}
"""
ERROR = "[   12.000000] ioremap error for 0xd8000000-0xd8001000, requested 0x2, got 0x0\n"


@pytest.mark.parametrize(("name", "types"), [("Other Inc. B/2", 1), ("Some Inc. A/1", 2)])
def test_boots_of_machines_with_other_names(name: str, types: int) -> None:
    text = f"{BOOT.format(name, 'reserved')}\n{BOOT.format('Some Inc. A/1', 'usable')}{ERROR}"
    assert told(text, "The memory").count("(e820)") == types
    assert read(text).machine == "Some Inc. A/1"


MAIL = """\
On Mon, Jan 2, 2023, Dev wrote:
> On Sun, Jan 1, 2023, Rep wrote:
{}> > {}{}> Please send /proc/iomem.

{}
"""


def test_who_quotes_and_who_is_quoted_are_two() -> None:
    text = MAIL.format("", REFUSED, "", IOMEM)
    assert "0000:01:00.0" in told(text, "The memory")
    quoted = "".join(f"> {line}\n" for line in IOMEM.splitlines())
    assert "0000:01:00.0" not in told(MAIL.format("", REFUSED, quoted, ""), "The memory")
    # Marks without words on who wrote it are somebody's way to show a log.
    assert "0000:01:00.0" in told(f"I get:\n> {REFUSED}\n{IOMEM}", "The memory")


def test_a_log_whose_time_begins_below_a_later_line_is_another() -> None:
    later = f"[  100.000000] {REFUSED}"
    log = "[    0.000000] Linux version 5.4.0 (x@y) (gcc) #1\n[    0.000000] Command line: ro nopat\n"
    assert read(f"{later}\n{log}").command_line is None
    # Below its banner it is of that log, and so is a line that somebody took out of it.
    assert read(f"{log}{later}").command_line == "ro nopat"
    assert read(f"{later}\nAll of it:\n{log}{later}").command_line == "ro nopat"


def test_the_form_of_another_machines_message_says_nothing_of_the_age() -> None:
    old = "X:1 freeing invalid memtype d0000000-d0010000\n"
    assert age(read(f"{REFUSED}\nMe too!\n{old}")) == age(read(REFUSED))
    assert age(read(f"{REFUSED}\n{old}")) != age(read(REFUSED))


def test_boots_with_other_command_lines_at_one_time() -> None:
    text = "".join(
        f"[    0.000000] Command line: ro root=/dev/sda1 {more}\n[    0.700000] {line}\n"
        for more, line in [
            ("", "mtrr: type mismatch for d0000000,10000000 old: write-back new: write-combining"),
            ("enable_mtrr_cleanup", "mtrr: no more MTRRs available"),
        ]
    )
    dump = read(text)
    assert dump.command_line == "ro root=/dev/sda1"
    assert not dump.of(Kind.MTRR_FULL)


def test_a_text_of_one_machine_has_nothing_elsewhere() -> None:
    text = f"Hello,\n{REFUSED}\n{IOMEM}\nThe other register is free, on the same host bridge.\n{MTRRS}"
    assert elsewhere(rows(text.encode()), 2) == frozenset()
    assert elsewhere(rows(text.encode()), 99) == frozenset()


HERE = "PAT: [mem 0x00000000e0000000-0x00000000e1000000] {}\n"


@pytest.mark.parametrize(
    "text",
    [
        f"Before:\nPAT memtype list:\n{HERE.format('uncached-minus')}After:\nPAT memtype list:\n"
        f"{HERE.format('write-combining')}",
        f"In the one mode it is\n{HERE.format('uncached-minus')}and in the other\n"
        f"{HERE.format('write-combining')}",
    ],
)
def test_two_lists_of_reservations_are_of_two_times(text: str) -> None:
    answer = explained(f"{text}\nWhy is 0xe0000000 write-combining now?\n").story.answer
    assert answer.startswith("the text has several lists of reservations, which differ there: uncached-minus")


def test_one_list_that_has_a_range_twice() -> None:
    text = f"PAT memtype list:\n{HERE.format('uncached-minus')}{HERE.format('write-combining')}"
    answer = explained(f"{text}\nWhat is at 0xe0000000?\n").story.answer
    assert answer == "e0000000-e0ffffff is write-combining and uncached-minus in the list of reservations"
