"""``memtype reproduce``: answers, end statuses, and reports that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main
from pytest_memtype.reproduce.outcome import Outcome, reproduce

TPM = "6.12.9\nioremap error for 0xfed40000-0xfed45000, requested 0x2, got 0x0\n"
NVME = "[  812.004110] nvme nvme0: I/O 18 QID 3 timeout, aborting\nLinux 6.5.0-14-generic\n"


def run(text: bytes | str, folder: Path, *options: str) -> tuple[int, str, str]:
    path = folder / "case.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    result = CliRunner().invoke(
        main, ["reproduce", str(path), "--into", str(folder / "out"), *options], catch_exceptions=False
    )
    return result.exit_code, result.stdout, result.stderr


def test_a_report_becomes_a_guest_that_says_the_same(tmp_path: Path) -> None:
    status, out, _ = run(TPM, tmp_path, "--json", "--kernel", "debian:bookworm")
    found = json.loads(out)
    assert (status, found["reproduce"]) == (0, "reproduced")
    assert found["range"] == ["0xfed40000", "0xfed44fff"]
    (kernel,) = found["kernels"]
    assert kernel["lines"] == ["ioremap error for 0xfed40000-0xfed45000, requested 0x2, got 0x0"]
    assert sorted(Path(each).name for each in found["files"]) == [
        "case-summary.txt",
        "case.toml",
        "test_case.py",
    ]
    assert all(Path(each).exists() for each in found["files"])


def test_a_large_page_over_two_types_is_made_small_again(tmp_path: Path) -> None:
    where = "[mem 0xfd200000-0xfd400000]"
    line = f"pmd_set_huge: Cannot satisfy {where} with a huge-page mapping due to MTRR override."
    status, out, _ = run(f"6.1.9\n{line}\n", tmp_path, "--json", "--kernel", "debian:bookworm")
    found = json.loads(out)
    assert (status, found["reproduce"]) == (0, "reproduced")
    assert found["kernels"][0]["lines"] == [line]


def test_what_a_kernel_does_not_say(tmp_path: Path) -> None:
    """6.1.192 frees what is its own (dc84bc2aba85): no way leads there on that kernel."""
    status, out, _ = run(
        "Linux version 6.1.9-cloud-amd64\n"
        "mtrr: your CPUs had inconsistent fixed MTRR settings\n"
        "mtrr_cleanup: can not find optimal value\n",
        tmp_path,
        "--kernel",
        "debian:bookworm",
    )
    assert status == 1
    assert out.startswith("case.txt: NOT ON THIS KERNEL: ")
    assert "doesn't say:\n  mtrr_cleanup: can not find optimal value\n" in out


def test_nothing_to_reproduce(tmp_path: Path) -> None:
    status, out, _ = run(NVME, tmp_path)
    assert (status, out.partition(":")[0]) == (0, "case.txt")
    assert "NOTHING TO REPRODUCE" in out
    assert not (tmp_path / "out").exists()


def test_a_message_that_the_model_does_not_know(tmp_path: Path) -> None:
    status, out, _ = run(f"kernel 6.1.5\n{_ZERO_PTE}\n", tmp_path)
    assert status == 0
    assert "CAN'T: the model of Linux doesn't say these lines: CPA" in out
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["case-summary.txt"]


_ZERO_PTE = "CPA: called for zero pte. vaddr = ffff8881c0000000 cpa->vaddr = ffff8881c0000000"


def test_a_file_of_somebody_s_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it has searched")

    monkeypatch.setattr("pytest_memtype.commands.reproduce.made_again", never)
    (tmp_path / "out").mkdir()
    layout = tmp_path / "out" / "case.toml"
    layout.write_text('description = "my laptop"\n')
    status, _, err = run(f"kernel 6.1.5\n{_ZERO_PTE}\n", tmp_path)
    assert status == 2
    assert "case.toml is there, and not made by this command" in err
    assert layout.read_text() == 'description = "my laptop"\n'


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_files_that_can_not_be_left_cost_no_answer(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*given: Any, **named: Any) -> Outcome:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "case-summary.txt").write_text("mine")
        return reproduce(*given, **named)

    monkeypatch.setattr("pytest_memtype.commands.reproduce.made_again", meanwhile)
    status, out, err = run(f"kernel 6.1.5\n{_ZERO_PTE}\n", tmp_path, *options)
    assert status == 2
    assert "name another folder with --into" in err
    if options:
        assert json.loads(out)["reproduce"] == "can't"
    else:
        assert out.startswith("case.txt: CAN'T: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b"\0" * 100_000, "is no text"),
        (b"x" * (50 << 20), "is larger than"),
    ],
)
def test_reports_that_are_none(tmp_path: Path, text: bytes, message: str) -> None:
    status, out, err = run(text, tmp_path)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("name", ["", "Up", "a b", "../x", "x" * 61, "vma-split-leak"])
def test_ids_that_can_not_be_used(tmp_path: Path, name: str) -> None:
    status, _, err = run(TPM, tmp_path, "--as-bug", name)
    assert status == 2
    assert err.startswith(f"memtype: --as-bug {name!r}: ")
    assert err.count("\n") == 1


def test_escapes_stay_in_the_report(tmp_path: Path) -> None:
    line = "x86/PAT: \x1b[2J\x1b]0;pwned\x07:1 map pfn expected mapping type uncached"
    _, out, err = run(f"kernel 6.1.5\n{line}\n", tmp_path)
    assert "\x1b" not in out + err
    assert "\x07" not in out + err
