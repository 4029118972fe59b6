"""The lines of a user's module that its functions are made from, by addr2line of the kernel's toolchain."""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import subprocess
from typing import Final

from pytest_memtype.errors import MemtypeError
from pytest_memtype.host import resources
from pytest_memtype.host.private_folder import temporary_folder
from pytest_memtype.host.program import run_to_end
from pytest_memtype.host.progress import silent
from pytest_memtype.host.store import build_dir, exclusive
from pytest_memtype.kernels import sandbox
from pytest_memtype.kernels.user_module import UserModule

_LIMIT_SECONDS: Final = 120
# A place as the kernel prints it, toy_probe+0x3b/0x60 [toy]; without an offset it is the function's begin.
_PLACE: Final = re.compile(r"([\w.]+)(?:\+(0x[0-9a-f]+)/0x[0-9a-f]+)?(?: \[\w+\])?")
# Of readelf: number and name of a section; a function's value, number of its section, and name.
_SECTION: Final = re.compile(r"^\s*\[ *(\d+)\] (\S+) +PROGBITS", re.MULTILINE)
_SYMBOL: Final = re.compile(r"^\s*\d+: ([0-9a-f]{16}) +\w+ FUNC +\w+ +\w+ +(\d+) (\S+)$", re.MULTILINE)


def line_of(module: UserModule, place: str) -> str | None:
    """File and line of a place in a module, ``toy/toy.c:31``; None where it can't be told.

    :param module: The module.
    :param place: A place as the kernel prints it: of a return address ``function+0x3b/0x60 [module]``, and
        then the line is that of the call; or a function alone.
    """
    match = _PLACE.fullmatch(place)
    if match is None:
        return None
    try:
        found = _symbols(module).get(match[1])
        if found is None:
            return None
        section, start = found
        # The call is before the address to return to.
        address = start + (int(match[2], 16) - 1 if match[2] else 0)
        return _line(module, section, address)
    except (MemtypeError, OSError):
        # A toolchain that is gone is no reason to hide what was observed.
        return None


@functools.cache
def _symbols(module: UserModule) -> dict[str, tuple[str, int]]:
    """The section of each function, and its offset there in bytes."""
    text = _run(module, "readelf", "-SsW", "module.ko")
    sections = dict(_SECTION.findall(text))
    return {
        name: (sections[number], int(value, 16))
        for value, number, name in _SYMBOL.findall(text)
        if number in sections
    }


@functools.cache
def _line(module: UserModule, section: str, address: int) -> str | None:
    text = _run(module, "addr2line", "-i", "-j", section, "-e", "module.ko", f"{address:#x}")
    # The innermost of inlined functions comes first, such as io_remap_pfn_range() of the kernel's headers.
    for line in text.splitlines():
        _, found, rest = line.partition(" ")[0].rpartition(f"/{module.folder}/")
        if found and not rest.endswith(":?"):
            return rest if module.source.endswith(".c") else f"{module.folder}/{rest}"
    return None


def _run(module: UserModule, *command: str) -> str:
    with temporary_folder("lines") as work:
        shutil.copyfile(module.debug, work / "module.ko")
        if module.kit is None:
            try:
                return run_to_end(command, cwd=work, timeout=_LIMIT_SECONDS).stdout
            except subprocess.TimeoutExpired:
                return ""
        # A run without bubblewrap writes to the kit.
        with exclusive(build_dir(resources.cache_directory(), module.kit.name), silent):
            # The names in a module are those of whoever made it.
            script = shlex.join(command)
            return sandbox.run(module.kit, source=work, script=script, limit=_LIMIT_SECONDS).output
