"""The kernel's ``checkpatch.pl`` on the C sources: for ``tox -e lint`` and ``./hil test``, or run this file.

Where it can't be had or run, one line says why, and nothing is checked: a host without a network will do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click

from memtype_support.kernel_scripts import CHECKPATCH, LeftOutError, kernel_scripts
from pytest_memtype.host.program import run_to_end
from pytest_memtype.host.progress import Progress, silent
from pytest_memtype.host.resources import guest_sources

SCRIPT = CHECKPATCH
_LIMIT_SECONDS = 300
# perl-base, which every Debian has, is not enough.
_MODULES = ("POSIX", "Cwd", "Encode", "Getopt::Long", "Term::ANSIColor")

# The project's line, as ruff has it.
_COLUMNS = 110

ALWAYS_IGNORED = {
    "LONG_LINE_STRING": "a message that is broken can't be searched for",
    "LINUX_VERSION_CODE": "the module is not in the kernel's tree: one source is built for 5.10 to 7.3",
    "CONSTANT_COMPARISON": "it takes LINUX_VERSION_CODE for a constant, KERNEL_VERSION() for a variable",
    "CONST_STRUCT": "vm_operations_struct is copied for each mapping, with two functions changed",
}
"""The types that are not asked for, and why."""

IN_USER_SPACE_IGNORED = {
    "PREFER_KERNEL_TYPES": "outside of the kernel the fixed types are C's own",
    "PREFER_DEFINED_ATTRIBUTE_MACRO": "the macros are the kernel's",
    "BIT_MACRO": "as is that one",
    "CAMELCASE": "names of the ELF header and of libFuzzer",
    "AVOID_EXTERNS": "what the linker and libFuzzer call is declared in no header",
    "VOLATILE": "device memory is read without readl(), and signal handlers need it",
    "EMBEDDED_FUNCTION_NAME": "a verb's name is the protocol's, whatever its function is called",
    "QUOTED_WHITESPACE_BEFORE_NEWLINE": "it takes a set of delimiters for a message",
    "ENOSYS": "a program may say so of what its libc lacks",
}


@dataclass(frozen=True)
class Room:
    """Files that are checked alike.

    :param folders: Under ``guests/``. Those below ``verifier_host/`` stand in for the kernel's own headers.
    :param ignored: Types of complaints, with the reason for each.
    """

    folders: tuple[str, ...]
    ignored: dict[str, str]

    def files(self) -> list[Path]:
        """The C files, without kbuild's own products."""
        sources = [path for folder in self.folders for path in (guest_sources() / folder).glob("*.[ch]")]
        return sorted(path for path in sources if not path.name.endswith(".mod.c"))


ROOMS = (
    Room(("module",), ALWAYS_IGNORED),
    Room(("agent", "launcher", "verifier_host"), ALWAYS_IGNORED | IN_USER_SPACE_IGNORED),
)


def script(*, progress: Progress = silent) -> Path:
    """The script, from the cache or out of Debian's package.

    :raises LeftOutError: it can't be had.
    """
    return kernel_scripts(progress=progress) / SCRIPT


def perl() -> str:
    """The program that runs the script.

    :raises LeftOutError: there is none, or not all of it.
    """
    program = shutil.which("perl")
    if program is None:
        raise LeftOutError("perl is not installed")
    probe = [program, *(f"-M{module}" for module in _MODULES), "-e", "1"]
    if subprocess.run(probe, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode:
        raise LeftOutError("perl lacks some of its modules; install the package perl")
    return program


def check(program: str, path: Path, room: Room) -> str:
    """What the script says of a room, a line each; empty if nothing.

    :param program: perl.
    :param path: The script.
    """
    # It reads settings in the current folder and in the home, keeps notes in the former, and looks for names
    # of the kernel's in "include" of its root.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "include").mkdir()
        command = [program, str(path), "--no-tree", "--root=.", "--strict", "--terse", "--show-types"]
        command += ["--no-summary", f"--max-line-length={_COLUMNS}"]
        command += [f"--ignore={','.join(room.ignored)}"] if room.ignored else []
        done = run_to_end(
            [*command, "--file", *map(str, room.files())],
            cwd=folder,
            env=os.environ | {"HOME": folder},
            timeout=_LIMIT_SECONDS,
        )
    said = done.stdout.replace(f"{guest_sources()}{os.sep}", f"guests{os.sep}").strip()
    return said or (f"{SCRIPT} ended with status {done.returncode}" if done.returncode else "")


@click.command()
def main() -> None:
    """Check the C sources. Ends with status 1 when there is something to mend."""
    try:
        program, path = perl(), script(progress=lambda text: click.echo(f"{SCRIPT}: {text}", err=True))
    except LeftOutError as error:
        click.echo(f"{SCRIPT} is left out: {error}")
        return
    with ThreadPoolExecutor(len(ROOMS)) as pool:
        said = [text for text in pool.map(lambda room: check(program, path, room), ROOMS) if text]
    click.echo("\n".join(said) or f"{SCRIPT}: no complaints")
    sys.exit(bool(said))


if __name__ == "__main__":
    main()
