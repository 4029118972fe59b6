"""One table of options: pytest, the command line and the docs say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main
from pytest_memtype.errors import UsageError
from pytest_memtype.run.options import OPTIONS, OptionParser

DOCS = Path(__file__).resolve().parents[3] / "docs" / "writing-tests.md"


def test_the_docs_list_all_options() -> None:
    rows = [f"| `{option.usage}` | {option.help} |" for option in OPTIONS]
    text = DOCS.read_text()
    assert "\n".join(rows) in text, "docs/writing-tests.md: its table of options is another"


def test_the_help_lists_all_options() -> None:
    words = " ".join(CliRunner().invoke(main, ["run", "--help"]).output.split())
    for option in OPTIONS:
        # pytest-html has the short name, so that the plugin's own is longer.
        assert option.usage.replace("--memtype-html", "--html") in words
        assert " ".join(option.help.split()[:4]) in words


def test_pytest_knows_all_options(pytester: pytest.Pytester) -> None:
    words = " ".join(pytester.runpytest_subprocess("--help").outlines)
    assert [option.name for option in OPTIONS if option.name not in words] == []


@pytest.mark.parametrize("name", [option.name for option in OPTIONS if option.metavar])
def test_a_value_that_is_missing_is_one_line(name: str) -> None:
    with pytest.raises(UsageError) as refusal:
        OptionParser(before="before ", advice="; after").parse_known_args([name])
    assert str(refusal.value) == f"before argument {name}: expected one argument; after"
