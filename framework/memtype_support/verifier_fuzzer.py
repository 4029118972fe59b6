"""libFuzzer on the verifier's C code, for a bounded time: ``tox -e fuzz``, or run this file."""

from __future__ import annotations

import os
from pathlib import Path

import click

from memtype_support.verifier_library import make
from pytest_memtype.host.program import run_to_end

# What an input of this length does is still read by a person.
_BYTES = 240
# Seconds that one input may take; it needs microseconds. A list that was damaged can be endless.
_INPUT_SECONDS = 10
# Beyond its own limit the fuzzer reads the corpus first; this bounds a host that is very busy.
_GRACE_SECONDS = 200
_TAIL_LINES = 60


class FaultFound(Exception):
    """An input on which the verifier and the fuzzer's reference differ, or a sanitizer reports."""


def fuzz(folder: Path, *, seconds: int = 0, runs: int = -1, seed: int = 0, module: Path | None = None) -> str:
    """Fuzz, going on from the inputs that earlier runs left in ``folder``.

    :param folder: Gets the program, its ``corpus`` and, for each fault, a ``crash-*``, ``leak-*`` or
        ``timeout-*`` file.
    :param seconds: After which it ends; 0 for no such limit.
    :param runs: Inputs after which it ends; -1 for no such limit.
    :param seed: Of its random numbers; 0 for another each time.
    :param module: A folder with another ``verifier.c`` and ``verifier.h`` than the project's.
    :return: The fuzzer's last line: how many inputs it tried.
    :raises FaultFound: it found one; the message holds the report and says how to replay it.
    """
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    make("fuzz", folder, module=module)
    command = [
        str(folder / "fuzz"),
        f"-max_total_time={seconds}",
        f"-runs={runs}",
        f"-seed={seed}",
        f"-timeout={_INPUT_SECONDS}",
        # Of a process that was started by a large one Linux says that it has been as large.
        "-rss_limit_mb=0",
        "-malloc_limit_mb=1024",
        f"-max_len={_BYTES}",
        "-len_control=0",
        f"-artifact_prefix={folder}{os.sep}",
        str(corpus),
    ]
    done = run_to_end(command, timeout=seconds + _GRACE_SECONDS)
    lines = done.stdout.splitlines()
    if done.returncode:
        written = [line for line in lines if "Test unit written to" in line]
        replay = (
            f"{command[0]} -timeout={_INPUT_SECONDS} {written[-1].rpartition(' ')[2]}"
            if written
            else "nothing was written"
        )
        raise FaultFound("\n".join((*lines[-_TAIL_LINES:], f"to replay it: {replay}")))
    return lines[-1]


@click.command(help=__doc__)
@click.option("--seconds", default=300, show_default=True, help="How long.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".memtype") / "fuzz",
    show_default=True,
    help="Where the inputs are kept.",
)
def main(seconds: int, folder: Path) -> None:
    """Run the fuzzer; exit status 1 when it found a fault."""
    try:
        click.echo(fuzz(folder.absolute(), seconds=seconds))
    except FaultFound as found:
        raise click.ClickException(str(found)) from found


if __name__ == "__main__":
    main()
