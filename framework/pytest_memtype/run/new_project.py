"""The files of a new project that tests memory types: a first test, settings of pytest, and one of CI."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from pytest_memtype.errors import HostError, UsageError, reason
from pytest_memtype.host.files import read_text, write_atomically

CI: Final = {"github": ".github/workflows/memtype.yml", "gitlab": ".gitlab-ci.yml", "jenkins": "Jenkinsfile"}
"""The file of each CI service's, by the service."""

_TEMPLATES: Final = Path(__file__).resolve().parents[1] / "templates"
_OF_CI: Final = {"github": "github.yml", "gitlab": "gitlab.yml", "jenkins": "Jenkinsfile"}
_PACKAGE: Final = "pytest-memtype"


@dataclass(frozen=True)
class Made:
    """A file of the new project.

    :param path: Its path from the project's folder.
    :param what: ``made``, ``added to``, or why it was left as it is.
    """

    path: str
    what: str


def new_project(folder: Path, *, ci: str) -> list[Made]:
    """Write the files of a new project. A file that is there is left as it is.

    To ``pyproject.toml`` pytest's settings are added, where it has none.

    :param folder: The project's folder, which is made if it isn't there.
    :param ci: The CI service: ``github``, ``gitlab`` or ``jenkins``.
    :raises UsageError: a file can't be written, or ``pyproject.toml`` is no TOML.
    """
    settings = _with_settings(folder / "pyproject.toml")
    made = []
    for name, text in _files(ci):
        path = folder / name
        if path.exists() or path.is_symlink():
            made.append(Made(name, "is there, and left as it is"))
            continue
        _write(path, text)
        made.append(Made(name, "made"))
    if settings is None:
        made.append(Made("pyproject.toml", "has settings of pytest, and is left as it is"))
    else:
        is_new = not (folder / "pyproject.toml").exists()
        _write(folder / "pyproject.toml", settings)
        made.append(Made("pyproject.toml", "made" if is_new else "added to"))
    return made


def requirement() -> str:
    """This package as a requirement for pip: from where it was installed, or by its version from an index.

    :raises HostError: the installation doesn't say.
    """
    try:
        installed = metadata.distribution(_PACKAGE)
        text = installed.read_text("direct_url.json")
        if text is None:
            return f"{_PACKAGE}>={installed.version}"
        url = json.loads(text)
        return f"{_PACKAGE} @ {_url(url)}"
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError) as error:
        raise HostError(f"{_PACKAGE}: its installation is damaged ({error}); install it again") from None


def _url(direct: dict[str, Any]) -> str:
    """The URL of an installation, as PEP 610 records it and pip takes it."""
    url = str(direct["url"])
    vcs = direct.get("vcs_info")
    if vcs is not None:
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    folder = direct.get("subdirectory")
    return f"{url}#subdirectory={folder}" if folder else url


def _files(ci: str) -> Iterator[tuple[str, str]]:
    yield "tests/test_memory_types.py", _template("test_memory_types.txt")
    yield "tests/requirements.txt", f"{requirement()}\n"
    yield "ci/memtype.sh", _template("ci.sh")
    yield CI[ci], _template(_OF_CI[ci])


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text()


def _with_settings(path: Path) -> str | None:
    """The new text of a project's settings; None where pytest has its there already."""
    if not path.exists():
        return _template("pyproject.txt")
    text = read_text(path)
    try:
        tools = tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}; put that right, then run this again") from None
    if not isinstance(tools, dict) or "pytest" in tools:
        return None
    return f"{text.rstrip()}\n\n{_template('pyproject.txt')}".lstrip()


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{reason(error)}; name another folder") from None
    write_atomically(path, text.encode())
