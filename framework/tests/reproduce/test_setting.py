"""The machines that fit a report: as it says, as far as a guest can be so, and few kinds of them."""

from __future__ import annotations

import pytest

from pytest_memtype import MemType
from pytest_memtype.dumps.facts import Dump
from pytest_memtype.dumps.read import read
from pytest_memtype.machine.hardware import MIB, SPLIT_FROM
from pytest_memtype.machine.layout import intended
from pytest_memtype.reproduce.plan import plan
from pytest_memtype.reproduce.setting import Setting, settings
from pytest_memtype.reproduce.step import Step
from pytest_memtype.reproduce.wanted import PageLines, wanted
from pytest_memtype.spec.linux_messages import Event, Message
from pytest_memtype.x86.mtrr_runs import runs

PAGE = 4096


def of_ram(end: int) -> Setting:
    lines = PageLines((), (Message(Event.IOREMAP_ON_RAM, end - PAGE, end),))
    return next(settings(Dump(), lines))


@pytest.mark.parametrize(
    "end", [SPLIT_FROM - MIB, SPLIT_FROM - 2 * MIB, SPLIT_FROM - 64 * MIB, SPLIT_FROM - PAGE]
)
def test_ram_below_where_it_is_split_has_room_above_it(end: int) -> None:
    """With one MiB more there would be none at all between 2 and 4 GiB, so it is elsewhere."""
    setting = of_ram(end)
    assert setting.offset
    assert setting.notes
    assert setting.hardware.memory_bytes - (end + setting.offset) >= 32 * MIB


def test_reports_of_much_the_same_memory_have_guests_alike() -> None:
    assert len({of_ram(end).hardware for end in range(100 * MIB, 300 * MIB, 10 * MIB)}) == 2

    def layouts(start: int) -> list[object]:
        message = Message(Event.IOREMAP_REFUSED, start, start + 5 * PAGE, MemType.WC, (MemType.WB,))
        return [each.layout for each in settings(Dump(), PageLines((), (message,))) if not each.ram]

    assert layouts(0xFD000000) == layouts(0xFD0F3000) == layouts(0xFE000000 - 5 * PAGE)
    assert layouts(0xFD000000) != layouts(0xFC000000)


def test_a_large_page_lies_over_two_types() -> None:
    """The first isn't UC: since 6.5 that hides what follows it (docs/bugs/large-page-mtrrs.md)."""
    for own in ("", "reg00: base=0x0fd200000 ( 4050MB), size=    1MB, count=1: write-combining\n"):
        words = "with a huge-page mapping due to MTRR override."
        report = read(f"{own}pmd_set_huge: Cannot satisfy [mem 0xfd200000-0xfd400000] {words}\n")
        what = wanted(report)
        assert (what.complaints, what.unknown) == (report.complaints, ())
        (part,) = plan(what, report, (6, 1, 192)).parts
        state = intended(part.setting.layout, physical_bits=40)
        first, second = (run.memtype for run in runs(state, 0xFD200000, 0xFD400000))
        assert first is MemType.WC
        assert second is not MemType.WC
        assert part.steps == (Step("ioremap", 0, 1, MemType.UC_MINUS),)


def test_what_the_boot_said_is_asked_of_another_machine_than_a_large_page() -> None:
    words = "with a huge-page mapping due to MTRR override."
    large = f"pmd_set_huge: Cannot satisfy [mem 0xfd200000-0xfd400000] {words}\n"
    report = read(f"Command line: quiet nopat\nx86/PAT: PAT support disabled via boot option.\n{large}")
    boot, page = plan(wanted(report), report, (6, 1, 192)).parts
    assert [len(each.complaints) for each in (boot, page)] == [1, 1]
    assert not boot.setting.pat


def test_a_range_that_is_no_large_page_is_said_to_be_unknown() -> None:
    words = "with a huge-page mapping due to MTRR override."
    report = read(f"pmd_set_huge: Cannot satisfy [mem 0xfd201000-0xfd400000] {words}\n")
    assert wanted(report).unknown == report.complaints


def test_a_command_line_of_many_words() -> None:
    """A guest's has no room for 2 KB; of parameters that are there twice the kernel takes the last."""
    words = " ".join(f"mtrr_chunk_size={n}M mtrr_word{n}={'x' * 40}" for n in range(25))
    report = read(
        f"Command line: root=/dev/sda1 enable_mtrr_cleanup {words} disable_mtrr_trimmed disable_mtrr_trim\n"
        "mtrr_cleanup: can not find optimal value\n"
    )
    setting = next(settings(report, None))
    assert setting.hardware.cmdline == "enable_mtrr_cleanup mtrr_chunk_size=24M disable_mtrr_trim"


def test_headings_alone_are_no_machine_without_registers() -> None:
    headings = "MTRR default type: uncachable\nMTRR fixed ranges enabled:\nMTRR variable ranges enabled:\n"
    register = "reg00: base=0x000000000 (    0MB), size= 2048MB, count=1: write-back\n"
    assert next(settings(read(headings), None)).layout.ranges == ()
    assert next(settings(read(headings), None)).layout.default is None
    assert [each.memtype for each in next(settings(read(headings + register), None)).layout.ranges] == [
        MemType.WB
    ]
