"""The README's commands on fresh machines of other Debian releases: tox -e hosts.

For each release a root is made that has apt, git and certificates and nothing else. A clean clone of this
checkout's last commit is put there, and ``./hil run`` does the rest, from nothing, as root and then as a user
of its own with another clone and an empty cache.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from memtype_support import debian_root
from pytest_memtype.errors import HostError, MemtypeError
from pytest_memtype.run.session import CLONE_FAILED

_PROJECT: Final = Path(__file__).resolve().parents[3]
SUITES: Final = ("bookworm", "trixie", "sid")
_USER: Final = "tester"
_LIMIT_SECONDS: Final = 5400
_SUMMARY: Final = re.compile(r"=+ (?P<counts>.*\b(?:passed|failed|error).*) in [\d.]+s")
_COUNT: Final = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b")
_SKIP: Final = re.compile(r"^SKIPPED \[\d+\] \S+: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """What came of one user on one host.

    :param command: ``run`` or ``test``.
    :param qemu: Version of QEMU.
    :param counts: ``passed``, ``failed``, ``skipped``, ``errors`` to how many.
    :param skips: The reasons.
    :param on_boot: Whether tests ran on a boot for want of a clone.
    :param seconds: From nothing to the end, installation included.
    :param ratios: Of ``clone.py``: ``ratio_to_bare`` and ``speedup_over_boot``.
    """

    suite: str
    user: str
    command: str
    qemu: str
    python: str
    status: int
    counts: dict[str, int]
    skips: tuple[str, ...]
    on_boot: bool
    seconds: float
    ratios: dict[str, float]

    @property
    def well(self) -> bool:
        """Whether everything passed, on clones."""
        return self.status == 0 and not self.on_boot


class Host:
    """The root of a release.

    :param log: Takes all that is printed there.
    """

    def __init__(self, suite: str, root: Path, log: Path) -> None:
        self.suite = suite
        self.root = root
        self.log = log

    def run(self, script: str, *, user: str | None = None) -> tuple[int, str]:
        """Run shell lines there, and return their status and all they print."""
        command = debian_root.entering(self.root, ["bash", "-c", script], user=user)
        with self.log.open("a") as log:
            print(f"\n--- {user or 'root'}: {script}", file=log, flush=True)
            start = log.tell()
            try:
                status = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=_LIMIT_SECONDS,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                status = 124
        with self.log.open(errors="replace") as log:
            log.seek(start)
            return status, log.read()

    def clone(self, user: str | None) -> str:
        """A clean clone in the home of a user; its path there."""
        home = f"/home/{user}" if user else "/root"
        to = self.root / home.lstrip("/") / "pytest-memtype"
        command = ["git", "clone", "--quiet", "--no-hardlinks", str(_PROJECT), str(to)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HostError(f"{_PROJECT} can't be cloned into {to}", details=tuple(done.stderr.splitlines()))
        if user:
            self.run(f"chown -R {user}: {home}")
        return f"{home}/pytest-memtype"


def measure(host: Host, user: str | None, *, command: str) -> Result:
    """Do what the README says as one user of a host."""
    place = host.clone(user)
    start = time.monotonic()
    status, output = host.run(f"cd {place} && CI=true ./hil {command}", user=user)
    seconds = time.monotonic() - start
    ratios: dict[str, float] = {}
    if status == 0:
        _, printed = host.run(f"cd {place} && .venv/bin/python framework/benchmarks/clone.py", user=user)
        ratios = figures(printed)
    # Where a test of pytest runs fails, theirs come before.
    summary = next(reversed(list(_SUMMARY.finditer(output))), None)
    _, versions = host.run(f"qemu-system-x86_64 --version; {place}/.venv/bin/python --version", user=user)
    qemu = re.search(r"version ([\d.]+)", versions)
    python = re.search(r"Python ([\d.]+)", versions)
    return Result(
        suite=host.suite,
        user=user or "root",
        command=command,
        qemu=qemu[1] if qemu else "-",
        python=python[1] if python else "-",
        status=status,
        counts={name: int(number) for number, name in _COUNT.findall(summary["counts"] if summary else "")},
        skips=tuple(sorted(set(_SKIP.findall(output)))),
        on_boot=CLONE_FAILED in output,
        seconds=seconds,
        ratios=ratios,
    )


def figures(printed: str) -> dict[str, float]:
    """Those of a benchmark's last line; none where it has no such line."""
    match = re.search(r"^\{.*\}$", printed.rstrip().rpartition("\n")[2])
    with contextlib.suppress(ValueError):
        found = json.loads(match[0]) if match else {}
        return {name: float(value) for name, value in found.items() if "bare_" not in name}
    return {}


