from __future__ import annotations

import io

from rich.console import Console

from pytest_memtype.kernels.prepare import Status
from pytest_memtype.kernels.stage import Stage
from pytest_memtype.kernels.table import live_table, table

WAITING = Status("debian:6.1")
DOWNLOADING = Status(
    "debian:6.12", Stage.DOWNLOADING, "downloading kernel 6.12 and its compiler", {"waiting": 1.0}
)
BUILDING = Status(
    "debian:7.2", Stage.BUILDING, "building the guest for 7.2", {"waiting": 0.0, "downloading": 9.25}
)
READY = Status("debian:7.3", Stage.READY, "", {"downloading": 9.0, "building": 4.04})
FAILED = Status(
    "debian:6.6", Stage.FAILED, "not in Debian's archive; nearest are debian:6.1 [0]", {"waiting": 0.1}
)


def test_a_row_has_stage_times_and_the_reason() -> None:
    output = io.StringIO()
    Console(file=output, width=120).print(table([WAITING, DOWNLOADING, BUILDING, READY, FAILED]))
    rows = [line.split(maxsplit=2) for line in output.getvalue().splitlines()[1:]]
    assert [row[:2] for row in rows] == [
        ["debian:6.1", "waiting"],
        ["debian:6.12", "downloading"],
        ["debian:7.2", "building"],
        ["debian:7.3", "ready"],
        ["debian:6.6", "failed"],
    ]
    assert rows[2][2].strip() == "9.2 s"
    assert rows[3][2].split() == ["9.0", "s", "4.0", "s"]
    assert rows[4][2].strip() == "not in Debian's archive; nearest are debian:6.1 [0]"


class Output(io.StringIO):
    """One that may be a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def shown(statuses: list[Status], *, terminal: bool) -> str:
    output = Output(terminal=terminal)
    console = Console(file=output, width=120)
    with live_table(console, [status.spec for status in statuses]) as show:
        for status in statuses:
            show(status)
    return output.getvalue()


def test_nothing_slow_shows_nothing() -> None:
    ready = Status("debian:6.1", Stage.READY)
    assert shown([ready], terminal=True) == ""
    assert shown([ready], terminal=False) == ""


def test_without_a_terminal_a_line_for_each_change() -> None:
    assert shown([DOWNLOADING, BUILDING, FAILED], terminal=False) == (
        "debian:6.12: downloading kernel 6.12 and its compiler\n"
        "debian:7.2: building the guest for 7.2\n"
        "debian:6.6: failed\n"
    )


def test_on_a_terminal_one_table_is_drawn_again() -> None:
    output = shown([DOWNLOADING, FAILED], terminal=True)
    assert output.count("debian:6.12") >= 2
    assert "nearest are debian:6.1 [0]" in output


def test_a_folder_may_be_called_as_it_likes() -> None:
    output = shown([Status("tree:/tmp/a[/b]", Stage.FAILED, "[bold]")], terminal=True)
    assert "tree:/tmp/a[/b]" in output
