"""The option ``--offline`` of every command that may need a kernel."""

from __future__ import annotations

import click


def _stay_offline(_context: click.Context, _parameter: click.Parameter, given: bool) -> None:
    if given:
        from pytest_memtype.kernels import mirror

        mirror.stay_offline()


offline = click.option(
    "--offline",
    is_flag=True,
    expose_value=False,
    callback=_stay_offline,
    help="Ask no mirror: what the cache has, by the last indexes.",
)
"""Decorator of a command: adds the option, which lets it ask no mirror and passes nothing to its function."""
