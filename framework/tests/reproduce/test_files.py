"""The calls, the test and the summary that a report becomes."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_memtype import Guest, MemType
from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.dumps.read import read
from pytest_memtype.errors import UsageError
from pytest_memtype.explain.explanation import explain
from pytest_memtype.machine.layout_file import load_layout
from pytest_memtype.reproduce.attempt import Attempt
from pytest_memtype.reproduce.bug_facts import bug_facts
from pytest_memtype.reproduce.calls import calls_of
from pytest_memtype.reproduce.files import check_names, leave
from pytest_memtype.reproduce.outcome import Outcome, Verdict
from pytest_memtype.reproduce.plan import Plan, plan
from pytest_memtype.reproduce.said import complaints_in, pairs
from pytest_memtype.reproduce.wanted import Wanted, wanted

BOOKWORM = (6, 1, 192)

SPLIT = """6.1.90: mmap of a BAR, mprotect() of a part, then munmap():
x86/PAT: test:177 freeing invalid memtype [mem 0xfd000000-0xfd000fff]
"""
TPM = "6.12.9\nioremap error for 0xfed40000-0xfed45000, requested 0x2, got 0x0\n"
HOLE = """reg00: base=0x000000000 (    0MB), size= 4096MB, count=1: write-back
reg01: base=0x0c0000000 ( 3072MB), size= 1024MB, count=1: uncachable
mtrr: type mismatch for e0000000,1000000 old: write-back new: write-combining
"""
RAM_RANGE = "6.8.0\nx86/PAT: d:1 map pfn RAM range req uncached-minus for [mem {}], got write-back"
HOSTILE = 'x86/PAT: """;\\x1b[2J\x07é:1 freeing invalid memtype [mem 0xd0000000-0xd0000fff]\nkernel 6.1.5\n'


def planned(text: str) -> tuple[Wanted, Plan]:
    dump = read(text)
    what = wanted(dump)
    return what, plan(what, dump, BOOKWORM)


def outcome(text: str) -> Outcome:
    """What came of a report, in a guest that says its very lines."""
    what, found = planned(text)
    made = tuple((each, each) for part in found.parts for each in part.complaints)
    said = Attempt("6.1.0-0-cloud-amd64", "6.1.192-3", made, (), (), tuple(each.raw for each, _ in made))
    return Outcome(Verdict.REPRODUCED, "it says the same", what, found, BOOKWORM, (said,))


def written(text: str, folder: Path, *, bug: str | None = None) -> str:
    files = leave(outcome(text), folder, name="case", source="case.txt", answer="It happened.", bug=bug)
    return next(each for each in files if each.suffix == ".py").read_text()


def test_parts_of_a_mapping_are_in_pages() -> None:
    _, found = planned(SPLIT.replace("0xfd000fff", "0xfd003fff"))
    assert [str(each) for each in calls_of(found.parts[0])] == [
        "memory = guest.region(0xfd000000, 0x5000)",
        'process = guest.process("test")',
        "mapping_1 = process.mmap(memory[0:5], MemType.UC_MINUS).mapping",
        'process.mprotect(mapping_1, "r", offset=0, pages=4)',
        "process.munmap(mapping_1, offset=0, pages=4)",
    ]


def test_calls_do_in_a_guest_what_they_say(guest: Guest) -> None:
    _, found = planned(SPLIT)
    variables: dict[str, object] = {"guest": guest}
    for call in calls_of(found.parts[0]):
        call.make(variables)
    said = complaints_in("\n".join(guest.log))
    absent = guest.version >= (6, 16)
    assert [own is None for _, own in pairs(found.parts[0].complaints, said, offset=0)] == [absent]


@pytest.mark.parametrize("text", [SPLIT, TPM, HOLE, HOSTILE])
def test_the_test_is_python_and_looks_for_the_lines(text: str, tmp_path: Path) -> None:
    source = written(text, tmp_path)
    tree = ast.parse(source)
    assert source.isascii()
    assert [each.name for each in tree.body if isinstance(each, ast.FunctionDef)] == [
        "test_the_kernel_says_it_again"
    ]
    compile(tree, "test_case.py", "exec")
    line = outcome(text).wanted.complaints[0].raw.partition(" [mem")[0]
    assert any(words in source for words in (line, line.partition(":177 ")[2], "freeing invalid memtype"))
    assert "Source: " in source


def test_the_layout_and_the_summary(tmp_path: Path) -> None:
    written(HOLE, tmp_path)
    (tmp_path / "test_x.py").touch()
    layout = load_layout("case", [tmp_path])
    assert [(each.base, each.memtype) for each in layout.ranges] == [
        (0, MemType.WB),
        (0xC0000000, MemType.UC),
    ]
    text = (tmp_path / "case-summary.txt").read_text()
    assert text.startswith("case.txt: REPRODUCED: it says the same\n")
    assert "process.mtrr_add(0xe0000000, 0x1000000, MemType.WC)" in text
    assert "memtype run --kernel debian:6.1.0-0-cloud-amd64 test_case.py" in text


def test_a_bug_of_ones_own(tmp_path: Path) -> None:
    written(SPLIT, tmp_path, bug="bar-stays")
    (found,) = catalogue(tmp_path)
    assert (found.bug.id, found.bug.kind, found.bug.core) == ("bar-stays", "observed", "Process.munmap")
    # "mm: rewrite pfnmap tracking and remove VM_PAT", by the model.
    assert found.bug.fixed == "6.16"
    assert found.bug.present((6, 12, 1))
    assert "It happened." in found.story


def test_backports_by_the_model() -> None:
    text = """5.10.218. MAP_PRIVATE; fork: Cannot allocate memory
x86/PAT: poke:411 freeing invalid memtype [mem 0xfd090000-0xfd093fff]
"""
    dump = read(text)
    found = plan(wanted(dump), dump, (5, 10, 218))
    facts = bug_facts("x", found, (5, 10, 218))
    assert (facts.fixed, facts.backports) == ("6.15", ("6.1.162", "6.12.25"))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        # RAM above 4 GiB, which a guest may have.
        (
            RAM_RANGE.format("0x11c000000-0x11c0fffff"),
            0,
        ),
        # More RAM than is given to a guest.
        (
            RAM_RANGE.format("0x4011c000000-0x4011c0fffff"),
            1,
        ),
        # More bits than a guest's addresses have.
        ("6.8.0\nioremap error for 0x3ffc00000000-0x3ffc00010000, requested 0x4, got 0x1", 1),
        # The kernel's own, on q35.
        ("6.8.0\nioremap error for 0xb0000000-0xb0010000, requested 0x4, got 0x1", 1),
    ],
)
def test_another_address_is_said(text: str, where: int) -> None:
    _, found = planned(text)
    (part,) = found.parts
    assert (part.setting.offset != 0, len(part.setting.notes)) == (bool(where), where)


