"""The command ``memtype run``."""

from __future__ import annotations

import sys

import click
from click.shell_completion import CompletionItem

from pytest_memtype.run.options import OPTIONS, OptionParser


class _Run(click.Command):
    """A command whose help lists the options that the plugin adds to pytest's."""

    def format_options(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Options (pytest's own are taken, too: pytest --help)"):
            suite = ("--suite", "the package's own tests, in a folder with tests too")
            observe = ("--observe", "test nothing, and list what the kernel's drivers map")
            usual = [(_SHORT.get(option.name, option.usage), option.help) for option in OPTIONS]
            formatter.write_dl([suite, observe, *usual])

    def shell_complete(self, _: click.Context, incomplete: str) -> list[CompletionItem]:
        """The options of the plugin, and files; see :mod:`pytest_memtype.commands.completion`."""
        if not incomplete.startswith("-"):
            return [CompletionItem(incomplete, type="file")]
        ours = [(_SHORT.get(option.name, option.name).split()[0], option.help) for option in OPTIONS]
        ours += [("--suite", "the package's own tests"), ("--observe", "list what drivers map")]
        return [CompletionItem(name, help=text) for name, text in ours if name.startswith(incomplete)]


# pytest-html has the option, so that the plugin's own can't be called that.
_SHORT = {"--memtype-html": "--html DIR"}


def _full(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return f"--memtype-html{equals}{value}" if name == "--html" else argument


@click.command(cls=_Run, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[TESTS]...")
def run(arguments: tuple[str, ...]) -> None:
    """Run the tests of this folder, or those named, against real kernels, with one worker per core.

    Where the folder has no tests, or with --suite, the suite of this package is run.

    With --observe nothing is tested: a guest boots, the drivers of its kernel are loaded, and every mapping
    of theirs that breaks the rules is listed. It takes --kernel, --layout and --accel.

    The exit status is 0 when all is as expected, 1 when a verdict differs or a mapping breaks a rule, 2 for
    wrong usage, and 3 when the host or a guest couldn't be used.

    \b
    Examples:
      memtype run
      memtype run --suite -k two_drivers --kernel debian:bullseye --kernel debian:trixie-backports
      memtype run --suite --kernel set:lts
      memtype run --layout wc-framebuffer my_tests/
      memtype run --guest debian:bookworm testcases/distribution
      memtype run --observe --kernel debian:bookworm
    """
    if "--observe" in arguments:
        from pytest_memtype.commands.observe import run_observe

        sys.exit(run_observe([each for each in arguments if each not in ("--observe", "--suite")]))
    from pytest_memtype.run.suite import run_suite
    from pytest_memtype.site.folder import check_target

    words = list(map(_full, arguments))
    known, _ = OptionParser().parse_known_args(words)
    if known.memtype_html is not None:
        # Before anything is fetched.
        check_target(known.memtype_html)
    sys.exit(run_suite(words, or_own=True))
