"""The evidence of a run in one archive: what is in it, how large it gets, and what can't get into it."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main
from pytest_memtype.errors import UsageError
from pytest_memtype.run import evidence
from pytest_memtype.run.evidence import LEFT_OUT, archive, find_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / ".memtype" / "runs" / "20261129-101010-7"
    guest = folder / "test_it" / "guest-1"
    guest.mkdir(parents=True)
    (folder / ".checked").mkdir()
    (folder / ".checked" / "sum").write_text("nobody's")
    (folder / "records.jsonl").write_text('{"schema":2}\n')
    (guest / "console.log").write_bytes(b"Linux version\x1b[31m\xff\n")
    (guest / "rerun.sh").write_text("#!/bin/sh\n")
    (tmp_path / ".memtype" / "latest").symlink_to("runs/20261129-101010-7")
    return folder


def names(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def content(path: Path, name: str) -> bytes:
    with tarfile.open(path) as tar:
        file = tar.extractfile(f"20261129-101010-7/{name}")
        assert file is not None
        return file.read()


@pytest.mark.parametrize(
    ("ending", "magic"), [("tar.gz", b"\x1f\x8b"), ("tgz", b"\x1f\x8b"), ("tar.xz", b"\xfd7zXZ")]
)
def test_records_and_logs_are_in_it(run: Path, tmp_path: Path, ending: str, magic: bytes) -> None:
    to = tmp_path / f"evidence.{ending}"
    made = archive(run, to, most=1 << 20)
    assert to.read_bytes().startswith(magic)
    assert names(to) == [
        "20261129-101010-7/records.jsonl",
        "20261129-101010-7/test_it/guest-1/rerun.sh",
        "20261129-101010-7/test_it/guest-1/console.log",
    ]
    assert content(to, "test_it/guest-1/console.log") == b"Linux version\x1b[31m\xff\n"
    assert (made.files, made.left_out) == (3, ())


def test_it_is_no_larger_than_asked_for_and_says_what_is_missing(run: Path, tmp_path: Path) -> None:
    (run / "test_it" / "guest-1" / "agent.log").write_bytes(b"a" * 5000)
    made = archive(run, tmp_path / "e.tar", most=1000)
    assert made.size <= 1000
    assert made.left_out == ("test_it/guest-1/agent.log: 5000 bytes, for which there was no room",)
    assert content(tmp_path / "e.tar", LEFT_OUT).decode().splitlines() == list(made.left_out)
    assert "20261129-101010-7/records.jsonl" in names(tmp_path / "e.tar")


def test_of_a_large_file_both_ends_are_in_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "_LARGEST_FILE", 8)
    (run / "verdicts.txt").write_bytes(b"begin" + b"-" * 90 + b"ends!")
    archive(run, tmp_path / "e.tar", most=1000)
    assert content(tmp_path / "e.tar", "verdicts.txt") == b"begi\n[92 bytes are left out here]\nnds!"


def test_links_pipes_and_devices_stay_out(run: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (run / "link").symlink_to(tmp_path / "secret")
    (run / "folder").symlink_to(tmp_path)
    os.mkfifo(run / "pipe")
    made = archive(run, tmp_path / "e.tar", most=1000)
    assert sorted(each.partition(":")[0] for each in made.left_out) == ["link", "pipe"]
    assert not [name for name in names(tmp_path / "e.tar") if "secret" in name or "folder" in name]


def test_nothing_half_written_is_left(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to = tmp_path / "e.tar"
    to.write_text("the old one")
    monkeypatch.setattr(evidence, "_add", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        archive(run, to, most=1000)
    assert to.read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir() if path.name != ".memtype"] == ["e.tar"]


def test_a_run_is_found_by_name_path_and_as_the_latest(run: Path, tmp_path: Path) -> None:
    base = tmp_path / ".memtype"
    assert find_run("latest", base) == find_run(run.name, base) == find_run(str(run), base) == run
    with pytest.raises(UsageError, match=r"20261129-101010-8: no run; .* did you mean '20261129-101010-7'\?"):
        find_run("20261129-101010-8", base)


def test_the_command_says_how_much_it_is(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["evidence", "--tar", "e.tar.gz"])
    assert (done.exit_code, done.output) == (0, "e.tar.gz: 3 files, 0.0 MiB\n")
    done = CliRunner().invoke(main, ["evidence", run.name, "--tar", "e.tar.gz", "--json"])
    assert json.loads(done.output)["files"] == 3


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--tar", "e.zip"],
            "e.zip: no archive is made of that name; let it end with .tar, .tar.gz, .tgz, .tar.xz",
        ),
        (["--tar", "none/e.tar"], "none/e.tar: can't be written (No such file or directory)"),
        (["yesterday", "--tar", "e.tar"], "yesterday: no run; name a folder below .memtype/runs, or latest"),
        (["", "--tar", "e.tar"], "'': no run; name a folder below .memtype/runs, or latest"),
        (["--tar", "pipe.tar"], "pipe.tar: is a pipe; name a regular file"),
        ([], "nothing to do; name an archive with --tar, or a test with --test"),
        (
            ["--tar", "e.tar", "--scheduler", "local"],
            "--scheduler and --insecure-scheduler belong to a --test",
        ),
        (["--test", "test_it"], "20261129-101010-7: it ran on no cluster, where logs of tests that pass go"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    os.mkfifo(tmp_path / "pipe.tar")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["evidence", *arguments])
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.splitlines()) == 1
