"""The command ``memtype completion``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from pytest_memtype.errors import HostError, UsageError, reason
from pytest_memtype.host.files import read_text, write_atomically

SHELLS: Final = ("bash", "zsh", "fish")
_PROGRAM: Final = "memtype"
_LINE: Final = "# memtype completion"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--print", "show", is_flag=True, help="Print the script instead, for your own set-up.")
@click.pass_context
def completion(ctx: click.Context, shell: str | None, show: bool) -> None:
    """Have the shell complete verbs, options, kernels and layouts of memtype: by default the shell of $SHELL.

    The script goes where the shell looks for those of its user; of zsh a line is added to .zshrc.

    \b
    Examples:
      memtype completion
      memtype completion zsh
      memtype completion bash --print
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise UsageError(f"{name or 'SHELL'}: no shell that is known here; name one: {', '.join(SHELLS)}")
    kind = get_completion_class(name)
    assert kind is not None
    script = kind(ctx.find_root().command, {}, _PROGRAM, f"_{_PROGRAM.upper()}_COMPLETE").source()
    if show:
        click.echo(script)
        return
    path = _place(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"{reason(error)}; use --print, and keep the script yourself") from None
    write_atomically(path, script.encode() + b"\n")
    click.echo(f"{path}: written; it works in each new {name}")
    if name == "zsh":
        _have_it_read(path)


def _place(shell: str) -> Path:
    """The file that a shell looks for by itself; zsh has no folder of a user's for that."""
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return {
        # bash-completion's README: "completions/" below the user's data folder.
        "bash": data / "bash-completion" / "completions" / _PROGRAM,
        "fish": config / "fish" / "completions" / f"{_PROGRAM}.fish",
        "zsh": data / _PROGRAM / "completion.zsh",
    }[shell]


def _have_it_read(path: Path) -> None:
    """Add a line to zsh's settings that reads the script, if they have none."""
    settings = Path(os.environ.get("ZDOTDIR") or Path.home()) / ".zshrc"
    text = read_text(settings) if settings.exists() else ""
    if _LINE in text:
        return
    # The script ends with compdef, which compinit brings.
    line = f"(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}; source '{path}' {_LINE}\n"
    if settings.is_symlink():
        # Of somebody who keeps it elsewhere.
        click.echo(f"{settings}: is a link; add to it: {line.strip()}")
        return
    write_atomically(settings, (text.rstrip("\n") + "\n" + line).lstrip("\n").encode())
    click.echo(f"{settings}: a line was added")
