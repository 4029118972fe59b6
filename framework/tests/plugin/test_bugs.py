"""Reproducers as pytest runs them, and the command about them, with real guests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main

REPRODUCERS = """
import pytest
from pytest_memtype import MemType

def facts(**more):
    return pytest.mark.bug(id="downgrade", title="WC becomes UC-", core="Process.mmap", **more)

def reproduce(guest, bug):
    bar = guest.mmio(pages=1)
    first, second = guest.process("X"), guest.process("Y")
    one = first.mmap(bar, MemType.UC_MINUS, via="sysfs").mapping
    two = second.mmap(bar, MemType.WC, via="sysfs")
    bug.harm(two.granted is MemType.UC_MINUS, f"got {two.granted}")
    return (first, one), (second, two.mapping)

@facts()
def test_present(guest, bug):
    reproduce(guest, bug)

@facts(fixed="5.5")
def test_wrong_facts(guest, bug):
    reproduce(guest, bug)

@facts()
def test_says_nothing(bug):
    pass

@facts(fixed="5.5")
def test_no_alias(guest, bug):
    bar = guest.mmio(pages=1)
    driver, process = guest.driver("drm"), guest.process("X")
    one, two = driver.ioremap(bar, MemType.WC), process.mmap(bar, MemType.WC)
    bug.alias((driver, one.mapping), (process, two.mapping))

@facts(fixed="5.5")
def test_not_one_page(guest, bug):
    bar = guest.mmio(pages=2)
    driver, process = guest.driver("drm"), guest.process("X")
    one, two = driver.ioremap(bar, MemType.WC), process.mmap(bar, MemType.WC)
    bug.alias((driver, one.mapping), (process, two.mapping, 1))

def test_no_facts(bug):
    pass
"""


def test_only_what_agrees_with_the_facts_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(REPRODUCERS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-v", "--kernel", "debian:bookworm")
    result.assert_outcomes(passed=2, failed=3, errors=1)
    result.stdout.re_match_lines(
        [
            r".*test_present\[.*\] REPRODUCED.*",
            r".*test_wrong_facts\[.*\] FAILED.*",
            r".*test_says_nothing\[.*\] FAILED.*",
            r".*test_no_alias\[.*\] ABSENT.*",
            r".*test_not_one_page\[.*\] FAILED.*",
            r".*test_no_facts\[.*\] ERROR.*",
        ]
    )
    result.stdout.fnmatch_lines_random(
        [
            "*doesn't have the bug, by what is known of it; but there was*",
            "harm: got UC-",
            "*the test never reported whether there was harm*",
            "*these are no mappings of one page: drm in the kernel WC, and X at 0x* WC*",
            "*the fixture bug needs the marker bug*",
            "*downgrade *FAILED*",
        ]
    )
    lines = (pytester.path / ".memtype" / "latest" / "bugs.jsonl").read_text().splitlines()
    cells = {cell["test"].partition("::")[2].partition("[")[0]: cell for cell in map(json.loads, lines)}
    assert cells["test_present"]["status"] == "REPRODUCED"
    assert cells["test_present"]["evidence"] == ["harm: got UC-"]
    (evidence,) = cells["test_no_alias"]["evidence"]
    assert evidence.startswith("no harm: page 0xfd0")
    assert "drm in the kernel WC, X at 0x" in evidence


def test_show_runs_what_was_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["bugs", "show", "silent-downgrade"])
    assert result.exit_code == 0, result.output
    assert "There is no record of it in this folder, so it is run now in QEMU" in result.output
    told = [line for line in result.output.splitlines() if "mmap sysfs" in line]
    assert told[-2].endswith("kernel accepted, page table UC-")
    assert " Y mmap sysfs WC [mem 0xfd" in told[-1]
    assert "verifier EBUSY alias with X: " in told[-1]
    assert told[-1].endswith("kernel accepted, page table UC-")
    again = CliRunner().invoke(main, ["bugs", "show", "silent-downgrade"])
    assert "so it is run now" not in again.output
    assert told[-1] in again.output


def test_list_says_what_each_kernel_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["bugs"])
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split() for line in result.output.splitlines() if line.strip()}
    assert "●" in rows["silent-downgrade"]
    assert "○" not in rows["silent-downgrade"]
    assert "○" in rows["mprotect-pat-bit"]
    assert "●" not in rows["mprotect-pat-bit"]


@pytest.mark.parametrize("arguments", [["run", "heartbleed"], ["show", "heartbleed"]])
def test_a_bug_nobody_knows(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["bugs", *arguments])
    assert result.exit_code == 2
    assert result.stderr == "memtype: no bug is called 'heartbleed'; memtype bugs lists them\n"


@pytest.mark.parametrize("command", [[], ["run"], ["show"], ["pages"]])
def test_help_has_examples(command: list[str]) -> None:
    result = CliRunner().invoke(main, ["bugs", *command, "--help"])
    assert result.exit_code == 0
    assert "Examples:\n    memtype bugs" in result.output
