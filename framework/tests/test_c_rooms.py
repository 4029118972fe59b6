"""The C sources: no file uses another that uses it in turn, and each function bears its file's prefix.

A prefix is the file's name, or what :data:`PREFIXES` says. The sources are read as text, without a compiler,
so they must be in the kernel's style: the brace of a function's body, and of nothing else, begins a line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pytest_memtype.host.resources import guest_sources

ROOMS = ("module", "agent", "launcher", "verifier_host")

PREFIXES = {
    "driver_calls": "driver_call",
    "driver_operations": "driver",
    "observe_probe": "probe",
    "answers": "answer",
    "operations": "operation",
    "process_calls": "process_call",
    "process_mappings": "process_mapping",
}
"""Of a function, where it isn't the file's name."""

FOREIGN = {
    "main",
    # The C library's and the linker's own names, which QEMU and a test call.
    "__libc_start_main",
    "__wrap_fork",
    # libFuzzer's.
    "LLVMFuzzerTestOneInput",
    # In user space guests/verifier_host has what the module takes from the kernel ...
    "kzalloc",
    "kfree",
    "cond_resched",
    # ... and the supervisor from the agent.
    "file_write",
    "options_own_machine",
    "process_mtrr_remember",
    "process_mtrr_restore",
    # Its processes' side takes this.
    "file_read",
}
"""Names that others have given."""

_NO_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", re.MULTILINE)
_INCLUDE = re.compile(r'^#include "(?:[^"]*/)?([^"/]+)\.h"', re.MULTILINE)
_BODY = re.compile(r"\)\s*\n\{")
_VARIABLE = re.compile(
    r"(?:const\s+)?(?:(?:struct|enum|union)\s+\w+|(?!struct\b|enum\b|union\b)[a-z_]\w*(?:\s+[a-z_]\w*)*?)"
    r"\s+\**([a-z_]\w*)(?:\[[^\]]*\])*\s*(?:=.*)?",
    re.DOTALL,
)
_DEFINED = re.compile(r"DEFINE_[A-Z_]+\((\w+)\)")
# Not a field: those may have any name.
_NAME = re.compile(r"(?<![.\w])(?<!->)[A-Za-z_]\w*")


def code_of(path: Path) -> str:
    """A file's text without comments, strings and directives."""
    return _DIRECTIVE.sub("", _NO_CODE.sub(" ", path.read_text()))


def functions_of(code: str) -> list[tuple[str, bool]]:
    """The functions whose bodies stand in a file's code, in their order, and whether each is static."""
    found = []
    for body in _BODY.finditer(code):
        position, depth = body.start(), 1
        while depth:
            position -= 1
            depth += {")": 1, "(": -1}.get(code[position], 0)
        head = re.split(r"[;}]", code[:position])[-1]
        words = re.findall(r"\w+", head)
        found.append((words[-1], "static" in words))
    return found


def shared_of(code: str) -> set[str]:
    """The functions and variables of a file that others can use."""
    outside, depth = "", 0
    for character in code:
        depth -= character == "}"
        if not depth:
            outside += "};" if character == "}" else character
        depth += character == "{"
    found = {name for name, static in functions_of(code) if not static}
    for statement in map(str.strip, outside.split(";")):
        if not re.match(r"(?:static|extern|typedef)\b", statement):
            variable = _DEFINED.match(statement) or _VARIABLE.fullmatch(statement)
            found |= {variable[1]} if variable else set()
    return found


def _files(room: Path, ending: str) -> list[Path]:
    # kbuild's own product isn't ours.
    return sorted(path for path in room.glob(f"*{ending}") if not path.name.endswith(".mod.c"))


def uses_of(room: Path) -> dict[str, set[str]]:
    """Which files each file uses, by their names without the ending: what it includes, calls, reads."""
    codes = {path.stem: code_of(path) for path in _files(room, ".c")}
    owners = {name: stem for stem, code in codes.items() for name in shared_of(code)}
    uses: dict[str, set[str]] = {stem: set() for stem in codes}
    for stem, code in codes.items():
        uses[stem] |= {owners[name] for name in _NAME.findall(code) if name in owners}
    for header in _files(room, ".h"):
        uses.setdefault(header.stem, set()).update(_INCLUDE.findall(header.read_text()))
    return {stem: {other for other in found if other != stem} for stem, found in uses.items()}


