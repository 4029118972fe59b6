"""The command, as a person types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    return tmp_path


def test_help_has_examples() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "memtype run --kernel debian:bullseye" in result.output


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["--nonsense"], ["cache", "nonsense"], ["cache", "remove"]]
)
def test_usage_errors_end_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cache", "remove", "nothing"], "memtype: the cache holds nothing called 'nothing'"),
        (["cache", "prune", "--limit", "much"], "memtype: --limit: "),
        (["run", "--kernel", "windows:11"], "memtype: "),
    ],
)
@pytest.mark.usefixtures("cache")
def test_our_own_errors_are_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("cache")
def test_debug_shows_the_traceback() -> None:
    result = CliRunner().invoke(main, ["--debug", "cache", "remove", "nothing"])
    assert result.exception is not None
    assert "nothing called 'nothing'" in str(result.exception)


def test_cache_lists_prunes_and_removes(cache: Path) -> None:
    bundle = cache / "bundles" / "6.1.0-1-cloud-amd64-0123456789abcdef"
    bundle.mkdir(parents=True)
    (bundle / "image").write_bytes(bytes(3 << 20))
    template = cache / "templates" / "00ff" / "ready"
    template.mkdir(parents=True)
    (template / "template.json").write_text('{"notes": {"greeting": {"release": "6.1.0-1\\u001b[2J"}}}')

    listing = CliRunner().invoke(main, ["cache"]).output
    assert "bundle    6.1.0-1-cloud-amd64" in listing
    assert "template  6.1.0-1\\x1b[2J" in listing
    assert "\x1b" not in listing
    assert "in 2 entries" in listing

    assert "in 1 entries" in CliRunner().invoke(main, ["cache", "prune"]).output
    assert CliRunner().invoke(main, ["cache", "remove", bundle.name]).output == (
        f"removed bundle {bundle.name}, 3 MiB\n"
    )
    assert not bundle.exists()
