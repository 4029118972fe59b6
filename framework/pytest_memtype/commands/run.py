"""``memtype run``."""

from __future__ import annotations

import sys

import click


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run the suite, or the tests named, against real kernels.

    All arguments are pytest's, and --help shows them; those of this project are --kernel, --layout, --fresh,
    --accel, --shared-guest, --keep-logs and --memtype-dir; for a machine that somebody owns --target,
    --console, --target-config and --dry-run. One worker runs per core.

    With --observe nothing is tested: a guest boots, the drivers of its kernel are loaded, and every mapping
    of theirs that breaks the rules is listed. It takes --kernel, --layout and --accel, and ends with status
    1 when there is one.

    \b
    Examples:
      memtype run
      memtype run --observe --kernel debian:bookworm
      memtype run --kernel debian:bullseye -k sharers
      memtype run --layout wc-framebuffer my_tests/
    """
    if "--observe" in arguments:
        from pytest_memtype.observe import run_observe

        sys.exit(run_observe([argument for argument in arguments if argument != "--observe"]))
    from pytest_memtype.run import run_suite

    sys.exit(run_suite(list(arguments)))
