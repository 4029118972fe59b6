"""The command ``memtype mutate``."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from pytest_memtype.commands.offline import offline
from pytest_memtype.errors import HostError, KernelError, UsageError, reason
from pytest_memtype.host import resources
from pytest_memtype.host.nearest import did_you_mean
from pytest_memtype.host.no_locks import locking
from pytest_memtype.host.progress import shown
from pytest_memtype.kernels.local import find_local
from pytest_memtype.kernels.mutant_catalogue import NONE, Mutant, catalogue
from pytest_memtype.kernels.mutant_tree import PlantedTree, planted
from pytest_memtype.kernels.spec import BuildSpec, parse
from pytest_memtype.mutate.course import rows_of
from pytest_memtype.mutate.rows import EQUIVALENT, KILLED, LIVED, TROUBLE, Row, fingerprint

_NAME_WIDTH = 32


@click.command()
@click.option("--kernel", metavar="tree:PATH", help="The kernel: its build tree, built.")
@click.option("--all", "every", is_flag=True, help="Run all tests for each fault, and name all that fail.")
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the copy of the tree and for the rows (default: one in .memtype/mutants).",
)
@click.option(
    "--suite",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the tests to run (default: the package's suite, as memtype run --suite has it).",
)
@click.option("--build-only", is_flag=True, help="Plant and build, and say which --kernel it is.")
@click.option("--list", "list_them", is_flag=True, help="List the faults, and what each does.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON at the end.")
@click.argument("names", nargs=-1, metavar="[FAULT]...")
@offline
def mutate(
    kernel: str | None,
    every: bool,
    work: Path | None,
    suite: Path | None,
    build_only: bool,
    list_them: bool,
    as_json: bool,
    names: tuple[str, ...],
) -> None:
    """Plant faults in a kernel, switch them on one at a time, and see which test of the suite fails.

    All faults go into one kernel: a copy of the tree, of which nothing is changed. Before the first
    fault the suite has to pass without any. For each fault the tests of its area come first, then the
    others, until one fails; a guest that hangs or panics fails its test. Each row is kept as it comes: the
    same command goes on where it was interrupted, as long as kernel and suite stay the same. FAULTs that
    are named are tried again.

    The exit status is 0 when every fault was noticed that can be (those marked equivalent can't, and the
    catalogue has the proof), 1 when one was not or an equivalent one was, 2 for wrong usage, and 3 when the
    kernel doesn't build, the suite fails without a fault, the kernel lacks the code of a fault that was
    named, or this host couldn't say of one, whatever came of the others.

    \b
    Examples:
      memtype mutate --kernel tree:$HOME/linux
      memtype mutate --kernel tree:$HOME/linux --all interval-lookup
      memtype mutate --list
      memtype run --suite --kernel tree:.memtype/mutants/linux-1a2b3c/tree --mutant interval-lookup -k lookup
    """
    mutants = catalogue()
    if list_them:
        _list(mutants, as_json=as_json)
        return
    wrong = [name for name in names if name not in {mutant.name for mutant in mutants}]
    if wrong:
        near = did_you_mean(wrong[0], [mutant.name for mutant in mutants])
        raise UsageError(f"mutate: {wrong[0]!r}: no such fault{near or ';'} --list has them all")
    spec = None if kernel is None else parse(kernel)
    if not isinstance(spec, BuildSpec):
        raise UsageError("mutate: name the kernel to plant faults in: --kernel tree:PATH, which is built")
    folder = (work or _default_folder(spec.build)).absolute()
    with _alone(folder):
        with shown(Console(stderr=True)) as progress:
            tree = planted(spec, mutants, work=folder, chosen=work is not None, progress=progress)
        for name, why in tree.misfits.items():
            click.echo(f"{name}: doesn't fit this tree: {why}", err=True)
        if build_only:
            click.echo(tree.spec)
            return
        tests = (suite or resources.testcases()).absolute()
        rows = _try(tree, names, suite=tests, folder=folder, every=every, err=as_json)
    sys.exit(_summary(tree, rows, every=every, as_json=as_json))


def _default_folder(build: Path) -> Path:
    key = hashlib.sha256(str(build).encode()).hexdigest()[:8]
    return Path(".memtype") / "mutants" / f"{build.name}-{key}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make a folder, and hold its lock: the answers of two commands in it would be mixed up."""
    # The other commands don't wait for it to load.
    from filelock import FileLock, Timeout

    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locking(folder / "lock", advice="name a folder on another one with --work"):
            lock.acquire(timeout=0)
    except Timeout:
        raise HostError(
            f"{folder}: another memtype mutate is at work there; wait for it, or name another folder "
            "with --work"
        ) from None
    except OSError as error:
        raise HostError(f"{reason(error)}; name another folder with --work") from None
    try:
        yield
    finally:
        lock.release()


