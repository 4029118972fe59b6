"""Results as KCIDB has them, the database of the kernel's CI systems: a report of schema 5.3.

A kernel package is a checkout and its one build; a test is a test run on it. A reported bug is an issue, and
what a reproducer saw of it an incident, which is ``present`` or not. The schema is that of the package
``kcidb-io`` 141.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pytest_memtype.errors import harmless
from pytest_memtype.report.properties import Properties
from pytest_memtype.report.result import Result, Status, by_kernel

SCHEMA: Final = {"major": 5, "minor": 3}
ORIGIN: Final = re.compile(r"[a-z0-9_]+")
"""What the name of a CI system has to be."""

_STATUS: Final = {
    Status.PASSED: "PASS",
    Status.FAILED: "FAIL",
    Status.ERROR: "ERROR",
    Status.MISSED: "MISS",
    Status.SKIPPED: "SKIP",
    # That it fails is what the test's author expects of the kernel.
    Status.XFAILED: "PASS",
    Status.XPASSED: "PASS",
}
_PRESENT: Final = {"REPRODUCED": True, "ABSENT": False}

# The schema's maximum for an excerpt, in characters.
_EXCERPT: Final = 16384


def kcidb(results: Iterable[Result], *, origin: str, run: str) -> dict[str, Any]:
    """A report on a run, which is JSON. Tests that have no kernel aren't in it.

    :param results: The results of the run's tests.
    :param origin: The name of the CI system, which all ids begin with: :data:`ORIGIN`.
    :param run: A name of the run that no other run has.
    """
    checkouts: dict[str, Any] = {}
    builds: dict[str, Any] = {}
    tests: list[Any] = []
    issues: dict[str, Any] = {}
    incidents: list[Any] = []
    for tested, of_kernel in by_kernel(results).items():
        if not tested:
            continue
        for result in of_kernel:
            known = _kernel_of(result, of_kernel)
            build = _build(known, tested, origin)
            checkouts.setdefault(build["checkout_id"], _checkout(build["checkout_id"], known, origin))
            builds.setdefault(build["id"], build)
            tests.append(_test(result, build["id"], origin=origin, run=run))
            issue = _issue(result.properties, origin)
            if issue is not None:
                issues.setdefault(issue["id"], issue)
                incidents += _incidents(result, tests[-1]["id"], issue["id"], origin)
    return {
        "version": SCHEMA,
        "checkouts": list(checkouts.values()),
        "builds": list(builds.values()),
        "tests": tests,
        "issues": list(issues.values()),
        "incidents": incidents,
    }


def _kernel_of(result: Result, others: Sequence[Result]) -> Properties:
    """The properties that name the kernel of a test; of one that was skipped, those of another test of it."""
    named = (each.properties for each in (result, *others) if "kernel_version" in each.properties)
    return next(named, result.properties)


def _build(known: Properties, tested: str, origin: str) -> dict[str, Any]:
    # Before any guest of it has started nothing but its spec is known of a kernel.
    release, version = known.get("kernel", tested), known.get("kernel_version", "")
    identity = _text(f"{release} {version}").strip().replace(" ", "-")
    return {
        "id": f"{origin}:{identity}",
        "checkout_id": f"{origin}:{_text(version or release).replace(' ', '-')}",
        "origin": origin,
        "architecture": "x86_64",
        "config_name": _text(release),
        "comment": _text(f"Linux {release} {version}".strip()),
        "status": "PASS",
        "misc": {"spec": _text(tested)},
    }


def _checkout(identity: str, known: Properties, origin: str) -> dict[str, Any]:
    version = known.get("kernel_version", "")
    named = {"comment": _text(f"sources of version {version}")} if version else {}
    return {"id": identity, "origin": origin, "valid": True, **named}


def _test(result: Result, build: str, *, origin: str, run: str) -> dict[str, Any]:
    digest = hashlib.sha256(result.test.encode(errors="backslashreplace")).hexdigest()[:16]
    about = {name: _text(text) for name, text in result.properties.items()}
    where = [f"QEMU {about['qemu']}"] if "qemu" in about else []
    where += [f"{name} {about[name]}" for name in ("accelerator", "layout", "hardware") if name in about]
    environment: dict[str, Any] = {"misc": about}
    if where:
        environment["comment"] = "; ".join(where)
    made = {
        "id": f"{origin}:{run}-{digest}",
        "build_id": build,
        "origin": origin,
        "path": _path(result),
        "comment": _text(result.test),
        "status": _STATUS[result.status],
        "duration": round(result.seconds, 3),
        "environment": environment,
    }
    if result.started:
        made["start_time"] = datetime.fromtimestamp(result.started, UTC).isoformat()
    excerpt = result.details or result.headline
    if excerpt:
        # The end has the operations and where the evidence is.
        made["log_excerpt"] = _text(excerpt[-_EXCERPT:])[-_EXCERPT:]
    return made


def _path(result: Result) -> str:
    """The place of a test in the tree of all tests: letters, digits, _ and -, with dots between the parts."""
    name, bracket, parameters = result.name.partition("[")
    parameters = parameters.removesuffix("]").replace(result.kernel, "").strip("-")
    parts = ["memtype", *result.file.removesuffix(".py").split("/"), *name.split("::")]
    if bracket and parameters:
        parts.append(parameters)
    return ".".join(filter(None, (re.sub(r"[^A-Za-z0-9_-]+", "_", part) for part in parts)))


def _issue(about: Properties, origin: str) -> dict[str, Any] | None:
    bug = _text(about.get("bug", ""))
    if not bug:
        return None
    return {
        "id": f"{origin}:memtype-{bug}",
        "version": 1,
        "origin": origin,
        "comment": _text(about.get("bug.title", bug)),
        "culprit": {"code": True, "tool": False, "harness": False},
        "misc": {"bug": bug},
    }


def _incidents(result: Result, test: str, issue: str, origin: str) -> list[dict[str, Any]]:
    present = _PRESENT.get(result.properties.get("bug.outcome", ""))
    if present is None:
        return []
    return [
        {
            "id": f"{test}-{issue.partition(':')[2]}",
            "origin": origin,
            "issue_id": issue,
            "issue_version": 1,
            "test_id": test,
            "present": present,
        }
    ]


def _text(text: str) -> str:
    # NUL and half characters are no JSON of theirs.
    return harmless(text)
