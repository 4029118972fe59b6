"""Trials of all faults of a kernel, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from pytest_memtype.errors import KernelError, reason
from pytest_memtype.host.child import describe_status, dying_with_us
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.mutant_catalogue import NONE, Mutant
from pytest_memtype.kernels.mutant_tree import PlantedTree
from pytest_memtype.mutate.rows import EQUIVALENT, KILLED, LIVED, TROUBLE, Row, add, read
from pytest_memtype.mutate.trial import ALL, ANSWER, RUNS, Trial

# A suite whose guests hang ends each with a time limit of its own.
_LIMIT_SECONDS = 3600.0
_GRACE_SECONDS = 10.0


def rows_of(
    tree: PlantedTree,
    mutants: Sequence[Mutant],
    *,
    suite: Path,
    work: Path,
    against: str,
    every: bool,
    named: bool,
) -> Iterator[tuple[Row, bool]]:
    """Try the faults of a kernel one after the other, and give each row with whether it is an earlier run's.

    :param tree: The kernel.
    :param mutants: The faults to try, which are in it.
    :param suite: The folder of the tests.
    :param work: The folder of the rows and of the trials' logs.
    :param against: Hash of the kernel and the suite, see :func:`pytest_memtype.mutate.rows.fingerprint`.
    :param every: Run all tests for each fault.
    :param named: Has the user named the faults? Then earlier rows don't count, nor do proofs.
    :raises KernelError: the suite fails on the kernel without any fault.
    """
    file = work / "rows.jsonl"
    known = read(file, against=against, all_tests=every)
    if NONE not in known or known[NONE].outcome != LIVED:
        row = _tried(tree, None, suite=suite, work=work, against=against, every=True)
        add(file, row)
        if row.outcome != LIVED:
            raise KernelError(
                f"kernel {tree.spec}: without any fault the suite doesn't pass; see {work / 'none.log'}",
                details=(row.note,) if row.note else row.killed_by,
            )
        yield row, False
    for mutant in mutants:
        if mutant.name in known and not named:
            yield known[mutant.name], True
            continue
        if mutant.equivalent and not named:
            yield Row(mutant.name, EQUIVALENT, note=mutant.equivalent, against=against), False
            continue
        row = _tried(tree, mutant, suite=suite, work=work, against=against, every=every)
        if mutant.equivalent and row.outcome == LIVED:
            row = replace(row, outcome=EQUIVALENT, note=mutant.equivalent)
        add(file, row)
        yield row, False


def _tried(
    tree: PlantedTree, mutant: Mutant | None, *, suite: Path, work: Path, against: str, every: bool
) -> Row:
    name = NONE if mutant is None else mutant.name
    start = time.monotonic()
    first = () if mutant is None else mutant.tests
    said = _apart(tree, name, first, suite=suite, work=work, every=every)
    seconds = time.monotonic() - start
    # A test that failed has noticed the fault, whatever the host couldn't do besides.
    outcome = KILLED if said.killed_by else TROUBLE if said.trouble else LIVED
    return Row(
        name,
        outcome,
        killed_by=tuple(said.killed_by if every else said.killed_by[:1]),
        seconds=seconds,
        note=said.trouble if outcome == TROUBLE else "",
        against=against,
        all_tests=every,
    )


def _apart(
    tree: PlantedTree, name: str, first: Sequence[str], *, suite: Path, work: Path, every: bool
) -> Trial:
    answer = work / ANSWER
    answer.unlink(missing_ok=True)
    # As Ctrl-C, so that it puts away what it has started if this process is killed.
    command = [*dying_with_us(by="INT"), sys.executable, "-m", "pytest_memtype.mutate.trial"]
    command += [tree.spec, name, str(suite), str(work), *([ALL] if every else []), *first]
    try:
        with (work / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                # Tests are named from here.
                cwd=suite.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **mirror.environment()},
            )
            try:
                status = process.wait(_LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                # A test whose guest hangs fails long before: this host was too busy.
                return Trial(trouble=f"the trial was not done in {_LIMIT_SECONDS:.0f} s")
            finally:
                _end(process)
    except OSError as error:
        return Trial(trouble=f"the trial can't be started: {reason(error)}")
    else:
        try:
            return msgspec.json.decode(answer.read_bytes(), type=Trial)
        except (OSError, ValueError):
            return Trial(trouble=f"the trial {describe_status(status)} without an answer")
    finally:
        # Logs of guests, and templates that booted with the fault.
        shutil.rmtree(work / RUNS, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
        process.kill()
        process.wait()
