"""The command ``memtype audit``."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import click

from pytest_memtype.audit.any_qemu import audit_qemu
from pytest_memtype.audit.audit import Audit
from pytest_memtype.audit.saved import audit_files
from pytest_memtype.commands.output import stdout
from pytest_memtype.errors import UsageError
from pytest_memtype.host.files import atomically
from pytest_memtype.report.audit_picture import audit_svg
from pytest_memtype.report.audit_report import audit_json, audit_lines, audit_table
from pytest_memtype.x86.effective import vendor_from_cpuid

CONFLICTS: Final = 1

# Those of QEMU's CPU qemu64.
_VENDOR: Final = "AuthenticAMD"
_PHYSICAL_BITS: Final = 40


@click.command()
@click.option(
    "--qmp", type=click.Path(path_type=Path), metavar="SOCKET", help="QMP socket of a QEMU that runs."
)
@click.option("--pid", type=int, help="Its process (default: whoever has the socket).")
@click.option("--ram", type=click.Path(path_type=Path), metavar="FILE", help="Saved memory instead.")
@click.option(
    "--state", type=click.Path(path_type=Path), metavar="FILE", help="Saved device state, with --ram."
)
@click.option("--vendor", help=f"CPU vendor of saved files (default: {_VENDOR}).")
@click.option("--physical-bits", type=int, help=f"Address width of their CPU (default: {_PHYSICAL_BITS}).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Draw memory by type, too.")
def audit(
    qmp: Path | None,
    pid: int | None,
    ram: Path | None,
    state: Path | None,
    vendor: str | None,
    physical_bits: int | None,
    as_json: bool,
    svg: Path | None,
) -> None:
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
    # A file that can't be written is named before the guest is made to stand still.
    with nullcontext() if svg is None else atomically(svg) as picture:
        found = _audited(qmp, pid, ram, state, vendor, physical_bits)
        if picture is not None:
            picture.write(audit_svg(found))
    if as_json:
        click.echo(json.dumps(audit_json(found), indent=2))
    else:
        if found.findings:
            stdout().print(audit_table(found))
        for line in audit_lines(found):
            stdout().print(line, markup=False, highlight=False)
    sys.exit(CONFLICTS if found.conflicts else 0)


def _audited(
    qmp: Path | None,
    pid: int | None,
    ram: Path | None,
    state: Path | None,
    vendor: str | None,
    physical_bits: int | None,
) -> Audit:
    if qmp is not None and ram is None and state is None:
        if vendor is not None or physical_bits is not None:
            given = "--vendor" if vendor is not None else "--physical-bits"
            raise UsageError(f"{given} is for saved files; the CPU at {qmp} tells that itself: leave it out")
        return audit_qemu(qmp, pid=pid)
    if qmp is None and pid is None and ram is not None and state is not None:
        named = _VENDOR if vendor is None else vendor
        bits = _PHYSICAL_BITS if physical_bits is None else physical_bits
        if not 32 <= bits <= 52:
            raise UsageError(f"--physical-bits {bits}: an x86-64 CPU has 32 to 52")
        try:
            return audit_files(ram, state, vendor=vendor_from_cpuid(named), physical_bits=bits)
        except ValueError as error:
            raise UsageError(f"--vendor: {error}") from None
    raise UsageError("audit: name a guest, either by --qmp SOCKET, or by --ram FILE and --state FILE")
