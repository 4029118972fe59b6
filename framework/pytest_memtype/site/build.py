"""A site of some runs: a page for each, one for all, and their data."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pytest_memtype.errors import UsageError
from pytest_memtype.site.chunks import shown
from pytest_memtype.site.folder import made_whole
from pytest_memtype.site.run_data import BAD, UNKNOWN, Summary, write_run

#: Nothing is loaded from elsewhere, and no script runs that isn't a file of the site.
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)

_HERE: Final = Path(__file__).parent
_STATIC: Final = ("report.css", "report.js")
_VIEWS: Final = (
    ("overview", "Overview"),
    ("matrix", "Verdicts"),
    ("tests", "Tests"),
    ("failures", "Failures"),
    ("audit", "Audit"),
    ("layouts", "Layouts"),
    ("bugs", "Bugs"),
    ("kernels", "Kernels"),
)
_KINDS: Final = (
    "accepted", "refused", "≠ mapped", "≠ substituted", "≠ refused", "not asked", "no verifier",
)  # fmt: skip
_MOST_CHANGED: Final = 1000


def write_site(runs: Sequence[Path], folder: Path) -> list[Summary]:
    """Write a site of some runs.

    :param runs: Folders of runs, or files ``records.jsonl``, in the order of their page.
    :param folder: Where the site is to be: a new folder, or one with an earlier site, which it replaces.
    :raises UsageError: a run can't be read, or something else is at the folder's place.
    :raises HostError: the site can't be written.
    """
    names = _names(runs)
    pages = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.globals.update(policy=POLICY, kinds=_KINDS, bad=BAD)
    with made_whole(folder) as made:
        for name in _STATIC:
            shutil.copyfile(_HERE / "static" / name, made / name)
        summaries = []
        for run, name in zip(runs, names, strict=True):
            (made / name).mkdir()
            summaries.append(write_run(run, made / name, name=name))
            page = pages.get_template("run.html.j2").render(name=name, views=_VIEWS, summary=summaries[-1])
            (made / f"{name}.html").write_text(page, encoding="utf-8")
        page = pages.get_template("index.html.j2").render(summaries=summaries, changed=_changed(summaries))
        (made / "index.html").write_text(page, encoding="utf-8")
    return summaries


def _names(runs: Sequence[Path]) -> list[str]:
    """A name for each run that any file system and any address can have, each once."""
    names: list[str] = []
    for run in runs:
        if not run.exists():
            raise UsageError(f"{run}: there is no such run; memtype run leaves them in .memtype/runs")
        real = run.resolve()
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", (real.parent if real.is_file() else real).name).strip("-.")
        name, number = plain or "run", 1
        while name.lower() in ("index", *map(str.lower, names)):
            number += 1
            name = f"{plain or 'run'}-{number}"
        names.append(name)
    return names


def _changed(summaries: Sequence[Summary]) -> dict[str, Any]:
    """The tests whose results differ between runs: a line for each, with its result in each run."""
    # The id of a test may hold the exact kernel, which is another after each update.
    on_one_kernel = all(len(set(each.cases.values())) == len(each.cases) for each in summaries)
    found: dict[str, list[str]] = {}
    for number, run in enumerate(summaries):
        for test, status in run.results.items():
            case, system = run.cases[test]
            name = test if not on_one_kernel else case if system == "minimal" else f"{case} in {system}"
            found.setdefault(name, ["-"] * len(summaries))[number] = status
    known = {test: [each for each in run if each not in ("-", UNKNOWN)] for test, run in found.items()}
    lines = [(shown(test), results) for test, results in found.items() if len(set(known[test])) > 1]
    return {
        "lines": lines[:_MOST_CHANGED],
        "left": max(0, len(lines) - _MOST_CHANGED),
        "compared": any(len(each) > 1 for each in known.values()),
    }
