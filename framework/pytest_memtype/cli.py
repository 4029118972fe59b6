"""The command ``memtype``."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from typing import Any

import click

from pytest_memtype.commands.audit import audit
from pytest_memtype.commands.bisect import bisect
from pytest_memtype.commands.bugs import bugs
from pytest_memtype.commands.cache import cache
from pytest_memtype.commands.compare import compare
from pytest_memtype.commands.doctor import doctor
from pytest_memtype.commands.kernels import kernels
from pytest_memtype.commands.layouts import layouts
from pytest_memtype.commands.output import print_anywhere
from pytest_memtype.commands.run import run
from pytest_memtype.commands.shell import shell
from pytest_memtype.errors import INTERRUPTED, HostError, MemtypeError, reason


class _Commands(click.Group):
    """Prints our own errors as one line, with what belongs below it, and ends with their status.

    What the system refuses is one line too, where nobody knew what to say of it.
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        print_anywhere()
        return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if ctx.params["debug"]:
                raise
            # Python waits for threads at its end. Who can't wait for them shall see no traceback.
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
            # click ends quietly when nobody reads on.
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
      memtype run --kernel debian:bullseye --kernel debian:bookworm -k two_drivers
    """


for _command in (doctor, run, compare, bisect, layouts, shell, audit, cache, kernels, bugs):
    main.add_command(_command)
