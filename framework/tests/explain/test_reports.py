"""Reports of all kinds, and what has to be said of each: nothing wrong, and nothing not in the text."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.bugs.facts import Bug
from pytest_memtype.dumps.facts import Kind
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import as_json, explain, sections
from pytest_memtype.x86.size import parse_size

FOLDER = Path(__file__).parent / "reports"
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads((FOLDER / "expected.toml").read_text())


@pytest.fixture(scope="module")
def bugs() -> list[Bug]:
    return [each.bug for each in catalogue()]


def test_every_report_has_its_expectation() -> None:
    assert {each.stem for each in FOLDER.glob("*.txt")} == set(EXPECTED)


def check(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for key, value in expected.items():
        if key == "layout":
            listed = [[parse_size(base), parse_size(size), kind] for base, size, kind in value["ranges"]]
            got = [
                [parse_size(base), parse_size(size), kind] for base, size, kind in found["layout"]["ranges"]
            ]
            assert got == listed
            assert {name: found["layout"][name] for name in value if name != "ranges"} == {
                name: value[name] for name in value if name != "ranges"
            }
        else:
            assert found[key] == value, key


@pytest.mark.parametrize("name", EXPECTED)
def test_report(name: str, bugs: list[Bug]) -> None:
    explanation = explain(read((FOLDER / f"{name}.txt").read_bytes()), bugs)
    check(as_json(explanation), EXPECTED[name])
    words = "\n".join(line for section in sections(explanation) for line in section.lines)
    assert words
    assert "None" not in words


# What a mail, a terminal and a journal do to a log.
def quoted(lines: list[str]) -> list[str]:
    return [f"> > {line}" for line in lines]


def html_quoted(lines: list[str]) -> list[str]:
    escaped = [line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for line in lines]
    return ["<div><pre>", *(f"{line}<br>" for line in escaped), "</pre></div>"]


def journal(lines: list[str]) -> list[str]:
    return [f"Jan 09 11:02:41 box kernel: {line}" for line in lines]


def levels(lines: list[str]) -> list[str]:
    return [f"<4>[  158.439198] {line}" for line in lines]


def decoded_by_dmesg(lines: list[str]) -> list[str]:
    return [f"kern  :warn  : [Tue Jan  9 11:02:41 2024] {line}" for line in lines]


def callers(lines: list[str]) -> list[str]:
    return [f"[  158.439198][ T1234] {line}" for line in lines]


def iso(lines: list[str]) -> list[str]:
    return [f"2024-01-09T11:02:41.123456+01:00 box kernel: [  158.439198] {line}" for line in lines]


def kmsg(lines: list[str]) -> list[str]:
    return [f"4,339,158439198,-;{line}" for line in lines]


def windows(lines: list[str]) -> list[str]:
    return [f"{line}\r" for line in lines]


DRESSES = (quoted, html_quoted, journal, levels, decoded_by_dmesg, callers, iso, kmsg, windows)

REFUSED = (
    "x86/PAT: CPU 0/KVM:1480 map pfn expected mapping type write-combining for "
    "[mem 0xe0000000-0xe0ffffff], got write-back"
)
ADDED = "x86/PAT: memtype_reserve added [mem 0xd0000000-0xd0ffffff], track uncached-minus,"
MESSAGES = {
    "x86/PAT: bar:tool:92 conflicting memory types ca000000-ca800000 uncached-minus<->write-combining": {
        "range": ["0xca000000", "0xca7fffff"],
        "held": ["UC_MINUS", "WC"],
        "known_bug": "none",
    },
    REFUSED: {
        "range": ["0xe0000000", "0xe0ffffff"],
        "held": ["WB"],
        "asked": "WC",
        "known_bug": "wb-first",
    },
    "x86/PAT: daq:23 map pfn RAM range req uncached for [mem 0x11c000000-0x11c0fffff], got uncached-minus": {
        "range": ["0x11c000000", "0x11c0fffff"],
        "held": ["UC_MINUS"],
        "asked": "UC",
        "granted": "UC_MINUS",
    },
    "ioremap error for 0xfed40000-0xfed45000, requested 0x4, got 0x1": {
        "range": ["0xfed40000", "0xfed44fff"],
        "held": ["WC"],
        "asked": "WT",
        "known_bug": "none",
    },
    "ioremap error for 0xfed40000-0xfed45000, requested 0x10, got 0x0": {
        "range": ["0xfed40000", "0xfed44fff"],
        "held": ["WB"],
        "asked": "UC_MINUS",
        "known_bug": "wb-first",
    },
    "Xorg:1234 map pfn expected mapping type uncached-minus for d0000000-d1000000, got write-back": {
        "range": ["0xd0000000", "0xd0ffffff"],
        "held": ["WB"],
        "asked": "UC_MINUS",
        "known_bug": "wb-first",
    },
    "x86/PAT: reserve_ram_pages_type failed [mem 0x100000000-0x100000fff], track 0x1, req 0x2": {
        "range": ["0x100000000", "0x100000fff"],
        "held": ["WC"],
        "asked": "UC_MINUS",
        "known_bug": "ram-not-counted",
    },
    "ioremap on RAM at 0x0000000002785000 - 0x0000000002785fff": {
        "range": ["0x2785000", "0x2785fff"],
        "known_bug": "ioremap-ram",
    },
    f"{ADDED} req write-combining, ret uncached-minus": {
        "range": ["0xd0000000", "0xd0ffffff"],
        "held": ["UC_MINUS"],
        "asked": "WC",
        "granted": "UC_MINUS",
        "known_bug": "silent-downgrade",
    },
    # The MTRRs may be why.
    f"{ADDED} req write-back, ret uncached-minus": {
        "range": ["0xd0000000", "0xd0ffffff"],
        "held": "none",
        "asked": "WB",
        "granted": "UC_MINUS",
        "known_bug": "none",
    },
    "mtrr: type mismatch for e0000000,1000000 old: uncachable new: write-combining": {
        "range": ["0xe0000000", "0xe0ffffff"],
        "held": ["UC"],
        "asked": "WC",
    },
}


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("dress", DRESSES)
def test_message_in_any_dress(message: str, dress: Any, bugs: list[Bug]) -> None:
    text = "\n".join(
        ["Hello,", "this is what dmesg has:", *dress(["something else", message, "more of it"]), "Thanks"]
    )
    check(as_json(explain(read(text), bugs)), MESSAGES[message])


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("terminal", [False, True])
def test_message_wrapped_anywhere(message: str, terminal: bool, bugs: list[Bug]) -> None:
    chosen = random.Random(23)
    # A mail program wraps at spaces, a terminal anywhere behind the first words.
    first = len("x86/PAT: bar:tool:92 ")
    places = [at for at in range(first, len(message) - 1) if terminal or message[at] == " "]
    for place in chosen.sample(places, min(12, len(places))):
        head, tail = message[:place], message[place:].lstrip()
        text = f"[  158.439198] {head}\n{tail}\n[  158.500000] next"
        found = as_json(explain(read(text), bugs))
        for key in ("range", "held", "asked"):
            # It may be too broken to be understood, but nothing wrong may be said.
            assert found[key] in (MESSAGES[message].get(key, found[key]), "none"), (place, key)
        if not terminal:
            assert found["range"] == MESSAGES[message]["range"], place


@pytest.mark.parametrize("message", MESSAGES)
def test_message_cut_anywhere(message: str, bugs: list[Bug]) -> None:
    for end in range(10, len(message)):
        found = as_json(explain(read(f"[  158.439198] {message[:end]}"), bugs))
        for key in ("range", "held", "asked", "granted"):
            allowed = MESSAGES[message].get(key, "none")
            # The last number or word may be a part of a longer one only where nothing has to follow it.
            near = end >= len(message) - 6
            assert near or found[key] in (allowed, "none"), (message[:end], key, found[key])


@pytest.mark.parametrize(
    "line",
    [
        "x86/PAT: Overlap at 0xc0000000-0xd0000000",
        "x86/PAT: memtype_free request [mem 0xc0000000-0xcfffffff]",
        "x86/PAT: something that no kernel has said yet about memory types",
    ],
)
@pytest.mark.parametrize("prefix", ["[    1.000000] ", ""])
def test_lines_about_memory_types_are_not_denied(line: str, prefix: str, bugs: list[Bug]) -> None:
    answer = explain(read(prefix + line), bugs).story.answer
    assert answer != "nothing here is about memory types"


# The words of cloud-hypervisor#1752.
_NO_MTRRS = """\
[    0.000196] Disabled
[    0.000198] x86/PAT: MTRRs disabled, skipping PAT initialization too.
[    0.000207] CPU MTRRs all blank - virtualized system.
[    0.000212] x86/PAT: Configuration [0-7]: WB  WT  UC- UC  WB  WT  UC- UC
Expected output:
[    0.000229] x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WP  UC- WT
"""


def test_mtrrs_that_are_off_have_no_default_type_that_decides(bugs: list[Bug]) -> None:
    dump = read(_NO_MTRRS)
    assert explain(dump, bugs).story.answer.startswith(
        "the MTRRs are off, or the CPU has none; the PAT isn't set up either"
    )
    assert dump.unread == ()


# The words of NixOS' nixpkgs#15679, Linux 4.4.11.
_MULTIPLE_BARS = """\
[    0.519400] WARNING: CPU: 0 PID: 1 at arch/x86/mm/ioremap.c:198 __ioremap_caller+0x2de/0x360()
[    0.519403] Info: mapping multiple BARs. Your kernel is fine.
[    0.519414] CPU: 0 PID: 1 Comm: swapper/0 Not tainted 4.4.11 #1-NixOS
[    0.519438] Call Trace:
[    0.519448]  [<ffffffff812b8fce>] dump_stack+0x63/0x85
[    0.519455]  [<ffffffff8106e5b2>] warn_slowpath_common+0x82/0xc0
[    0.519473]  [<ffffffff8105fbae>] __ioremap_caller+0x2de/0x360
[    0.519479]  [<ffffffff8105fc47>] ioremap_nocache+0x17/0x20
[    0.519484]  [<ffffffff8103a0fa>] snb_uncore_imc_init_box+0x6a/0x90
"""


def test_a_warning_that_the_kernel_calls_fine_is_no_danger(bugs: list[Bug]) -> None:
    story = explain(read(_MULTIPLE_BARS), bugs).story
    assert story.answer.startswith("snb_uncore_imc_init_box() mapped memory of several resources")
    assert story.danger.startswith("no sign of it")


def test_a_harmless_warning_hides_no_other(bugs: list[Bug]) -> None:
    later = "[    9.000000] WARNING: CPU: 0 PID: 9 at arch/x86/mm/pat/memtype.c:1000 untrack_pfn+0x2d/0x36\n"
    story = explain(read(_MULTIPLE_BARS + later), bugs).story
    assert story.answer.startswith("untrack_pfn() has warned")
    assert story.danger.startswith("maybe")


def test_the_driver_is_named_and_not_what_maps_for_it(bugs: list[Bug]) -> None:
    text = _MULTIPLE_BARS.replace("ioremap_nocache+0x17/0x20", "pci_ioremap_bar+0x17/0x20")
    assert explain(read(text), bugs).story.answer.startswith("snb_uncore_imc_init_box() mapped")


@pytest.mark.parametrize(
    "text",
    ["Memory Type: DDR4", "<feature policy='require' name='mtrr'/>", "-cpu qemu64,-mtrr", "Hi Pat: hello"],
)
def test_words_of_others_are_not_about_memory_types(text: str, bugs: list[Bug]) -> None:
    assert explain(read(text), bugs).story.answer == "nothing here is about memory types"


def test_a_trace_begins_with_who_called_the_function_that_warned() -> None:
    (warning,) = read(_MULTIPLE_BARS).of(Kind.WARNING)
    assert warning.trace == ("ioremap_nocache", "snb_uncore_imc_init_box")


def test_ioremap_refuses_what_it_warns_of(bugs: list[Bug]) -> None:
    """As its source says: nothing stays behind."""
    text = (
        "WARNING: CPU: 0 PID: 1 at arch/x86/mm/ioremap.c:223 __ioremap_caller (arch/x86/mm/ioremap.c:223)\n"
    )
    assert explain(read(text), bugs).story.danger.startswith("no sign of it")


def test_a_line_of_freebsds_is_not_judged_by_linux(bugs: list[Bug]) -> None:
    """Its drivers are Linux', and add the number."""
    line = "Failed to add WC MTRR for [0xe0000000-0xefffffff]"
    story = explain(read(f"{line}: -22; performance may suffer\n"), bugs).story
    assert "error 22" in story.answer
    assert "FreeBSD" in story.answer
    assert story.rule == ""
    assert "mtrr.c" in explain(read(f"{line}; performance may suffer\n"), bugs).story.rule
    linux = f"Linux version 6.1.50 (x@y)\n{line}: -22; performance may suffer\n"
    assert "FreeBSD" not in explain(read(linux), bugs).story.answer


