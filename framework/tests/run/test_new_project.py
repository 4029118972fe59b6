"""The files that memtype init writes, and what it leaves alone."""

from __future__ import annotations

import ast
import json
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main
from pytest_memtype.errors import HostError, UsageError
from pytest_memtype.run.new_project import CI, new_project, requirement


def installed(monkeypatch: pytest.MonkeyPatch, direct_url: str | None) -> None:
    class Installed:
        version = "1.2.3"

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return direct_url

    monkeypatch.setattr(metadata, "distribution", lambda _: Installed())


@pytest.mark.parametrize("ci", CI)
def test_a_new_project_has_a_test_settings_and_a_file_of_its_ci(tmp_path: Path, ci: str) -> None:
    folder = tmp_path / "new"
    made = {each.path: each.what for each in new_project(folder, ci=ci)}
    assert set(made.values()) == {"made"}
    assert set(made) == {
        "tests/test_memory_types.py",
        "tests/requirements.txt",
        "ci/memtype.sh",
        "pyproject.toml",
        CI[ci],
    }
    assert all((folder / path).is_file() for path in made)
    ast.parse((folder / "tests/test_memory_types.py").read_text())
    settings = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert settings["testpaths"] == ["tests"]
    assert "ci/memtype.sh" in (folder / CI[ci]).read_text()
    subprocess.run(["sh", "-n", str(folder / "ci/memtype.sh")], check=True)


def test_what_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "requirements.txt").write_text("mine\n")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '-q'\n")
    made = {each.path: each.what for each in new_project(tmp_path, ci="github")}
    assert made["tests/requirements.txt"] == "is there, and left as it is"
    assert made["pyproject.toml"] == "has settings of pytest, and is left as it is"
    assert (tmp_path / "tests" / "requirements.txt").read_text() == "mine\n"
    assert (tmp_path / "pyproject.toml").read_text() == "[tool.pytest.ini_options]\naddopts = '-q'\n"
    assert (tmp_path / "ci" / "memtype.sh").is_file()


def test_settings_are_added_to_those_of_other_tools(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("# mine\n[tool.ruff]\nline-length = 79")
    (_, *_, last) = new_project(tmp_path, ci="gitlab")
    assert (last.path, last.what) == ("pyproject.toml", "added to")
    text = (tmp_path / "pyproject.toml").read_text()
    assert text.startswith("# mine\n")
    assert tomllib.loads(text)["tool"].keys() == {"ruff", "pytest"}


def test_settings_that_are_no_toml_are_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool")
    with pytest.raises(UsageError, match=r"pyproject\.toml: .*; put that right"):
        new_project(tmp_path, ci="github")
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]


@pytest.mark.parametrize(
    ("direct_url", "expected"),
    [
        (None, "pytest-memtype>=1.2.3"),
        (
            {"url": "file:///w/pytest_memtype-1-py3-none-any.whl", "archive_info": {}},
            "pytest-memtype @ file:///w/pytest_memtype-1-py3-none-any.whl",
        ),
        ({"url": "file:///src/p", "dir_info": {"editable": True}}, "pytest-memtype @ file:///src/p"),
        (
            {
                "url": "https://host/p.git",
                "vcs_info": {"vcs": "git", "commit_id": "abc", "requested_revision": "main"},
            },
            "pytest-memtype @ git+https://host/p.git@abc",
        ),
        (
            {
                "url": "https://host/p.git",
                "vcs_info": {"vcs": "git", "commit_id": "abc"},
                "subdirectory": "py",
            },
            "pytest-memtype @ git+https://host/p.git@abc#subdirectory=py",
        ),
    ],
)
def test_ci_installs_it_from_where_it_was_installed(
    monkeypatch: pytest.MonkeyPatch, direct_url: dict[str, object] | None, expected: str
) -> None:
    installed(monkeypatch, None if direct_url is None else json.dumps(direct_url))
    assert requirement() == expected


@pytest.mark.parametrize("text", ["{", "[]", '{"dir_info": {}}'])
def test_an_installation_that_says_nonsense_is_one_line(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    installed(monkeypatch, text)
    with pytest.raises(HostError, match="its installation is damaged"):
        requirement()


def test_the_command_names_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["init", "--ci", "jenkins"])
    assert done.exit_code == 0
    assert "Jenkinsfile: made\n" in done.output
    assert CliRunner().invoke(main, ["init", "--ci", "travis"]).exit_code == 2
    (tmp_path / "file").touch()
    done = CliRunner().invoke(main, ["init", "file"])
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1