def test_numbers_that_no_machine_has() -> None:
    number = "f" * 400
    what, found = planned(f"kernel 6.1.5\nx86/PAT: a:1 freeing invalid memtype [mem 0x{number}-0x{number}]\n")
    assert (what.complaints, found.parts) == ((), ())


def test_many_ranges_are_bounded() -> None:
    lines = [
        f"ioremap error for {start:#x}-{start + 0x1000:#x}, requested 0x4, got 0x1"
        for start in range(0xD0000000, 0xD0000000 + 200 * 0x100000, 0x100000)
    ]
    what, found = planned("kernel 6.1.5\n" + "\n".join(lines))
    assert (len(found.parts), len(found.stuck)) == (6, 194)
    assert explain(read("\n".join(lines)), []).story.answer
    assert len(what.pages) == 200


def test_messages_that_hang_together_are_bounded() -> None:
    """Each range touches the next one, and cuts the memory further."""
    lines = [
        f"ioremap error for {start:#x}-{start + 0x1800:#x}, requested 0x4, got 0x1"
        for start in range(0xD0000000, 0xD0000000 + 400 * 0x1000, 0x1000)
    ]
    what, found = planned("kernel 6.1.5\n" + "\n".join(lines))
    assert (len(what.pages), len(found.parts), len(found.stuck)) == (1, 0, 400)


