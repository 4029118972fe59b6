"""Runs a part of the suite on KVM, in a guest whose emulated CPU has SVM, and compares with TCG's records."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import click
from rich.console import Console

from memtype_support.kvm.kvm_run import NIGHTLY, Held, hold, on_this_host
from memtype_support.kvm.outer_image import PROJECT
from pytest_memtype.errors import HostError, MemtypeError
from pytest_memtype.host.progress import shown
from pytest_memtype.run.session import CLONE_FAILED

_LEAST = 150
_FOLDER = PROJECT / ".memtype" / "kvm"
_COMPARE_SECONDS = 300


@click.command(help=__doc__)
@click.argument("selection", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENTS OF PYTEST]")
@click.option("--minutes", default=180, show_default=True, help="Minutes that the tests have on KVM.")
@click.option("--qualify", is_flag=True, help="First let --accel auto decide there: TCG inside TCG, slow.")
def main(selection: tuple[str, ...], minutes: int, qualify: bool) -> None:
    """Exit status 1 when a test failed or a record differs, 3 when the outer guest can't be used."""
    start = time.monotonic()
    shutil.rmtree(_FOLDER, ignore_errors=True)
    console = Console(stderr=True)
    try:
        with shown(console) as progress:
            held = hold(
                selection or NIGHTLY,
                _FOLDER,
                timeout=60 * minutes,
                progress=lambda stage: progress(f"[{time.monotonic() - start:.0f} s] {stage}"),
                qualify=qualify,
                echo=True,
            )
        wrong = complaints(held, least=0 if selection else _LEAST)
        status = compare(held)
    except MemtypeError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_status)
    took = (time.monotonic() - start) / 60
    click.echo(f"KVM: {held.kvm.counts} in {held.kvm.seconds:.0f} s; records in {held.kvm.records}")
    if held.kvm.livelocks:
        click.echo(f"the emulated SVM hung {held.kvm.livelocks} times; those portions were run again")
    click.echo(f"TCG: {held.tcg.counts} in {held.tcg.seconds:.0f} s; records in {held.tcg.records}")
    click.echo(f"all of it took {took:.0f} minutes")
    for each in wrong:
        click.echo(each, err=True)
    sys.exit(1 if wrong or status else 0)


def complaints(held: Held, *, least: int) -> list[str]:
    """What is wrong, a line each."""
    found = []
    for name, ran in (("KVM", held.kvm), ("TCG", held.tcg)):
        bad = {outcome: count for outcome, count in ran.counts.items() if outcome in ("failed", "error")}
        if bad:
            found.append(f"{name}: {bad}")
        if CLONE_FAILED in ran.output:
            found.append(f"{name}: tests ran on a boot, {CLONE_FAILED}")
    if held.kvm.counts != held.tcg.counts:
        found.append(f"KVM has {held.kvm.counts}, TCG {held.tcg.counts}")
    if held.kvm.counts.get("passed", 0) < least:
        found.append(f"KVM: {held.kvm.counts.get('passed', 0)} passed, fewer than {least}")
    if "accelerator: kvm" not in held.kvm.output:
        found.append("KVM: it wasn't KVM that ran")
    comparison = held.comparison
    found += [f"{change.operation}: {change.answers}" for change in comparison.changes]
    if comparison.partly:
        found.append(f"{comparison.partly} tests have records under one of them only")
    return found


def compare(held: Held) -> int:
    """Show what ``memtype compare --json`` says; its exit status.

    :raises HostError: it says nothing that is understood, or takes too long.
    """
    command = [str(Path(sys.executable).with_name("memtype")), "compare", "--json"]
    command += [str(held.kvm.records), str(held.tcg.records)]
    done = on_this_host(command, what="memtype compare", timeout=_COMPARE_SECONDS)
    try:
        said = json.dumps(json.loads(done.stdout))
    except ValueError:
        raise HostError(
            f"memtype compare ended with status {done.returncode} and without an answer",
            details=tuple(done.stderr.splitlines()[-10:]),
        ) from None
    click.echo(f"memtype compare --json: {said}")
    return done.returncode
