from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype.errors import HostError, UsageError
from pytest_memtype.site.folder import check_target, made_whole


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_an_earlier_report_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for page in ("one.html", "two.html"):
        with made_whole(tmp_path / "report") as folder:
            (folder / page).touch()
    assert names(tmp_path / "report") == [".memtype-report", "two.html"]
    assert names(tmp_path) == ["report"]


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    with made_whole(tmp_path / "report") as folder:
        (folder / "one.html").touch()

    def fails() -> None:
        with made_whole(tmp_path / "report") as folder:
            (folder / "two.html").touch()
            raise UsageError("the run can't be read")

    with pytest.raises(UsageError, match="can't be read"):
        fails()
    assert names(tmp_path / "report") == [".memtype-report", "one.html"]
    assert names(tmp_path) == ["report"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(HostError, match="the report can't be written: No space left"),
        made_whole(tmp_path / "report"),
    ):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    with made_whole(tmp_path / "report"):
        pass
    assert names(tmp_path / "report") == [".memtype-report"]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("file", "is no folder"),
        ("link", "is no folder"),
        ("full", "holds other files than a report"),
        ("none/report", "there is no folder"),
    ],
)
def test_what_is_somebody_elses_is_left_alone(tmp_path: Path, name: str, complaint: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "link").symlink_to("full")
    with pytest.raises(UsageError, match=complaint):
        check_target(tmp_path / name)