def table(results: list[Result]) -> Table:
    """One row a user and host."""
    rows = Table(box=None, header_style="bold")
    for column in ("host", "user", "command", "QEMU", "Python", "status"):
        rows.add_column(column, no_wrap=True)
    for column in ("passed", "failed", "skipped", "seconds", "clone/bare", "boot/clone"):
        rows.add_column(column, justify="right")
    for each in results:
        ratios = (each.ratios.get("ratio_to_bare"), each.ratios.get("speedup_over_boot"))
        failed = each.counts.get("failed", 0) + each.counts.get("error", 0) + each.counts.get("errors", 0)
        rows.add_row(
            each.suite,
            each.user,
            each.command,
            each.qemu,
            each.python,
            str(each.status) + (", boots" if each.on_boot else ""),
            str(each.counts.get("passed", 0)),
            str(failed),
            str(each.counts.get("skipped", 0)),
            f"{each.seconds:.0f}",
            *(f"{ratio:.2f}" if ratio is not None else "-" for ratio in ratios),
        )
    return rows


@click.command()
@click.argument("suites", nargs=-1, type=click.Choice(SUITES), metavar="[SUITE]...")
@click.option("--command", type=click.Choice(("run", "test")), default="run", help="Of ./hil (default: run).")
@click.option("--user", "users", multiple=True, type=click.Choice(("root", _USER)), help="Who runs it.")
@click.option("--keep", is_flag=True, help="Leave the roots, to look at.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the roots are made.")
def main(
    suites: tuple[str, ...], command: str, users: tuple[str, ...], keep: bool, folder: Path | None
) -> None:
    """Run the README's commands on fresh roots of Debian releases (default: all three), as two users."""
    # As Ctrl-C does: whoever ends a job leaves no root of GiB behind.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        results = measured(suites or SUITES, command, users or ("root", _USER), keep=keep, folder=folder)
    except MemtypeError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_status)
    if told(results):
        sys.exit(1)


def measured(
    suites: Sequence[str], command: str, users: Sequence[str], *, keep: bool, folder: Path | None
) -> list[Result]:
    """What came of each user on each host, whose roots are gone by then.

    :raises HostError: a root can't be made, or nobody can be a user of it.
    """
    debian_root.require_root()
    console = Console(stderr=True, width=160)
    results: list[Result] = []
    # Roots take GiB, and /tmp is in memory from Debian 13 on.
    where = Path(tempfile.mkdtemp(prefix="memtype-hosts-", dir=folder or "/var/tmp")).absolute()
    for suite in suites:
        host = Host(suite, where / suite, where / f"{suite}.log")
        console.print(f"{suite}: making the root; all that happens there is in {host.log}", highlight=False)
        with contextlib.ExitStack() as stack:
            if not keep:
                # A half of one, too.
                stack.callback(debian_root.remove, host.root)
            debian_root.make(suite, host.root)
            status, output = host.run(f"useradd --create-home --shell /bin/bash {_USER}")
            if status != 0:
                raise HostError(f"{suite}: no user can be made: {' '.join(output.split())}; see {host.log}")
            for user in users:
                console.print(f"{suite}: ./hil {command} as {user}", highlight=False)
                # Packages are root's to install: a user finds what his ./hil named installed.
                if user != "root":
                    _install_as_told(host, command)
                results.append(measure(host, None if user == "root" else user, command=command))
                console.print(table(results[-1:]))
    if not keep and all(each.well for each in results):
        shutil.rmtree(where)
    return results


def told(results: list[Result]) -> bool:
    """Print what came of all, and return whether something of it is bad."""
    Console(width=160).print(table(results))
    expected = next((set(each.skips) for each in results if each.suite == SUITES[0]), None)
    strange = [
        f"{each.suite}: skipped, but not on {SUITES[0]}: {reason}"
        for each in results
        if expected is not None
        for reason in each.skips
        if reason not in expected
    ]
    for line in strange:
        click.echo(line)
    print(json.dumps([asdict(each) for each in results]))
    return bool(strange) or not all(each.well for each in results)


def _install_as_told(host: Host, command: str) -> None:
    """Have root do what ``./hil`` tells a plain user, if it does."""
    place = host.clone(_USER)
    _, output = host.run(f"cd {place} && ./hil {command} --collect-only -q", user=_USER)
    match = re.search(r"as root, run: (.*)$", output, re.MULTILINE)
    if match is not None:
        host.run(f"export DEBIAN_FRONTEND=noninteractive; {match[1]}")
    # The measured one begins from nothing.
    for name in ("pytest-memtype", ".cache"):
        debian_root.remove(host.root / "home" / _USER / name)


if __name__ == "__main__":
    main()
