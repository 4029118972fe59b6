from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_memtype.site import evidence
from pytest_memtype.site.evidence import LARGEST, Evidence


def test_regular_files_are_copied_as_text(tmp_path: Path) -> None:
    test = tmp_path / "test"
    (test / "guest-1").mkdir(parents=True)
    (test / "records.jsonl").write_text("{}\n")
    (test / "guest-1" / "console.log").write_bytes(b"\x1b[31mone\r\ntwo\xff\n")
    copied = Evidence(tmp_path / "site", "run/evidence").copy(test)
    assert copied.links == [
        ("records.jsonl", "run/evidence/0/records.jsonl.txt"),
        ("guest-1/console.log", "run/evidence/0/guest-1/console.log.txt"),
    ]
    assert copied.consoles == [("guest-1", "\\x1b[31mone\ntwo\N{REPLACEMENT CHARACTER}\n")]
    assert (tmp_path / "site/0/guest-1/console.log.txt").read_bytes() == b"\x1b[31mone\r\ntwo\xff\n"


def test_links_pipes_and_strange_names_are_not(tmp_path: Path) -> None:
    test = tmp_path / "test"
    test.mkdir()
    (test / "passwords").symlink_to("/etc/passwd")
    (test / "etc").symlink_to("/etc")
    os.mkfifo(test / "pipe")
    (test / "<img>").touch()
    (test / ".hidden").touch()
    deep = test / "1/2/3/4"
    deep.mkdir(parents=True)
    (deep / "file").touch()
    assert Evidence(tmp_path / "site", "run").copy(test).links == []


def test_of_a_large_file_the_end_is_kept(tmp_path: Path) -> None:
    test = tmp_path / "test"
    test.mkdir()
    (test / "console.log").write_bytes(b"begin" + b"x" * LARGEST + b"end")
    Evidence(tmp_path / "site", "run").copy(test)
    written = (tmp_path / "site/0/console.log.txt").read_bytes()
    assert written.startswith(b"[the first 8 bytes are left out]\nxxx")
    assert written.endswith(b"xend")


def test_of_a_run_so_much_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "_MOST_OF_RUN", 1 << 20)
    site = Evidence(tmp_path / "site", "run")
    copied = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log").write_bytes(b"x" * 700_000)
        copied.append(site.copy(tmp_path / name))
    assert [len(each.links) for each in copied] == [1, 0]
    assert copied[1].left_out == f"the report has 1 MiB of evidence; the rest is in {tmp_path / 'two'}"


def test_a_test_without_any(tmp_path: Path) -> None:
    copied = Evidence(tmp_path / "site", "run").copy(tmp_path / "nothing")
    assert (copied.links, copied.consoles, copied.left_out) == ([], [], "")
    assert not (tmp_path / "site").exists()


def test_a_folder_that_is_a_link_is_not_entered(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "id").write_text("secret")
    (tmp_path / "test").symlink_to(private)
    copied = Evidence(tmp_path / "site", "evidence").copy(tmp_path / "test")
    assert copied == Evidence(tmp_path / "other", "evidence").copy(tmp_path / "nothing")
    assert not (tmp_path / "site").exists()


def test_what_can_not_be_read_is_counted(tmp_path: Path) -> None:
    test = tmp_path / "test"
    test.mkdir()
    (test / "console.log").write_text("here\n")
    (test / "passwords").symlink_to("/etc/passwd")
    os.mkfifo(test / "pipe")
    copied = Evidence(tmp_path / "site", "run").copy(test)
    assert [name for name, _ in copied.links] == ["console.log"]
    assert copied.left_out == f"2 files of {test} can't be read, or are no plain files"


def test_a_report_that_has_no_room_says_so(tmp_path: Path) -> None:
    """Its evidence is no less than the rest of it."""
    test = tmp_path / "test"
    test.mkdir()
    (test / "console.log").write_text("here\n")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "0").write_text("in the way")
    with pytest.raises(FileExistsError):
        Evidence(tmp_path / "site", "run").copy(test)


def test_the_logs_of_shared_guests_are_copied_once(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "log").write_text("here\n")
    site = Evidence(tmp_path / "site", "run")
    assert site.copy(tmp_path / "shared") == site.copy(tmp_path / "shared")
    assert [each.name for each in (tmp_path / "site").iterdir()] == ["0"]