def circle_in(uses: Mapping[str, set[str]]) -> list[str] | None:
    """The names along one circle, the first of them again at its end; None when there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        for other in sorted(uses.get(name, ())):
            found = walk(other, [*path, name])
            if found:
                return found
        done.add(name)
        return None

    return next((found for name in sorted(uses) if (found := walk(name, []))), None)


def misnamed_in(room: Path) -> Iterator[str]:
    """What is wrong with the names of a room's functions, a line each."""
    codes = {path: code_of(path) for path in (*_files(room, ".c"), *_files(room, ".h"))}
    prefixes = {PREFIXES.get(path.stem, path.stem) for path in codes}
    count: Counter[str] = Counter()
    for path, code in codes.items():
        own = PREFIXES.get(path.stem, path.stem)
        for name, _ in functions_of(code):
            count[name] += 1
            if name in FOREIGN:
                continue
            # driver_call_x is driver_calls.c's, though it begins with the prefix of driver_operations.c too.
            fitting = [prefix for prefix in prefixes if name == prefix or name.startswith(f"{prefix}_")]
            if max(fitting, key=len, default=None) != own:
                yield f"{path.name}: {name}() doesn't begin with {own}_"
    yield from (
        f"{room.name}: {name}() is there twice" for name in count if count[name] > 1 and name != "main"
    )


@pytest.mark.parametrize("room", ROOMS)
def test_files_do_not_use_each_other_in_a_circle(room: str) -> None:
    circle = circle_in(uses_of(guest_sources() / room))
    assert circle is None, " uses ".join(circle or ())


@pytest.mark.parametrize("room", ROOMS)
def test_functions_bear_the_prefix_of_their_file(room: str) -> None:
    assert list(misnamed_in(guest_sources() / room)) == []


def test_module_main_is_used_by_nobody() -> None:
    uses = uses_of(guest_sources() / "module")
    assert [name for name, used in uses.items() if "main" in used] == []
    assert uses["main"] >= {"state", "verifier", "observe", "user_mmap", "driver_operations"}


def _write(room: Path, **files: str) -> Path:
    for name, text in files.items():
        (room / f"{name}.c").write_text(text)
    return room


def test_circles_are_found(tmp_path: Path) -> None:
    one = 'int one_count;\n\nvoid one_run(void)\n{\n\t/* three_run() */\n\ttwo_run("three_run");\n}\n'
    two = "void two_run(void)\n{\n\tthree_run();\n}\n"
    three = "void three_run(void)\n{\n\tthree_set(data->one_count + one_count);\n}\n"
    room = _write(tmp_path, one=one, two=two, three=three)
    assert uses_of(room) == {"one": {"two"}, "two": {"three"}, "three": {"one"}}
    assert circle_in(uses_of(room)) == ["one", "two", "three", "one"]
    _write(tmp_path, three=three.replace(" + one_count", ""))
    assert circle_in(uses_of(room)) is None


def test_variables_count_as_used(tmp_path: Path) -> None:
    owner = (
        "struct shape {\n\tint sides;\n};\nstruct file;\n\nDEFINE_MUTEX(owner_lock);\n"
        "struct shape owner_shape;\n"
        "const struct shape owner_square = {\n\t.sides = 4,\n};\nbool owner_flags[3] = { 0 };\n"
        "static int owner_hidden;\nextern int owner_elsewhere;\nvoid owner_run(int owner_hidden);\n"
    )
    assert shared_of(code_of(_write(tmp_path, owner=owner) / "owner.c")) == {
        "owner_lock",
        "owner_shape",
        "owner_square",
        "owner_flags",
    }


def test_includes_count_as_used(tmp_path: Path) -> None:
    (tmp_path / "one.h").write_text('#include "two.h"\n')
    (tmp_path / "two.h").write_text('#include <linux/mm.h>\n#include "one.h"\n')
    assert circle_in(uses_of(tmp_path)) == ["one", "two", "one"]


def test_wrong_names_are_found(tmp_path: Path) -> None:
    first = "static void __attribute__((x)) end(int (*call)(int))\n{\n}\n\nint first_more_run(void)\n{\n}\n"
    more = "static int first_more_run(int a,\n\t\t\t  int b)\n{\n\treturn (a);\n}\n"
    room = _write(tmp_path, first=first, first_more=more)
    assert list(misnamed_in(room)) == [
        "first.c: end() doesn't begin with first_",
        "first.c: first_more_run() doesn't begin with first_",
        f"{room.name}: first_more_run() is there twice",
    ]
