"""``memtype audit``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from pytest_memtype.commands.output import stdout


@click.command()
@click.option(
    "--qmp", type=click.Path(path_type=Path), metavar="SOCKET", help="QMP socket of a QEMU that runs."
)
@click.option("--pid", type=int, help="Its process (default: whoever has the socket).")
@click.option("--ram", type=click.Path(path_type=Path), metavar="FILE", help="Saved memory instead.")
@click.option(
    "--state", type=click.Path(path_type=Path), metavar="FILE", help="Saved device state, with --ram."
)
@click.option("--vendor", default="AuthenticAMD", help="CPU vendor of saved files (default: AuthenticAMD).")
@click.option("--physical-bits", default=40, help="Address width of their CPU (default: 40).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Draw memory by type, too.")
def audit(**options: Any) -> None:
    """List physical pages that a guest's page tables map with conflicting memory types.

    Works with any QEMU of an x86-64 guest. The guest stands still while its registers and page tables are
    read, and goes on as it was. Needs the right to read QEMU's memory (be its owner, or root). Ends with
    status 1 when there is a conflict.

    \b
    Examples:
      memtype audit --qmp /run/vm.sock
      memtype audit --qmp /run/vm.sock --json > audit.json
      memtype audit --ram ram --state state --svg memory.svg
    """
    from pytest_memtype.commands.audit_work import run_audit

    sys.exit(run_audit(stdout(), **options))
