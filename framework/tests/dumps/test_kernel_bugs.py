"""BUGs one behind the other: each has its own registers and its own stack."""

from __future__ import annotations

from pytest_memtype.dumps.facts import Kind
from pytest_memtype.dumps.read import read

PLACE = "arch/x86/mm/pat.c"
REGISTERS = """\
[   33.900000] invalid opcode: 0000 [#1] SMP
[   33.900000] CPU: 1 PID: {0} Comm: p{0} Not tainted 4.9.0 #1
[   33.900000] RIP: 0010:[<ffffffff8106a5e2>]  [<ffffffff8106a5e2>] reserve_memtype+0x1/0x2
[   33.900000] Call Trace:
[   33.900000]  [<ffffffff8106a5e2>] __ioremap_caller+0x1/0x2
"""


def test_a_bug_without_registers_has_not_those_of_the_next() -> None:
    bugs = "".join(f"[   33.900000] kernel BUG at {PLACE}:{n}!\n" for n in (1, 2))
    text = bugs + REGISTERS.format(7)
    lost, whole = read(text).of(Kind.BUG)
    assert (lost.function, lost.pid, lost.trace) == (None, None, ())
    assert (whole.function, whole.pid, whole.trace) == ("reserve_memtype", 7, ("__ioremap_caller",))


def test_a_warning_has_not_the_process_of_the_bug_below() -> None:
    warning = "[   33.800000] WARNING: at arch/x86/mm/pat.c:9 free_memtype+0x1/0x2()\n"
    text = f"{warning}[   33.900000] kernel BUG at {PLACE}:2!\n{REGISTERS.format(7)}"
    (found,) = read(text).of(Kind.WARNING)
    assert (found.pid, found.trace) == (None, ())


def test_the_title_of_a_report_is_no_bug_of_its_own() -> None:
    text = f"I hit kernel BUG at {PLACE}:2!\n\n[   33.900000] kernel BUG at {PLACE}:2!\n{REGISTERS.format(7)}"
    (bug,) = read(text).of(Kind.BUG)
    assert (bug.line, bug.function, bug.pid) == (3, "reserve_memtype", 7)
