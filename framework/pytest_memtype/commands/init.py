"""The command ``memtype init``."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_memtype.run.new_project import CI, new_project


@click.command()
@click.argument("folder", default=".")
@click.option("--ci", type=click.Choice(tuple(CI)), default="github", help="The CI service [github].")
def init(folder: str, ci: str) -> None:
    """Begin a project: a first test, pytest's settings, a script for CI and a CI service's file.

    Nothing that is there is changed but pyproject.toml, to which pytest's settings are added.

    \b
    Examples:
      memtype init
      memtype init my-driver --ci gitlab
    """
    for made in new_project(Path(folder), ci=ci):
        click.echo(f"{made.path}: {made.what}")
    click.echo("run the test: memtype run; as CI does it: sh ci/memtype.sh debian:bookworm")
