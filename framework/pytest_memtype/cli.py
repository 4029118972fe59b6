"""The command ``memtype`` and its subcommands."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
from typing import Any, Final

import click

from pytest_memtype.commands.encoding import print_anywhere
from pytest_memtype.errors import INTERRUPTED, HostError, MemtypeError, reason
from pytest_memtype.machine.timeouts import patience

#: The verbs, in the order of the help, each with its line there. Each has a file of that name in
#: :mod:`pytest_memtype.commands`, which is imported when it is used: numpy, rich and paramiko take longer
#: to load than most verbs take to run.
_VERBS: Final = {
    "doctor": "Tell what this host can do, and what to do about the rest.",
    "init": "Begin a project of your own: a first test, and files for CI.",
    "run": "Run your tests, or the suite, against real kernels.",
    "compare": "Run tests on several kernels, and show what differs.",
    "bisect": "Find the kernel with which a test began to fail.",
    "report": "Write a report of runs for browsers.",
    "evidence": "Put a run's records and logs into one archive, or fetch logs from a cluster.",
    "explain": "Tell what a report about memory types says.",
    "reproduce": "Make a kernel say again what a report says.",
    "bugs": "List, show and run reproducers of reported bugs.",
    "layouts": "List, draw, import and try MTRR layouts.",
    "audit": "List pages that a guest maps with conflicting types.",
    "shell": "Open a shell in a guest.",
    "kernels": "List, fetch and remove kernels.",
    "cache": "List and prune what the cache holds.",
    "coverage": "Tell which lines of a kernel of your own the suite has run.",
    "mutate": "Plant faults in a kernel, and see which tests notice.",
    "selftests": "Run the kernel's own tests of memory types in guests.",
    "completion": "Have your shell complete commands and options.",
}


class _Commands(click.Group):
    """The verbs of the command line, each imported when it is used.

    The package's own errors are printed as one line, with their details below it, and end with their status.

    An error of the system that no code has turned into one of the package's is one line, too.
    """

    def list_commands(self, _: click.Context) -> list[str]:
        return list(_VERBS)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command = getattr(importlib.import_module(f"pytest_memtype.commands.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def main(self, *args: Any, **extra: Any) -> Any:
        print_anywhere()
        return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            patience()
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if ctx.params["debug"]:
                raise
            # Python waits for threads at its end. A second Ctrl-C meanwhile shall print no traceback.
            with contextlib.suppress(ValueError):  # It isn't the main thread.
                signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
            click.echo("memtype: interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except MemtypeError as error:
            if ctx.params["debug"]:
                raise
            click.echo(f"memtype: {error}", err=True)
            ctx.exit(error.exit_status)
        except OSError as error:
            # click ends quietly when the reader of a pipe has gone.
            if ctx.params["debug"] or error.errno == errno.EPIPE:
                raise
            click.echo(f"memtype: {reason(error)}; memtype --debug shows where that was", err=True)
            ctx.exit(HostError.exit_status)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pytest-memtype")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Check that no page of a real kernel is ever mapped with two conflicting memory types.

    \b
    Examples:
      memtype doctor
      memtype run
      memtype run --suite --kernel debian:bullseye --kernel debian:bookworm -k two_drivers
    """