def test_a_listing_that_nobody_reads_is_not_denied(bugs: list[Bug]) -> None:
    text = "> show mtrr\nNo  Type            From         To\n00  Writeback       000000000    07fffffff\n"
    answer = explain(read(text), bugs).story.answer
    assert answer == "what the text has about memory types wasn't understood"


@pytest.mark.parametrize("cut", [True, False])
def test_a_line_that_is_there_is_not_called_missing(cut: bool) -> None:
    """The line above says why; it may be cut, or stand elsewhere."""
    failed = (
        "x86/PAT: memtype_reserve failed [mem 0xf0000000-0xf0000fff], track uncached-minus, req write-back"
    )
    conflict = "x86/PAT: Xorg:1 conflicting memory types f0000000-f0001000"
    rest = " uncached-minus<->write-combining"
    lines = [conflict, failed] if cut else [failed, conflict + rest]
    answer = as_json(explain(read("\n".join(lines)), []))["answer"]
    assert "which the text lacks" not in answer


def test_a_text_that_was_not_read_to_its_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("text", "read"):
        monkeypatch.setattr(f"pytest_memtype.dumps.{module}.MOST_LINES", 1000)

    def unread(text: str) -> list[str]:
        found = sections(explain(read(text), []))
        return [line for each in found if each.title == "Not understood" for line in each.lines]

    assert [each for each in unread("a\n" * 3000) if "its end, which wasn't read" in each]
    assert not [each for each in unread("a\n" * 900) if "its end" in each]


