import dataclasses

import pytest

from pytest_memtype.errors import GuestExited, GuestHung, GuestPanicked
from pytest_memtype.machine.exit_report import ExitFacts, explain_end, explain_hang

KILLED = ExitFacts(
    pid=42,
    status=-9,
    reason=None,
    panic=None,
    console=[f"line {number}" for number in range(100)],
    output=[],
    logs=[("kernel console", "/logs/console.log"), ("run this guest again", "qemu -S")],
)


def test_signal() -> None:
    error = explain_end(KILLED, "waiting for 'x'")
    assert type(error) is GuestExited
    assert error.message == "QEMU (process 42) was killed by SIGKILL (waiting for 'x')"
    assert error.details == (
        "last console lines:",
        *(f"    line {number}" for number in range(80, 100)),
        "kernel console: /logs/console.log",
        "run this guest again: qemu -S",
    )


def test_refusal_gives_the_last_thing_qemu_said() -> None:
    remains = dataclasses.replace(KILLED, status=1, console=[], output=["warning: x", "no such CPU"])
    error = explain_end(remains)
    assert error.message == "QEMU (process 42) ended with status 1: no such CPU"
    assert error.details[:3] == ("QEMU printed:", "    warning: x", "    no such CPU")


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("guest-reset", "the guest reset itself"),
        ("guest-shutdown", "the guest powered itself off"),
        ("host-qmp-quit", "QEMU was told to quit"),
        ("host-error", "QEMU (process 42) ended with status 0"),
        (None, "QEMU (process 42) ended with status 0"),
    ],
)
def test_end_without_error(reason: str | None, message: str) -> None:
    assert explain_end(dataclasses.replace(KILLED, status=0, reason=reason)).message == message


def test_a_panic_is_shown_without_the_boot_before_it() -> None:
    # As Linux 6.1 prints it (kernel/panic.c, panic()), behind what it prints at each boot.
    boot = [f"[    0.{number:06}] something: of the boot" for number in range(45)]
    panic = [
        "[    9.000000] Kernel panic - not syncing: sysrq triggered crash",
        "[    9.000001] CPU: 0 PID: 70 Comm: sh Not tainted 6.1.0-56-cloud-amd64 #1",
        "[    9.000002] Call Trace:",
        "[    9.000003]  <TASK>",
        "[    9.000004]  dump_stack_lvl+0x44/0x5c",
        "[    9.000005]  panic+0x118/0x2ed",
        "[    9.000006]  </TASK>",
        "[    9.000007] Kernel Offset: disabled",
        "[    9.000008] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---",
    ]
    remains = dataclasses.replace(
        KILLED, status=0, reason="guest-reset", panic=panic[0].partition("] ")[2], console=[*boot, *panic]
    )
    details = explain_end(remains).details
    assert details[0] == "the kernel reported:"
    assert details[1 : 1 + len(panic)] == tuple(f"    {line}" for line in panic)
    assert not [line for line in details if "of the boot" in line]


def test_panic_wins_and_shows_the_oops_before_it() -> None:
    remains = dataclasses.replace(
        KILLED, status=0, reason="guest-reset", panic="Kernel panic - not syncing: Oops"
    )
    error = explain_end(remains, "doing")
    assert type(error) is GuestPanicked
    assert error.message == "the guest's kernel panicked (doing): Kernel panic - not syncing: Oops"
    assert "    line 20" in error.details


def test_hang() -> None:
    alive = dataclasses.replace(KILLED, status=None)
    error = explain_hang(alive, "doing", 60)
    assert type(error) is GuestHung
    assert error.message == "the guest gave no answer for 60 s (doing)"
    assert type(explain_hang(dataclasses.replace(alive, panic="Kernel panic"), "", 60)) is GuestPanicked


@pytest.mark.parametrize(
    "said",
    [
        # Each of them alone: one that another alternative finds as well tests nothing.
        "can't open backing store /dev/shm/ram for guest RAM: Permission denied",
        "can't open backing store /proc/42/fd/7 for guest RAM: No such file or directory",
        "Could not access KVM kernel module: Operation not permitted",
        "failed to create memfd: Function not implemented",
    ],
)
def test_qemu_that_may_not_do_what_we_may_is_probably_confined(said: str) -> None:
    message = explain_end(dataclasses.replace(KILLED, status=1, output=[said])).message
    assert message.startswith(
        f"QEMU (process 42) ended with status 1: {said}; where this process may do that"
    )
    assert "AppArmor" in message
    assert "\n" not in message


def test_other_refusals_are_not_put_down_to_it() -> None:
    remains = dataclasses.replace(KILLED, status=1, output=["x: No such file or directory"])
    assert "confined" not in explain_end(remains).message


def test_a_forbidden_system_call_is_named_as_one() -> None:
    message = explain_end(dataclasses.replace(KILLED, status=-31)).message
    assert (
        message == "QEMU (process 42) was killed by SIGSYS; a seccomp filter forbids one of its system calls"
    )
