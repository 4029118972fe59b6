"""The variants that a run of pytest tests and its session, each found when it is first asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_memtype.distribution.system import MINIMAL
from pytest_memtype.errors import (
    HostError,
    MemtypeError,
    UsageError,
    reason,
)
from pytest_memtype.host.progress import Remark
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.machine.qemu_versions import age_warning
from pytest_memtype.machine.vcpu_registers import usable_qemu
from pytest_memtype.plugin.config import check_base, progress_of, run_of
from pytest_memtype.plugin.target import the_target
from pytest_memtype.report.record import in_ids, split_id
from pytest_memtype.run.session import Session
from pytest_memtype.run.variants import Resolved, Variant, all_variants

_session = pytest.StashKey[Session]()
_variants = pytest.StashKey[list[Variant]]()
_trouble = pytest.StashKey[MemtypeError]()


def variant_of(item: pytest.Item) -> Variant | None:
    """The variant that a test was made for; None for a test of another suite's."""
    callspec = getattr(item, "callspec", None)
    variant = None if callspec is None else callspec.params.get("memtype_variant")
    return variant if isinstance(variant, Variant) else None


def _resolved(config: pytest.Config) -> Resolved | None:
    kernels, guests = config.getoption("--kernel"), config.getoption("--guest")
    found = (each for each in config.pluginmanager.get_plugins() if isinstance(each, Resolved))
    return next((each for each in found if each.is_of(kernels, guests)), None)


def for_workers(config: pytest.Config) -> list[tuple[str, str, str, str]] | None:
    """The variants as a worker of pytest-xdist is told them; None where each worker finds them itself."""
    resolved = _resolved(config)
    if resolved is None:
        return None
    return [(each.name, each.kernel, each.system, each.tested) for each in resolved.variants]


def session_of(config: pytest.Config) -> Session:
    """The session of this process, with its guests; opened when the first test needs it."""
    run = run_of(config)
    if _session not in config.stash:
        _open_session(config, run)
    return config.stash[_session]


def _open_session(config: pytest.Config, run: Path) -> None:
    session = Session(
        run,
        progress=progress_of(config),
        fresh=config.getoption("--fresh"),
        accelerator=config.getoption("--accel"),
        target=the_target(config),
        coverage=config.getoption("--coverage"),
        mutant=config.getoption("--mutant"),
    )
    config.add_cleanup(session.close)
    config.stash[_session] = session


def end_ahead(config: pytest.Config) -> None:
    """End the guest that this process has started for a test that doesn't come, if there is one."""
    session = config.stash.get(_session, None)
    if session is not None:
        session.end_ahead()


def variants_of_test(metafunc: pytest.Metafunc) -> list[Variant]:
    """The variants of a test: the run's, or its marker's distribution where no variant of the run has any."""
    tested = variants_of_run(metafunc.config)
    if getattr(metafunc.config, "workerinput", {}).get("memtype_alone"):
        # A task of a cluster has one variant, which its client has chosen for it.
        return tested
    marker = metafunc.definition.get_closest_marker("distribution")
    if marker is None or not marker.args or the_target(metafunc.config) is not None:
        return tested
    if metafunc.config.getoption("--mutant") is not None:
        # Of another kernel nobody asks how it fares with the fault.
        return tested
    if any(each.system != MINIMAL for each in tested):
        return tested
    look = functools.partial(all_variants, None, marker.args, progress=progress_of(metafunc.config))
    return _or_trouble(metafunc.config, look)


def variants_of_run(config: pytest.Config) -> list[Variant]:
    """The variants that the command line asks for, looked for once in a run.

    Where they can't be had, the run ends when its tests are collected, before the first and with one line.
    """
    if _variants not in config.stash:
        config.stash[_variants] = _or_trouble(config, functools.partial(_look_for_tested, config))
    return config.stash[_variants]


def _or_trouble(config: pytest.Config, look: Callable[[], list[Variant]]) -> list[Variant]:
    """The variants that are found; where they can't be had one of no kernel, and the reason is noted."""
    try:
        return look()
    except MemtypeError as error:
        config.stash.setdefault(_trouble, error)
        return [Variant("none", "none")]


def variant_by_id(config: pytest.Config, nodeid: str) -> Variant | None:
    """The variant of a test of which nobody has told more than its id: whoever ran it has died, say.

    :param config: The configuration of the process that talks to the user.
    :param nodeid: pytest's node id, ``test_it.py::test_it[debian:6.1-UC]``.
    """
    parameters = split_id(nodeid)[1] or ""
    resolved = _resolved(config)
    known = [
        each
        for each in (config.stash.get(_variants, []) if resolved is None else resolved.variants)
        for name in (each.name, in_ids(each.name))
        if parameters == name or parameters.startswith(f"{name}-")
    ]
    # "debian:6.1" and "debian:6.1-rt" both begin so.
    return max(known, key=lambda each: len(each.name), default=None)


def _look_for_tested(config: pytest.Config) -> list[Variant]:
    if not config.option.collectonly:
        check_base(config)
    target = the_target(config)
    if target is not None:
        return [Variant(target.name, target.name)]
    resolved = _resolved(config)
    if resolved is not None:
        return list(resolved.variants)
    told = getattr(config, "workerinput", {}).get("memtype_variants")
    if told is not None:
        return [Variant(*each) for each in told]
    try:
        if not config.option.collectonly:
            # Nothing is fetched for a QEMU that can't be used.
            cache_directory()
            warning = age_warning(usable_qemu(progress=progress_of(config)))
            if warning:
                progress_of(config)(Remark(warning))
        kernels, guests = config.getoption("--kernel"), config.getoption("--guest")
        return all_variants(kernels, guests, progress=progress_of(config))
    except OSError as error:
        raise HostError(reason(error)) from error


def trouble_of(config: pytest.Config) -> tuple[str, int] | None:
    """Why nothing can be tested, in one line, and pytest's exit status for it; None when tests can run."""
    error = config.stash.get(_trouble, None)
    if error is None:
        return None
    is_usage = isinstance(error, UsageError)
    return error.message, int(pytest.ExitCode.USAGE_ERROR) if is_usage else error.exit_status
