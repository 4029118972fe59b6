"""The collection of counters in a run, from a guest with files where a kernel with GCOV has them."""

from __future__ import annotations

from pathlib import Path

from pytest_memtype import Guest
from pytest_memtype.coverage.reading import Reading, readings
from pytest_memtype.run.counters import CounterCollector

PUT = """
mount -t tmpfs counters /sys/kernel/debug && mkdir -p /sys/kernel/debug/gcov/linux &&
printf adcg1234 > /sys/kernel/debug/gcov/linux/mm.gcda
"""


def of_tests(run: Path) -> list[Reading]:
    return [each for each in readings(run) if each.test]


def test_counters_of_a_template_and_of_its_clone(guest: Guest, tmp_path: Path) -> None:
    """The first clone reads what all of them begin with, so that its own counters begin with nothing."""
    assert guest.shell(PUT).status == 0
    first = CounterCollector(tmp_path)
    first.begin(guest, kernel="tree:x")
    (template,) = readings(tmp_path)
    assert (template.test, template.names, template.data) == ("", ("linux/mm.gcda",), b"adcg1234")

    first.end(guest, kernel="tree:x", test="test_it")

    (own,) = of_tests(tmp_path)
    assert (own.test, own.template, own.kernel, own.data) == ("test_it", "", "tree:x", b"adcg1234")
    # Another clone of that template, in another worker of the run, reads nothing and begins with it.
    second = CounterCollector(tmp_path)
    second.begin(guest, kernel="tree:x")
    second.end(guest, kernel="tree:x", test="test_other")
    second.end(guest, kernel="tree:x", test="test_that_shares_the_guest")
    assert [(each.test, each.template) for each in of_tests(tmp_path)[1:]] == [
        ("test_other", template.template),
        ("test_that_shares_the_guest", ""),
    ]


def test_a_guest_that_is_gone_has_taken_them_with_it(guest: Guest, tmp_path: Path) -> None:
    collector = CounterCollector(tmp_path)
    collector.end(guest, kernel="tree:x", test="test_without_any")
    guest.machine.close()
    collector.end(guest, kernel="tree:x", test="test_that_ends")
    without, ended = of_tests(tmp_path)
    assert without.lost.startswith("the kernel's counters can't be read: ")
    assert (ended.test, ended.names) == ("test_that_ends", ())
    assert ended.lost.startswith("the guest is ")
