from __future__ import annotations

import pytest
from rich.console import Console

from pytest_memtype.report.compare import Change, Difference
from pytest_memtype.report.compare_table import as_json, compare_table, escaped, markdown, short

NAMES = ["debian:5.10.0-46-cloud-amd64", "tree:/linux"]


def change() -> Change:
    answers = ("ENOMEM", "ok")
    places = [Difference(f"a/b/test_{n}.py::test", 1, 3, "fork name=Y", answers) for n in range(2)]
    return Change("fork name=Y", answers, places)


def test_a_row_for_each_change() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(compare_table(NAMES, [change()]))
    head, _, row = (line.split() for line in capture.get().splitlines() if line.strip())
    assert head == ["operation", "5.10.0-46", "tree:/linux", "times", "example"]
    assert row == ["fork", "name=Y", "ENOMEM", "ok", "2", "test_0.py::test", "step", "3"]


def test_markdown() -> None:
    assert markdown(NAMES, [change()]).splitlines()[2] == (
        "| fork name=Y | ENOMEM | ok | 2 | ` test_0.py::test step 3 ` |"
    )


@pytest.mark.parametrize(
    ("test", "cell"),
    [
        ("test[a](b)<c>", "` test[a](b)<c> step 3 `"),
        # A table's bar is the only thing that its reader takes out of code again.
        ("test[a|b]", r"` test[a\|b] step 3 `"),
        ("test[`a``b`]", "``` test[`a``b`] step 3 ```"),
        ("test[a\n\nb]", "` test[a b] step 3 `"),
    ],
)
def test_code_shows_no_escapes(test: str, cell: str) -> None:
    places = [Difference(test, 1, 3, "fork name=Y", ("ENOMEM", "ok"))]
    text = markdown(NAMES, [Change("fork name=Y", ("ENOMEM", "ok"), places)])
    assert text.splitlines()[2] == f"| fork name=Y | ENOMEM | ok | 1 | {cell} |"


def test_json() -> None:
    (row,) = as_json(NAMES, [change()])
    assert row["answers"] == dict(zip(NAMES, ("ENOMEM", "ok"), strict=True))
    assert row["tests"] == ["a/b/test_0.py::test", "a/b/test_1.py::test"]
    assert row["example"] == {"test": "a/b/test_0.py::test", "guest": 1, "step": 3}


def test_short() -> None:
    assert short("debian:6.1.0-56-cloud-amd64") == "6.1.0-56"
    assert short("tree:/linux") == "tree:/linux"


def test_a_cell_of_markdown_stays_a_cell() -> None:
    text = escaped("cat\n\n# Heading\n[click](https://there.example) | ![x](y) <b> `c`")
    assert "\n" not in text
    assert text == r"cat # Heading [click]\(https://there.example) \| ![x]\(y) &lt;b> `c`"
