"""The part of the pytest plugin for a target, a machine that somebody owns."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pytest_memtype.errors import UsageError
from pytest_memtype.plugin.config import progress_of, run_of
from pytest_memtype.target import QEMU

if TYPE_CHECKING:
    from pytest_memtype.target.target import Target

_ALONE_USELESS = ("--console", "--target-config", "--dry-run")

_target = pytest.StashKey["Target | None"]()


def the_target(config: pytest.Config) -> Target | None:
    """The machine to test instead of guests in QEMU; None for those.

    :param config: pytest's configuration, which keeps the target.
    :raises UsageError: the options for it are wrong, or several processes would use it at once.
    """
    if _target not in config.stash:
        if config.getoption("--target") == QEMU:
            given = [name for name in _ALONE_USELESS if config.getoption(name)]
            if given:
                raise UsageError(f"{', '.join(given)}: for a --target alone; name the machine with it")
            config.stash[_target] = None
        else:
            config.stash[_target] = _reached(config)
    return config.stash[_target]


def _reached(config: pytest.Config) -> Target:
    # The imports load paramiko, which takes as long as the rest of the plugin.
    from pytest_memtype.target.address import parse_target
    from pytest_memtype.target.target import Target

    address = parse_target(
        config.getoption("--target"),
        console=config.getoption("--console"),
        config=config.getoption("--target-config"),
    )
    assert address is not None
    if hasattr(config, "workerinput") or config.getoption("numprocesses", default=None):
        raise UsageError("--target: it is one machine, so that only one process can use it; give -n 0")
    return Target(
        address,
        logs=run_of(config),
        progress=progress_of(config),
        dry_run=_printer(config) if config.getoption("--dry-run") else None,
    )


def _printer(config: pytest.Config) -> Callable[[str], None]:
    def show(line: str) -> None:
        capture = config.pluginmanager.getplugin("capturemanager")
        reporter = config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None and capture is not None:
            with capture.global_and_fixture_disabled():
                reporter.ensure_newline()
                reporter.write_line(f"dry run: {line}")

    return show
