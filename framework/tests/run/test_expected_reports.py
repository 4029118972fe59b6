"""What is told of a report of the kernel that no test expected."""

from __future__ import annotations

from pytest_memtype.run.expected_reports import excerpt

# As Linux 6.1 prints it.
WARNING = """\
[   13.668095] ------------[ cut here ]------------
[   13.997708] ioremap on RAM at 0x000000000296f000 - 0x000000000296ffff
[   13.998321] WARNING: CPU: 0 PID: 1 at arch/x86/mm/ioremap.c:211 __ioremap_caller+0x345/0x360
[   14.167757] Modules linked in: memtype(OE)
[   14.273592] Hardware name: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.2-debian-1.16.2-1 04/01/2014
[   14.273808] RIP: 0010:__ioremap_caller+0x345/0x360
[   14.274069] Code: e8 50 cb ff ff 49 09 c7 e9 29 fe
[   14.274438] RSP: 0018:ffffd0fc80013b28 EFLAGS: 00000282
[   14.274747] R10: 0000000000000003 R11: ffffffff944d2328 R12: 0000000000000002
[   14.274941] FS:  000000002e90b3c0(0000) GS:ffff8b660f600000(0000) knlGS:0000000000000000
[   14.275100] CR2: 0000000000523acc CR3: 0000000002942000 CR4: 00000000000006b0
[   14.275329] Call Trace:
[   14.275818]  <TASK>
[   14.276110]  ? driver_call_map_io+0xb1/0x120 [memtype]
[   14.276589]  driver_call_map_io+0xb1/0x120 [memtype]
[   14.594852] ---[ end trace 0000000000000000 ]---""".splitlines()


def test_what_happened_and_who_called_is_told_and_no_register() -> None:
    assert excerpt(WARNING) == [
        WARNING[1],
        WARNING[2],
        WARNING[11],
        WARNING[14],
        "(12 more lines are in the guest's console.log)",
    ]


def test_a_short_report_is_told_whole() -> None:
    assert excerpt(WARNING[1:3]) == WARNING[1:3]


def test_a_report_without_an_end_is_cut() -> None:
    lines = excerpt([f"frame {number}" for number in range(1000)])
    assert len(lines) == 13
    assert lines[-1] == "(988 more lines are in the guest's console.log)"
