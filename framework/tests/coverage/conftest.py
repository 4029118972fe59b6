"""A build tree of C files with gcc's notes, and counters in the form that kernels have them."""

from __future__ import annotations

import base64
import gzip
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_memtype.coverage.reading import Reading

HERE = Path(__file__).parent

SMALL = """\
int classify(int number)
{
	if (number < 0)
		return -1;
	if (number > 100)
		return 1;
	return 0;
}
"""

LARGE = """\
int never_called(int number)
{
	return number + 1;
}
"""

Counted = Callable[..., Reading]


@pytest.fixture(scope="session")
def build_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree: ``arch/small.c``, whose lines 3 to 7 are ``classify()``, and ``mm/large.c``."""
    tree = tmp_path_factory.mktemp("tree")
    for name, text in (("arch/small", SMALL), ("mm/large", LARGE)):
        (tree / name).parent.mkdir()
        (tree / f"{name}.c").write_text(text)
        # As kbuild does: the compiler runs in the tree.
        command = ["gcc", "-c", "-fprofile-arcs", "-ftest-coverage", f"{name}.c", "-o", f"{name}.o"]
        subprocess.run(command, cwd=tree, check=True)
    program = ["gcc", "-o", "program", str(HERE / "kernel_counters.c"), "arch/small.o", "mm/large.o"]
    subprocess.run(program, cwd=tree, check=True)
    return tree


@pytest.fixture(scope="session")
def counted(build_tree: Path) -> Counted:
    """A function that makes a reading of a guest that has classified numbers."""
    output = subprocess.run([build_tree / "program"], capture_output=True, check=True).stdout
    names = [f"{build_tree}/{name}.gcda"[1:] for name in ("arch/small", "mm/large")]
    # Constructors run in the order of the linker's choice: the larger unit has more words.
    parts = output.split(b"adcg")
    if len(parts[1]) < len(parts[2]):
        names.reverse()

    def reading(*numbers: int, test: str = "", template: str = "") -> Reading:
        command = [str(build_tree / "program"), *map(str, numbers)]
        data = subprocess.run(command, capture_output=True, check=True).stdout
        packed = base64.b64encode(gzip.compress(data, mtime=0)).decode()
        return Reading(test, "tree:x", template, tuple(names), packed)

    return reading