LIST = "\nPAT memtype list:\nPAT: [mem 0x00000000fd000000-0x00000000fd001000] {}\n"


@pytest.mark.parametrize(
    ("question", "memtype", "answer"),
    [
        ("Is it uncached?", "uncached", "yes: "),
        ("Is it uncached?", "uncached-minus", "yes: "),
        ("Is it uncached-minus?", "uncached", "no: "),
        ("Is it uncached?", "write-back", "no: "),
        ("My NIC is slow, is its BAR at fd000000 write-combining? I think so.", "write-combining", "yes: "),
        ("Are both cached now?", "write-back", "yes: "),
        # Yes and no are no answers, or the wrong way round.
        ("Is there any way to make this write-combining?", "uncached-minus", ""),
        ("Why is this uncached?", "uncached-minus", ""),
        ("Is it not cached?", "uncached-minus", ""),
        ("Why isn't that write-combining?", "uncached-minus", ""),
        ("Is it cached or uncached?", "uncached-minus", ""),
        ("Is write-combining supported?", "uncached-minus", ""),
    ],
)
def test_yes_and_no(question: str, memtype: str, answer: str) -> None:
    told = explain(read(question + LIST.format(memtype)), []).story.answer
    assert told == f"{answer}fd000000-fd000fff is {memtype} in the list of reservations"


