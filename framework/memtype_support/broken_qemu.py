"""Programs that are called QEMU, and have one thing wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from pytest_memtype.machine.qemu_versions import QEMU

_REAL: Final = "exec '{real}' \"$@\""
# What the real one says of itself, altered on its way. A guest's QEMU must be the process that was started.
_ALTERED: Final = "case $1 in --version | -M) '{real}' \"$@\" | sed -e '{script}' ;; *) " + _REAL + " ;; esac"
_OTHER_VERSION: Final = (
    's/"micro": [0-9]*, "minor": [0-9]*, "major": [0-9]*/"micro": 0, "minor": {minor}, "major": {major}/; '
    "s/version [0-9.]*/version {major}.{minor}.0/"
)

#: What is wrong to the body of a shell script, in which ``{real}`` is the host's QEMU.
WRONG: Final = {
    "status 127": "exit 127",
    "silent": "exit 0",
    "killed": "kill -9 $$",
    "dies at once": "case $1 in --version | -M) " + _REAL + " ;; *) kill -SEGV $$ ;; esac",
    "no version": '[ "$1" != --version ] || exit 0\n' + _REAL,
    "no answer": "sleep 1000",
    "too old": _ALTERED.replace("{script}", _OTHER_VERSION.format(major=5, minor=2)),
    "newer": _ALTERED.replace("{script}", _OTHER_VERSION.format(major=99, minor=1)),
    "two versions": '[ "$1" != --version ] || { echo "QEMU emulator version 5.2.0"; exit 0; }\n' + _REAL,
    "no bochs-display": _ALTERED.replace("{script}", "s/bochs-display/nothing/g"),
    "no description": '[ "$1" != -nodefaults ] || set -- "$@" -machine suppress-vmdesc=on\n' + _REAL,
    "no guest": '[ "$1" != -nodefaults ] || set -- "$@" -device nosuch\n' + _REAL,
    # As one that a profile or another process namespace confines.
    "confined": 'case "$*" in *mem-path=/proc/*) '
    'echo "can\'t open backing store for guest RAM: Permission denied" >&2; exit 1 ;; esac\n' + _REAL,
    "text for JSON": '[ "$1" = --version ] || { echo hello; exit 0; }\n' + _REAL,
}


def make(folder: Path, wrong: str) -> Path:
    """A QEMU of :data:`WRONG`; its folder is to be put first on the PATH."""
    real = shutil.which(QEMU)
    assert real is not None
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / QEMU
    program.write_text("#!/bin/sh\n" + WRONG[wrong].replace("{real}", real) + "\n")
    program.chmod(0o755)
    return program
