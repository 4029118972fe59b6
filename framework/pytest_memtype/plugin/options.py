"""The options of a run for pytest, and a check of their values before anything is collected."""

from __future__ import annotations

import pytest

from pytest_memtype.distribution.system import check_guest
from pytest_memtype.errors import (
    MemtypeError,
    UsageError,
)
from pytest_memtype.host.nearest import check_choice
from pytest_memtype.kernels.mutant_catalogue import find
from pytest_memtype.kernels.sets import check as check_specs
from pytest_memtype.machine.accelerator import ACCELERATORS
from pytest_memtype.plugin.markers import (
    check_layout_option,
)
from pytest_memtype.plugin.target import the_target
from pytest_memtype.run.options import FRESH, add_options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a run to pytest's command line."""
    add_options(parser.getgroup("memtype", "memory type tests in QEMU guests"))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Check the options, and end the run with one line where a value is wrong."""
    # Here an error is said once, at the start, and not for each module of tests.
    config = session.config
    try:
        _check_that_tests_are_there(config)
        check_choice("--fresh", config.getoption("--fresh"), FRESH)
        check_choice("--accel", config.getoption("--accel"), ACCELERATORS)
        the_target(config)
        for guest in config.getoption("--guest") or ():
            check_guest(guest)
        check_specs(config.getoption("--kernel") or ())
        check_layout_option(config)
        if config.getoption("--mutant") is not None:
            find(config.getoption("--mutant"))
    except UsageError as error:
        raise pytest.UsageError(f"memtype: {error}") from None
    except MemtypeError as error:
        pytest.exit(f"memtype: {error.message}", returncode=error.exit_status)


def _check_that_tests_are_there(config: pytest.Config) -> None:
    # With workers of pytest-xdist pytest says that no tests ran, and not why (3.6).
    if not config.getoption("numprocesses", None) or config.getoption("pyargs"):
        return
    for argument in config.args:
        if not (config.invocation_params.dir / argument.partition("::")[0]).exists():
            raise UsageError(f"file or directory not found: {argument}")
