"""``memtype explain`` and ``memtype layouts import`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main

REPORTS = Path(__file__).parents[1] / "explain" / "reports"
MTRR = "reg00: base=0x000000000 (    0MB), size= 2048MB, count=1: write-back\n"


def test_words() -> None:
    done = CliRunner().invoke(main, ["explain", str(REPORTS / "hyperv-fb.txt")])
    assert done.exit_code == 0
    for part in ("In short", "0xf8200000-0xf85cbfff", "wb-first", "a.out", "lspci -v", "Rule 2 refuses"):
        assert part in done.output


def test_json_from_the_standard_input() -> None:
    done = CliRunner().invoke(main, ["explain", "--json"], input=(REPORTS / "efifb.txt").read_bytes())
    assert done.exit_code == 0
    found = json.loads(done.output)
    assert (found["kernel"], found["known_bug"]) == ("5.10", "ioremap-ram")


@pytest.mark.parametrize("arguments", [["explain"], ["layouts", "import"], ["layouts", "show"]])
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"\0" * 100, "is no text"), (b"x" * (9 << 20), "larger than the 8 MiB")],
)
def test_no_report_is_one_line(arguments: list[str], content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "report.txt"
    file.write_bytes(content)
    done = CliRunner().invoke(main, [*arguments, str(file)])
    assert done.exit_code == 2
    assert message in done.output
    assert done.output.count("\n") == 1


def test_words_are_safe_for_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "report.txt"
    file.write_bytes(
        b"[    1.000000] mtrr: \x1b]0;x\x07\x1b[2J odd \xe2\x80\xae words\n"
        b"x86/PAT: \x9b31m\x07:7 freeing invalid memtype [mem 0x0-0xfff]\n"
    )
    done = CliRunner().invoke(main, ["explain", str(file)])
    assert done.exit_code == 0
    assert done.output.replace("\n", "").isprintable()


def test_import_to_a_file_and_show(tmp_path: Path) -> None:
    report = tmp_path / "a laptop.txt"
    report.write_text(MTRR)
    made = tmp_path / "laptop.toml"
    done = CliRunner().invoke(main, ["layouts", "import", str(report), "-o", str(made), "--name", "laptop"])
    assert (done.exit_code, done.output) == (0, f"wrote {made}\n")
    assert "# the default type isn't in /proc/mtrr" in made.read_text()
    shown = CliRunner().invoke(main, ["layouts", "show", str(made)])
    assert shown.exit_code == 0
    assert "variable 0" in shown.output
    drawn = CliRunner().invoke(main, ["layouts", "show", str(report)])
    assert drawn.exit_code == 0
    # What the text doesn't say isn't drawn: it has no fixed ranges.
    assert "fixed  " not in drawn.output
    assert "not said" in drawn.output


def test_import_from_the_standard_input_and_a_bad_name() -> None:
    done = CliRunner().invoke(main, ["layouts", "import"], input=MTRR)
    assert done.exit_code == 0
    assert 'size = "2G"' in done.output
    bad = CliRunner().invoke(main, ["layouts", "import", "--name", "a b"], input=MTRR)
    assert bad.exit_code == 2


def test_a_report_without_mtrrs() -> None:
    done = CliRunner().invoke(main, ["layouts", "import", str(REPORTS / "hyperv-fb.txt")])
    assert done.exit_code == 2
    assert "no MTRRs in this text" in done.output
