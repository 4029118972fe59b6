"""A panic behind the complaint that counts."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import explain, sections

_LOST = """\
[    0.000000] WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing 4096MB of RAM.
[    0.000000] update e820 for mtrr
"""
_PANIC = "[    1.204113] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n"
_END = "[    1.204200] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs ]---\n"


def besides(text: str) -> str:
    found = [each.lines for each in sections(explain(read(text), [])) if each.title == "Besides"]
    return "\n".join(found[0]) if found else ""


@pytest.mark.parametrize("panic", [_PANIC, _PANIC + _END, _PANIC.partition("] ")[2]])
def test_a_panic_behind_it_is_told_and_not_blamed_on_it(panic: str) -> None:
    told = besides(_LOST + panic)
    assert "line 3: the kernel panics later (VFS: Unable to mount root fs on unknown-block(0,0))" in told
    assert "Whether that comes of it the text doesn't say" in told


@pytest.mark.parametrize(
    "text",
    [
        _PANIC + _LOST,
        _LOST + "Without the option I had Kernel panic - not syncing: VFS, years ago.\n",
        _LOST,
    ],
)
def test_nothing_is_told_of_another_panic(text: str) -> None:
    assert "panics later" not in besides(text)


@pytest.mark.parametrize(
    "end", ["Kernel panic - not\nsyncing: ", "Kernel panic -\nnot syncing: ", "Kernel\npanic - not syncing: "]
)
def test_a_panic_that_a_mailer_wrapped(end: str) -> None:
    told = besides(_LOST + f"[    1.204113] {end}VFS: Unable to mount root fs\n")
    assert "line 3: the kernel panics later (VFS: Unable to mount root fs)" in told