def test_what_is_said_ten_thousand_times_counts_once() -> None:
    one, other = (
        f"ioremap error for {start:#x}-{start + 0x1000:#x}, requested 0x4, got 0x1"
        for start in (0xD0000000, 0xD0100000)
    )
    what, found = planned("kernel 6.1.5\n" + f"{one}\n{other}\n" * 10_000)
    assert [len(each.messages) for each in what.pages] == [1, 1]
    assert (len(found.parts), found.stuck) == (2, ())
    # What can't all be compared is left out.
    far = [
        f"ioremap error for {start:#x}-{start + 0x1000:#x}, requested 0x4, got 0x1"
        for start in range(0xC0000000, 0xC0000000 + 3000 * 0x2000, 0x2000)
    ]
    what, _ = planned("kernel 6.1.5\n" + "\n".join(far))
    assert (len(what.pages), len(what.unknown)) == (1000, 2000)


def test_what_others_have_written_stays(tmp_path: Path) -> None:
    report, test = tmp_path / "case.txt", tmp_path / "test_case.py"
    report.write_text(SPLIT)
    text = written(SPLIT, tmp_path)
    assert report.read_text() == SPLIT
    # Its own it replaces.
    assert written(SPLIT, tmp_path) == text
    test.write_text("def test_by_hand(): pass\n")
    with pytest.raises(UsageError, match="not made by this command"):
        written(SPLIT, tmp_path)
    assert test.read_text() == "def test_by_hand(): pass\n"


@pytest.mark.parametrize("name", ["case.toml", "case-summary.txt", "test_case.py"])
def test_files_of_others_are_refused_before_anything_is_tried(name: str, tmp_path: Path) -> None:
    check_names(tmp_path / "none", name="case")
    (tmp_path / name).write_text('description = "by hand"\n')
    for written_or_asked in (lambda: written(HOLE, tmp_path), lambda: check_names(tmp_path, name="case")):
        with pytest.raises(UsageError, match=f"{name} is there, and not made by this command"):
            written_or_asked()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [
        (name, 'description = "by hand"\n')
    ]
    (tmp_path / name).unlink()
    written(HOLE, tmp_path)
    check_names(tmp_path, name="case")
    written(HOLE, tmp_path)


@pytest.mark.parametrize("source", ["case.txt", f"{'long ' * 17}case.txt", f"{'x' * 200}.txt"])
def test_a_layout_of_before_there_was_a_mark_is_replaced(source: str, tmp_path: Path) -> None:
    leave(outcome(HOLE), tmp_path, name="case", source=source, answer="It happened.")
    layout = tmp_path / "case.toml"
    text = layout.read_text()
    bare, mark, _ = text.partition("\n\n# Made by memtype reproduce")
    assert mark
    layout.write_text(bare)
    leave(outcome(HOLE), tmp_path, name="case", source=source, answer="It happened.")
    assert layout.read_text() == text
    # What isn't its own any more, and what never was.
    others = (f"{text}# and mine\n", f"{bare}\n\n", "# Of mine\n", f"# Mine.\n{bare}", f"x = 1\n# {bare}")
    for foreign in others:
        layout.write_text(foreign)
        with pytest.raises(UsageError, match="is there, and not made by this command"):
            check_names(tmp_path, name="case")


def test_a_guest_that_can_not_be_used_is_no_answer() -> None:
    done = outcome(SPLIT)
    lost = replace(done.attempts[0], trouble="QEMU ended")
    assert replace(done, verdict=Verdict.CANNOT, attempts=(lost,)).exit_status == 3
    assert replace(done, verdict=Verdict.CANNOT).exit_status == 0
    assert replace(done, verdict=Verdict.ANOTHER_KERNEL).exit_status == 1
