"""Complaints about mappings and reservations whose form or stack says which place of Linux they are of."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import as_json, explain, sections
from pytest_memtype.explain.story import Story


def story(text: str) -> Story:
    return explain(read(text), []).story


def missing(text: str) -> str:
    found = sections(explain(read(text), []))
    return "\n".join(line for each in found if each.title == "What is missing" for line in each.lines)


DEVMEM = "[ 3374.964070] Program strings tried to access /dev/mem between "


def test_dev_mem_is_refused_by_its_driver() -> None:
    """drivers/char/mem.c asks for read, write and mmap, of all architectures."""
    line = f"{DEVMEM}101000->102000."
    told = story(line)
    assert "mmap() failed" not in told.answer
    assert "the access was refused" in told.answer
    assert told.rule.startswith("drivers/char/mem.c, range_is_allowed()")
    # 2.6.26 to 3.4 have these words in pat.c, too, where CONFIG_STRICT_DEVMEM is off.
    assert "arch/x86/mm/pat.c" in told.rule
    assert "pat.c" not in story(f"[    0.0] Linux version 4.4.1 (x@y)\n{line}\n").rule
    assert "pat_memtype_list" not in missing(line)


@pytest.mark.parametrize("end", ["", ", PAT prevents it"])
def test_dev_mem_is_refused_by_the_pat(end: str) -> None:
    """arch/x86/mm/pat.c of 3.6 has the brackets and not yet "PAT prevents it"; both are of mmap() alone."""
    told = story(f"{DEVMEM}[mem 0x00101000-0x00101fff]{end}")
    assert "mmap() failed" in told.answer
    assert "phys_mem_access_prot_allowed()" in told.rule
    assert "CONFIG_STRICT_DEVMEM" in told.rule


MEMREMAP = """\
[   17.190165] WARNING: CPU: 0 PID: 224 at kernel/memremap.c:111 memremap+0x1a8/0x1b0
[   17.193127] memremap attempted on ram 0x51000000 size: 0x800000
[   17.199569] CPU: 0 PID: 224 Comm: systemd-udevd Not tainted {} #68
[   17.202556] Hardware name: {}
"""
EXYNOS = "SAMSUNG EXYNOS (Flattened Device Tree)"


# 5981690ddb8f of 4.18 made kernel/iomem.c of a part of kernel/memremap.c.
@pytest.mark.parametrize(
    ("kernel", "place"), [("4.7.0-rc1", "kernel/memremap.c, "), ("4.18.5", "kernel/iomem.c, ")]
)
def test_the_place_of_memremap(kernel: str, place: str) -> None:
    text = MEMREMAP.format(kernel, EXYNOS)
    assert story(text).rule.startswith(place)
    assert "the process systemd-udevd (224)" in story(text).answer


@pytest.mark.parametrize("machine", [EXYNOS, "Raspberry Pi 4 Model B Rev 1.4 (DT)"])
def test_a_machine_that_is_no_x86(machine: str) -> None:
    text = MEMREMAP.format("4.7.0-rc1", machine)
    assert "is no x86" in story(text).answer
    assert "is no x86" not in story(MEMREMAP.format("4.7.0-rc1", "LENOVO 20HR/20HR, BIOS N1M")).answer
    conflict = (
        f"{text}x86/PAT: bar:92 conflicting memory types ca000000-ca800000 uncached<->write-combining\n"
    )
    assert "pat_memtype_list" not in missing(conflict)


def test_a_range_that_ends_below_its_start_is_quoted() -> None:
    """memtype_reserve() of 5.7 and later: a WARN of what sanitize_phys() left of both ends."""
    text = "memtype_reserve failed: [mem 0xffffffffff000-0x00008fff], req write-back"
    answer = story(text).answer
    assert answer.startswith("0xffffffffff000-0x00008fff was asked for")
    assert "its end is below its start" in answer
    assert as_json(explain(read(text), []))["range"] == "none"
    top = "memtype_reserve failed: [mem 0x3ffffff00000-0xffffffffffffffff], req write-back"
    assert "below its start" not in story(top).answer


# arch/x86/mm/ioremap.c of 6.11; drivers/char/mem.c, write_mem() and read_mem().
RAM_BY_DEVMEM = """\
 ioremap on RAM at 0x0000000490000000 - 0x0000000490000fff
 WARNING: CPU: 2 PID: 416 at arch/x86/mm/ioremap.c:216 __ioremap_caller.constprop.0+0x131/0x35d
 CPU: 2 UID: 0 PID: 416 Comm: dd Not tainted 6.11.0-rc3-kvm #40
 Call Trace:
  memremap+0xcb/0x184
  xlate_dev_mem_ptr+0x25/0x2f
  {}_mem+0x94/0xfb
"""


@pytest.mark.parametrize("verb", ["read", "write"])
def test_ioremap_of_ram_that_no_driver_asked_for(verb: str) -> None:
    told = story(RAM_BY_DEVMEM.format(verb))
    assert told.answer.startswith("the process dd (416) asked for 0x490000000-0x490000fff")
    assert f"to {verb} /dev/mem" in told.answer
    assert "a driver" not in told.answer
    assert not [each for each in told.advice if "memremap()" in each]


def test_ioremap_of_ram_without_a_stack() -> None:
    told = story(RAM_BY_DEVMEM.partition("\n")[0])
    assert told.answer.startswith("somebody whom the line doesn't name asked for 0x490000000-0x490000fff")
    assert [each for each in told.advice if "memremap()" in each]
