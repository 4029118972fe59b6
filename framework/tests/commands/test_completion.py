"""Completion in shells: where the script goes, and what it completes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main

PLACES = {
    "bash": ".local/share/bash-completion/completions/memtype",
    "zsh": ".local/share/memtype/completion.zsh",
    "fish": ".config/fish/completions/memtype.fish",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def complete(words: str) -> list[str]:
    """What the scripts ask for, and get."""
    done = subprocess.run(
        [sys.executable, "-c", "from pytest_memtype.cli import main; main(prog_name='memtype')"],
        env=os.environ
        | {
            "_MEMTYPE_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", PLACES)
def test_the_script_goes_where_the_shell_looks(
    home: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    done = CliRunner().invoke(main, ["completion"])
    assert done.exit_code == 0, done.output
    assert f"{home / PLACES[shell]}: written; it works in each new {shell}" in done.output
    script = (home / PLACES[shell]).read_text()
    assert "_MEMTYPE_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(home / PLACES[shell])], check=True)


def test_zsh_reads_it_once(home: Path) -> None:
    (home / ".zshrc").write_text("# mine\n")
    for _ in range(2):
        assert CliRunner().invoke(main, ["completion", "zsh"]).exit_code == 0
    lines = (home / ".zshrc").read_text().splitlines()
    assert lines[0] == "# mine"
    assert len(lines) == 2
    assert lines[1].endswith(f"source '{home / PLACES['zsh']}' # memtype completion")


def test_a_link_to_settings_elsewhere_is_left_alone(home: Path) -> None:
    (home / "dotfiles").write_text("# mine\n")
    (home / ".zshrc").symlink_to(home / "dotfiles")
    done = CliRunner().invoke(main, ["completion", "zsh"])
    assert ".zshrc: is a link; add to it: " in done.output
    assert (home / ".zshrc").is_symlink()
    assert (home / "dotfiles").read_text() == "# mine\n"


def test_printing_writes_nothing(home: Path) -> None:
    done = CliRunner().invoke(main, ["completion", "fish", "--print"])
    assert "complete --no-files --command memtype" in done.output
    assert list(home.iterdir()) == []


def test_an_unknown_shell_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    done = CliRunner().invoke(main, ["completion"])
    assert done.exit_code == 2
    assert done.output == "memtype: tcsh: no shell that is known here; name one: bash, zsh, fish\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("memtype evid", ["evidence"]),
        ("memtype run --kernel-", []),
        ("memtype run --ke", ["--kernel", "--keep-logs"]),
        ("memtype run --su", ["--suite"]),
        ("memtype kernels lo", ["lock"]),
        ("memtype evidence --ta", ["--tar"]),
    ],
)
def test_verbs_and_options_are_completed(words: str, expected: list[str]) -> None:
    assert complete(words) == expected
