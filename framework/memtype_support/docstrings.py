"""A check of docstrings, as ``help()`` shows them: a first line that tells something, no parameter left out.

    python -m memtype_support.docstrings [FOLDER]

Prints one line for each finding and ends with status 1 when there are any. Parameters are pydoclint's part: a
docstring that tells of some has to tell of all. Its other rules are left out here, since it has no switch for
them: in this package the first line says what is returned.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

PROJECT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = PROJECT / "framework" / "pytest_memtype"

_Documented: TypeAlias = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

#: A first line that begins so refers to something outside it: "Those of some registers."
_POINTS_ELSEWHERE: Final = re.compile(
    r"(Those|These|One|What|All|It|Its|Of|The same|See|They|Theirs|Who|Whose|Likewise)\b"
)

#: A shorter one names nothing.
_SHORTEST: Final = 16


def findings(source: str, name: str) -> Iterator[str]:
    """The docstrings of a module that a reader can't understand by themselves, each as ``NAME:LINE: why``.

    :param source: The module's text.
    :param name: Its name in the findings.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, _Documented):
            continue
        text = ast.get_docstring(node)
        if text is None:
            continue
        first = text.partition("\n")[0]
        where = f"{name}:{node.body[0].lineno}"
        if _POINTS_ELSEWHERE.match(first):
            yield f"{where}: {first!r} begins with a word that points elsewhere"
        elif len(first) < _SHORTEST:
            yield f"{where}: {first!r} is too short to name anything"


def undocumented(folder: Path) -> list[str]:
    """Parameters that a docstring leaves out or names wrongly, each as ``NAME:LINE: why``.

    :param folder: Where the modules are.
    """
    program = Path(sys.executable).with_name("pydoclint")
    config = f"--config={PROJECT / 'pyproject.toml'}"
    names = "--show-filenames-in-every-violation-message=true"
    done = subprocess.run(
        [program, config, "--quiet", names, folder], capture_output=True, text=True, check=False
    )
    lines = [line.replace(f"{folder}/", "", 1) for line in (done.stdout + done.stderr).splitlines()]
    if done.returncode != 0 and not any(": DOC" in line for line in lines):
        return [f"pydoclint failed: {' '.join(lines[-2:])}"]
    # DOC101 and DOC102 count what DOC103 lists (pydoclint 0.12).
    return [
        re.sub(r" \(Or could be .*?\)\.", ".", line) for line in lines if re.search(r": DOC10[3-9]:", line)
    ]


def main(folder: Path = PACKAGE) -> int:
    """Check all modules of a folder.

    :param folder: The folder, with all below it.
    :returns: 1 when there are findings, else 0.
    """
    found = [
        line
        for path in sorted(folder.rglob("*.py"))
        for line in findings(path.read_text(), str(path.relative_to(folder)))
    ]
    found += undocumented(folder)
    print("\n".join(found) if found else "docstrings: no complaints")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
