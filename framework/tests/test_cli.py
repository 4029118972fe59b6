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


def test_layouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "layouts").mkdir()
    (tmp_path / "layouts" / "mine.toml").write_text('description = "mine [bold]alone"\ndefault = "WC"\n')
    (tmp_path / "layouts" / "broken.toml").write_text('description = "broken"\nsize = "\x1b[2J"\n')
    named = CliRunner().invoke(main, ["layouts", "--tests", str(tmp_path)]).output
    monkeypatch.chdir(tmp_path)
    here = CliRunner().invoke(main, ["layouts"]).output
    for listing in (named, here):
        assert "mine [bold]alone" in listing
        assert "broken.toml: Illegal character" in listing
        assert "wc-framebuffer" in listing
        assert "\x1b" not in listing

    shown = CliRunner().invoke(main, ["layouts", "show", "mine"])
    assert shown.exit_code == 0
    assert "mine: mine [bold]alone" in shown.output
    assert "test device, BAR 0" in shown.output

    drawing = tmp_path / "mine.svg"
    assert CliRunner().invoke(main, ["layouts", "show", "mine", "--svg", str(drawing)]).output == (
        f"wrote {drawing}\n"
    )
    assert drawing.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "memtype: no layout is called 'nothing'; known are all-registers-used, "),
        (["firmware", "--memory", "much"], "memtype: hardware: memory 'much' is not a size"),
        (["firmware", "--svg", "missing/a.svg"], "memtype: missing/a.svg: can't be written"),
        (["big"], "memtype: layout 'big': range 1 (16K WB at 0x1000): base 0x1000 isn't a multiple"),
    ],
)
def test_layout_that_cannot_be_shown(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "big.toml").write_text(
        'description = ""\ndefault = "UC"\n[[ranges]]\nbase = "4K"\nsize = "16K"\ntype = "WB"\n'
    )
    result = CliRunner().invoke(main, ["layouts", "show", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
