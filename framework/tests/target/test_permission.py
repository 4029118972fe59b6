"""The file that says what tests may use of somebody's machine."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from memtype_support.target_facts import SAID

from pytest_memtype.errors import UsageError
from pytest_memtype.target.facts import Facts, parse_facts
from pytest_memtype.target.permission import (
    AllowedRange,
    TargetConfig,
    candidate,
    check,
    load_permission,
    missing,
)

FACTS = parse_facts(SAID, where="lab")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(text)
    return path


def memory(address: str = "0xfd000000", size: str = '"16M"', what: str = '"VRAM"') -> str:
    return f"[[memory]]\naddress = {address}\nsize = {size}\nwhat = {what}\n"


def test_everything_it_may_say(tmp_path: Path) -> None:
    text = f"shell = true\nprintk = 8\nlease = 20\n{memory()}{memory('0xfebc1000', '4096')}"
    found = load_permission(written(tmp_path, text))
    assert found == TargetConfig(
        (AllowedRange(0xFD000000, 16 << 20, "VRAM"), AllowedRange(0xFEBC1000, 4096, "VRAM")),
        shell=True,
        printk=8,
        lease=20,
    )
    assert found.allowed == "0xfd000000-0xfdffffff,0xfebc1000-0xfebc1fff"
    check(found, FACTS, where="lab.toml")


def test_without_a_word_nothing_is_allowed(tmp_path: Path) -> None:
    found = load_permission(written(tmp_path, ""))
    assert (found.allowed, found.shell, found.printk) == ("none", False, None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("memory = 3", r"write \[\[memory\]\]"),
        ("memory", "not TOML"),
        ("memory = " + "[" * 100_000, "nested too deeply"),
        ("everything = true", "'everything' is not known"),
        ("shell = 1", "true or false"),
        ("printk = 9", "a number from 1 to 8"),
        ("lease = true", "a number from 5 to 3600"),
        ("[[memory]]\naddress = 0", "address, size and what"),
        (memory(what='"x"\ntype = "WC"'), "nothing else"),
        (memory(address="0xfd000001"), "not whole pages"),
        (memory(size="100"), "not whole pages"),
        (memory(size="0"), "not whole pages"),
        (memory(size='"a lot"'), "numbers, or text such as"),
        (memory(size="true"), "numbers, or text such as"),
        (memory(what='" "'), "says in words"),
    ],
)
def test_one_line_says_what_is_wrong_with_it(tmp_path: Path, text: str, why: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match=why) as raised:
        load_permission(path)
    assert str(raised.value).startswith(str(path))
    assert len(raised.value.message.splitlines()) == 1


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"can't be read \(No such file"):
        load_permission(tmp_path / "lab.toml")


@pytest.mark.parametrize(
    ("start", "size", "why"),
    [
        (0x1000, 0x1000, "System RAM on the target"),
        (0x9800000, 0x1000, "System RAM on the target"),
        (0, 0x1000 << 20, "System RAM on the target"),
        (0xFC000000, 0x2000000, "doesn't lie in the memory of one PCI device.*0xfd000000-0xfdffffff"),
        (0xFE000000, 0x1000, "doesn't lie in the memory of one PCI device"),
        (0xFDFFF000, 0x2000, "doesn't lie in the memory of one PCI device"),
    ],
)
def test_what_is_no_devices_memory_there(start: int, size: int, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check(TargetConfig((AllowedRange(start, size, "x"),)), FACTS, where="lab.toml")


def test_a_file_to_write_names_a_device_of_the_target(tmp_path: Path) -> None:
    text = candidate(FACTS)
    assert "# bochs-drm uses it" in text
    proposed = load_permission(written(tmp_path, text))
    assert [(each.start, each.size) for each in proposed.memory] == [(0xFD000000, 16 << 20)]
    check(proposed, FACTS, where="lab.toml")
    error = missing(FACTS, where="ssh://lab")
    assert "nothing was done there" in error.message
    assert tomllib.loads("\n".join(error.details)) == tomllib.loads(text)


SERVER = """\
pci 0000:03:00.0 0x020000 mlx5_core
bar 0x0000004000000000 0x0000004001ffffff 0x000000000014220c
pci 0000:04:00.0 0x120000\x20
bar 0x00000000fd000000 0x00000000fdffffff 0x0000000000040200
pci 0000:05:00.0 0x030000 ast
bar 0x00000000fc000000 0x00000000fcffffff 0x0000000000040200
"""
"""A network adapter at work, an FPGA that nobody drives, and the BMC's display."""


def of_devices(text: str) -> Facts:
    return parse_facts(SAID.partition("pci ")[0] + text, where="lab")


def test_a_device_at_work_is_not_proposed() -> None:
    text = candidate(of_devices(SERVER))
    assert "address = 0xfd000000" in text
    assert "no driver" in text
    assert "uses it" not in text


def test_a_display_is_proposed_where_nothing_is_free() -> None:
    text = candidate(of_devices(SERVER.replace("0x120000 ", "0x120000 xdma")))
    assert "address = 0xfc000000" in text
    assert "# ast uses it: tests will draw over what it shows." in text


def test_registers_are_not_proposed() -> None:
    """A flash controller of a chipset, which has no driver, beside the display."""
    flash = "pci 0000:00:1f.5 0x0c8000 \nbar 0xfe010000 0xfe010fff 0x40200\n"
    assert "0xfd000000" in candidate(parse_facts(SAID + flash, where="lab"))


def test_where_nothing_is_free_it_says_so(tmp_path: Path) -> None:
    text = candidate(of_devices(SERVER[: SERVER.index("pci 0000:04")]))
    assert "no memory of a PCI device here is free" in text
    assert load_permission(written(tmp_path, text)).memory == ()


def test_memory_that_nobody_drives_is_proposed_first() -> None:
    free = "pci 0000:00:03.0 0x050000 \nbar 0x4000000000 0x4000ffffff 0x14220c\n"
    assert "0x4000000000" in candidate(parse_facts(SAID + free, where="lab"))
