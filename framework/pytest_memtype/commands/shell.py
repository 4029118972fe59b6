"""The command ``memtype shell``."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pytest_memtype.commands.offline import offline
from pytest_memtype.errors import HostError, UsageError
from pytest_memtype.guest.guest import Guest
from pytest_memtype.host.child import describe_status
from pytest_memtype.host.files import WRITTEN_BY_HAND, opened
from pytest_memtype.host.private_folder import temporary_folder
from pytest_memtype.host.progress import Progress, Remark, shown
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout_file import layout_folders, load_layout
from pytest_memtype.machine.qemu_command import rerun_command
from pytest_memtype.machine.uncovered import uncovered_ram
from pytest_memtype.machine.vcpu_registers import usable_qemu
from pytest_memtype.run.session import GuestSpec, Session
from pytest_memtype.run.variants import all_variants


@click.command()
@click.option(
    "--kernel",
    metavar="SPEC",
    help="Which kernel (default: the first of the set 'default', or the guest's own).",
)
@click.option("--guest", metavar="GUEST", help="minimal (the default), debian:bookworm or debian:trixie.")
@click.option("--layout", default="firmware", show_default=True, help="Which MTRR layout.")
@click.option("--cpu", default="qemu64", show_default=True, help="Which CPU, as QEMU calls it.")
@click.option("--cmdline", default="", help="More for the kernel's command line.")
@click.option(
    "--after",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with one test: the shell is in the guest that it leaves.",
)
@offline
def shell(
    kernel: str | None, guest: str | None, layout: str, cpu: str, cmdline: str, after: Path | None
) -> None:
    """A guest of one's own: a shell on its console, or in a guest that a test has brought into some state.

    On the console Ctrl-A X ends QEMU, and so does exit.

    \b
    Examples:
      memtype shell
      memtype shell --kernel debian:bullseye --layout wb-device
      memtype shell --guest debian:trixie
      memtype shell --kernel debian:6.1 --after disagreement.py
    """
    # Errors in the options are found before anything is fetched.
    found, hardware = (
        load_layout(layout, layout_folders([after] if after else [])),
        Hardware(cpu=cpu, cmdline=cmdline),
    )
    with contextlib.ExitStack() as display:
        progress = display.enter_context(shown(Console(stderr=True)))
        # Nothing is fetched for a QEMU that can't be used.
        usable_qemu(progress=progress)
        tested = all_variants([kernel] if kernel else None, [guest] if guest else None, progress=progress)[0]
        kind = GuestSpec(tested.kernel, found, hardware, tested.system)
        if after is None:
            on_console(kind, progress=progress, ready=display.close)
            return
        after_test(
            kind, after, lines=typed("guest# "), show=click.echo, progress=progress, ready=display.close
        )


def on_console(kind: GuestSpec, *, progress: Progress, ready: Callable[[], None]) -> None:
    """Boot a guest with its console on this terminal; returns when it is powered off.

    :param kind: The kind of guest.
    :param progress: Called with one line at the start of each slow stage.
    :param ready: Called before the guest has the terminal, on which nobody else may draw from then on.
    :raises HostError: QEMU ended otherwise than by its guest's or user's wish. It has printed why.
    """
    with temporary_folder("shell") as folder:
        plan = _session(Path(folder), progress).plan(kind)
        uncovered = uncovered_ram(kind.layout, kind.hardware)
        if uncovered:
            progress(Remark(uncovered))
        command = plan.command
        rom = plan.boot_rom()
        if rom is not None:
            path = Path(folder) / "boot-rom.bin"
            path.write_bytes(rom)
            command = dataclasses.replace(command, boot_rom=path)
        ready()
        status = subprocess.run(shlex.split(rerun_command(command)), check=False).returncode
        if status:
            raise HostError(f"QEMU {describe_status(status)}; try the command memtype doctor")


def after_test(
    kind: GuestSpec,
    test: Path,
    *,
    lines: Iterable[str],
    show: Callable[[str], None],
    progress: Progress,
    ready: Callable[[], None],
) -> None:
    """Run the only test of a file in a fresh guest, then shell commands in the guest as it is now.

    The processes and mappings that the test made are there for as long as the commands go on.

    :param kind: The kind of guest.
    :param test: File of the test.
    :param lines: The shell commands.
    :param show: Called with the output of each command, and with remarks.
    :param progress: Called with one line at the start of each slow stage.
    :param ready: Called before the first command is read, when no slow stage is left.
    :raises UsageError: the file hasn't one test that takes a guest and nothing else.
    """
    # A fifth of a second, which the other uses of the command don't need.
    import pytest

    function = _only_test(test)
    with temporary_folder("shell") as folder:
        session = _session(Path(folder), progress)
        guest: Guest = session.start(kind, logs=Path(folder) / "guest").guest
        try:
            # However it ends, the guest matters here.
            try:
                function(guest)
            except pytest.skip.Exception as error:
                show(f"the test was skipped: {error}")
            except (Exception, pytest.fail.Exception) as error:
                show(f"the test failed: {error or type(error).__name__}")
            ready()
            show(f"{guest.release}, layout {guest.layout.name}; end with Ctrl-D")
            for line in lines:
                result = guest.shell(line)
                show(result.output.rstrip("\n"))
                if result.status:
                    show(f"status {result.status}")
        finally:
            guest.machine.close()
            session.close()


def typed(prompt: str) -> Iterator[str]:
    """Lines typed by a person, or piped in; empty ones are left out."""
    if sys.stdin.isatty():
        # Loading it lets input() edit lines and remember them.
        importlib.import_module("readline")
    else:
        prompt = ""
    with contextlib.suppress(EOFError):
        while True:
            line = input(prompt)
            if line.strip():
                yield line


def _only_test(path: Path) -> Callable[[Guest], Any]:
    with opened(path, most=WRITTEN_BY_HAND):
        pass
    found = [value for name, value in runpy.run_path(str(path)).items() if name.startswith("test_")]
    if len(found) != 1 or found[0].__code__.co_varnames[: found[0].__code__.co_argcount] != ("guest",):
        raise UsageError(f"{path}: there has to be one test in it that takes a guest and nothing else")
    test: Callable[[Guest], Any] = found[0]
    return test


def _session(folder: Path, progress: Progress) -> Session:
    return Session(folder, progress=progress, fresh="clone", accelerator="auto")
