"""The command ``memtype explain``."""

from __future__ import annotations

import json
import textwrap

import click

from pytest_memtype.commands.reports import layout_name, read_report
from pytest_memtype.errors import harmless


@click.command()
@click.argument("file", default="-", metavar="[FILE]")
@click.option("--json", "as_json", is_flag=True, help="Print the facts for programs.")
def explain(file: str, as_json: bool) -> None:
    """Tell what a report says: a kernel's log, /proc/mtrr, pat_memtype_list, lspci -v, or a mail with them.

    Without a file it is read from the standard input. Nothing is said that the text doesn't carry; what is
    missing to say more is named, with the command that would tell.

    \b
    Examples:
      memtype explain dmesg.txt
      dmesg | memtype explain
      memtype explain --json mail.txt
    """
    from pytest_memtype.bugs.catalogue import catalogue
    from pytest_memtype.explain import explanation

    dump = read_report(file)
    found = explanation.explain(dump, [each.bug for each in catalogue()], name=layout_name(file))
    if as_json:
        click.echo(json.dumps(explanation.as_json(found), indent=2))
        return
    for number, section in enumerate(explanation.sections(found)):
        if number:
            click.echo()
        click.echo(section.title)
        several = len(section.lines) > 1
        for line in section.lines:
            first = "  - " if several else "  "
            wrapped = textwrap.wrap(
                harmless(line),
                100,
                initial_indent=first,
                subsequent_indent=" " * len(first),
                break_long_words=False,
            )
            for each in wrapped or [first]:
                click.echo(each)