def _list(mutants: list[Mutant], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(mutant) for mutant in mutants]))
        return
    for each in mutants:
        about = [f"since {each.since}" * bool(each.since), f"until {each.until}" * bool(each.until)]
        about += ["at boot" * each.at_boot, "equivalent" * bool(each.equivalent), each.regression]
        facts = ", ".join(filter(None, about))
        click.echo(f"{each.name:{_NAME_WIDTH}} {each.why}{f' ({facts})' if facts else ''}")


def _try(
    tree: PlantedTree, names: tuple[str, ...], *, suite: Path, folder: Path, every: bool, err: bool
) -> list[Row]:
    chosen = [mutant for mutant in tree.mutants if not names or mutant.name in names]
    missing = set(names) - {mutant.name for mutant in chosen}
    if missing:
        raise KernelError(f"{tree.spec}: it doesn't have the code of {', '.join(sorted(missing))}")
    spec = parse(tree.spec)
    assert isinstance(spec, BuildSpec)
    against = fingerprint(find_local(spec).identity, suite)
    rows = []
    course = rows_of(tree, chosen, suite=suite, work=folder, against=against, every=every, named=bool(names))
    for row, earlier in course:
        rows.append(row)
        click.echo(_line(row) + ("  (earlier)" if earlier else ""), err=err)
    return rows


def _line(row: Row) -> str:
    said = {
        KILLED: ", ".join(row.killed_by),
        LIVED: "passes" if row.mutant == NONE else "LIVED",
        EQUIVALENT: "equivalent",
        TROUBLE: f"not known: {row.note}",
    }[row.outcome]
    return f"{row.mutant:{_NAME_WIDTH}} {row.seconds:6.1f} s  {said}"


def _summary(tree: PlantedTree, rows: list[Row], *, every: bool, as_json: bool) -> int:
    """Print how many faults were noticed, and give the exit status."""
    tried = [row for row in rows if row.mutant != NONE]
    counts = Counter(row.outcome for row in tried)
    about = {mutant.name: mutant for mutant in tree.mutants}
    refuted = [row for row in tried if row.outcome == KILLED and about[row.mutant].equivalent]
    if as_json:
        content = {
            "kernel": tree.spec,
            "rows": [asdict(row) for row in rows],
            "misfits": tree.misfits,
            "all_tests": every,
            **{kind: counts[kind] for kind in (KILLED, LIVED, EQUIVALENT, TROUBLE)},
        }
        click.echo(json.dumps(content))
    else:
        for row in tried:
            if row.outcome == LIVED:
                fault = about[row.mutant]
                click.echo(f"lived: {row.mutant}: {fault.why} ({fault.file}, {fault.function}())")
        for row in refuted:
            click.echo(f"not equivalent after all: {row.mutant}, which {row.killed_by[0]} notices")
        click.echo(
            f"{counts[KILLED]} of {counts[KILLED] + counts[LIVED]} faults noticed, {counts[EQUIVALENT]} "
            f"equivalent, {counts[TROUBLE]} not known, {len(tree.misfits)} don't fit this tree, "
            f"{len(catalogue()) - len(tree.mutants) - len(tree.misfits)} are of other versions"
        )
    if counts[TROUBLE]:
        return HostError.exit_status
    return 1 if counts[LIVED] or refuted else 0