OFF = "[    0.000000] x86/mtrr: MTRRs disabled (not available)\n"


@pytest.mark.parametrize(
    ("kernel", "lines", "used", "uncached"),
    [
        ("6.12.60", "", True, True),
        ("6.12.60", "[    0.000000] x86/PAT: PAT support disabled via boot option.\n", False, False),
        ("6.12.60", "[    0.000000] x86/PAT: PAT not supported by the CPU.\n", False, False),
        # 90b926e68f50 was in 6.1.7 to 6.1.32.
        ("6.1.6", "", False, True),
        ("6.1.8", "", False, False),
        ("6.1.33", "", False, True),
        ("6.1.0-18-amd64", "", False, False),
        ("5.18.3", "", False, False),
    ],
)
def test_mtrrs_that_are_off(kernel: str, lines: str, used: bool, uncached: bool) -> None:
    story = explain(read(f"[    0.000000] Linux version {kernel} (x@y)\n{lines}{OFF}"), []).story
    answer = story.answer
    assert ("the PAT is used all the same" in answer) == used
    assert ("who asks for write-back gets uncached" in answer) == uncached
    # pat_enabled() is true of a PAT that isn't set up only under a hypervisor (init_cache_modes(), 5.19).
    assert ("in a virtual machine who asks" in answer) == (uncached and not used)
    if lines:
        assert "the PAT isn't used either: " in answer
        assert story.danger.startswith("maybe: nobody checks")


def test_mtrrs_that_a_hypervisor_lacks() -> None:
    known = "[    0.000000] Linux version 6.1.90 (x@y)\n[    0.000000] Hypervisor detected: KVM\n"
    answer = explain(read(known + OFF), []).story.answer
    assert "and who asks for write-back gets uncached" in answer


@pytest.mark.parametrize(
    ("kernel", "tail", "last"),
    [("4.4.1", False, False), ("4.5.1", True, False), ("6.15.1", True, False), ("6.17.8", False, True)],
)
def test_what_frees_a_reservation_by_version(kernel: str, tail: bool, last: bool) -> None:
    """The rule of the tail is of 4.5 (2039e6acaf94) to 6.15; drivers still free what isn't there later."""
    freed = "x86/PAT: t:9 freeing invalid memtype [mem 0xfd000000-0xfd000fff]"
    story = explain(read(f"[    0.000000] Linux version {kernel} (x@y)\n{freed}"), []).story
    assert ("longer and ends there" in story.rule) == tail
    assert any("6.16 or later" in each for each in story.advice) != last


def test_a_mapping_around_a_resource_is_no_part_of_it() -> None:
    answer = explain(
        read(
            "resource sanity check: requesting [mem 0x000c0000-0x000fffff], which spans more than PCI Bus "
            "0000:00 [mem 0x000d0000-0x000dffff window]"
        ),
        [],
    ).story.answer
    assert "which reaches beyond PCI Bus 0000:00 (0xd0000-0xdffff (64K))" in answer
    assert "a part of" not in answer
