"""What a failed test says: the texts of typical mistakes are kept, for people to read, in mistakes/.

``MEMTYPE_UPDATE_FAILURES=1`` writes them anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from memtype_support.inner_pytest import run

HERE = Path(__file__).parent
GOLDEN = HERE / "mistakes"
_NAME = re.compile(r"_{3,} (test_\w+)\[.*\] _{3,}")
# A terminal of 24 lines, without the line of the prompt.
SCREEN = 23


def _said(output: list[str]) -> dict[str, list[str]]:
    """The lines of each failed test: of pytest's those with ``>`` and ``E``, and all of ours."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in output:
        if header := _NAME.fullmatch(line):
            name = header[1]
            found[name] = []
        elif line.startswith("===="):
            name = ""
        elif name:
            found[name].append(line)
    return {name: _marked(lines) for name, lines in found.items()}


def _marked(lines: list[str]) -> list[str]:
    ours = next(number for number, line in enumerate(lines) if re.fullmatch("-{3,} memtype -{3,}", line))
    marked = [line for line in lines[:ours] if re.match("E  |>  ", line)]
    return (marked or lines[:ours]) + lines[ours:]


def _settled(lines: list[str], folder: Path) -> list[str]:
    """Lines without what differs between hosts, kernels and runs."""
    text = "\n".join(line.rstrip() for line in lines)
    if "last console lines:" in text:
        # Which these are depends on the kernel.
        text = "\n".join(line for line in text.splitlines() if not re.match(r" *\[ *\d+\.\d+\] ", line))
    for pattern, instead in (
        (re.escape(str(folder)), "FOLDER"),
        (r"\.memtype/runs/[^/\s]+/", ".memtype/runs/RUN/"),
        (r"-[0-9a-f]{8}(?=/|\n|$)", "-HASH"),
        (r"\d+\.\d+\.\d+(?:-\d+)?(?:-cloud)?-amd64", "RELEASE"),
        (r"QEMU \d+\.\d+[\w.]*", "QEMU VERSION"),
        (r"process \d+", "process PID"),
        # Whether its end is seen while the request is written or after it is a matter of microseconds.
        (r"\(writing to the agent's port for (.*)\)", r"(waiting for \1 on the agent's port)"),
        (r" at 0x[0-9a-f]+>", " at ADDRESS>"),
        (r"\[ *\d+\.\d+\] ", "[TIME] "),
        # RAM, wherever the guest has it; device memory is at 0xfd000000.
        (r"0x(?!fd)[0-9a-f]{6,}", "0xADDRESS"),
        (r"\+0x[0-9a-f]+/0x[0-9a-f]+", "+0xN/0xN"),
        (r"\.c:\d+", ".c:LINE"),
        (r"Debian \d[\w.+~-]*", "Debian VERSION"),
        (r"\(\d+ more lines", "(N more lines"),
        (r"\bPID: \d+", "PID: N"),
        (r"-{3,} (\w+) -{3,}", r"--- \1 ---"),
        # Frames of our own, whose lines move.
        (r"(?m)^.*site-packages.*\n", ""),
        (r"(?<=:)\d+(?=: [A-Z])", "LINE"),
    ):
        text = re.sub(pattern, instead, text)
    return text.strip().splitlines()


def test_typical_mistakes_say_what_to_do(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_mistakes=(HERE / "mistakes.py").read_text())
    done = run(pytester, "--kernel", "debian:bookworm", "--accel", "tcg", "-n", "0")
    said = _said(done.outlines)
    assert len(said) == 12, done.stdout.str()
    update = bool(os.environ.get("MEMTYPE_UPDATE_FAILURES"))
    texts = {name.removeprefix("test_"): _settled(lines, pytester.path) for name, lines in said.items()}
    for name, lines in texts.items():
        if update:
            GOLDEN.mkdir(exist_ok=True)
            (GOLDEN / f"{name}.txt").write_text("\n".join(lines) + "\n")
    kept = {path.stem: path.read_text().splitlines() for path in GOLDEN.glob("*.txt")}
    assert texts == kept
    for name, lines in texts.items():
        assert len(lines) <= SCREEN, name
        long = [line.strip(" E>") for line in lines if len(line) > 30]
        assert sorted(set(long)) == sorted(long), f"{name}: a line is there twice"
