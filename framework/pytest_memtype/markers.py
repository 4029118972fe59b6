"""The markers of tests: what there is, and what those of a test say."""

from __future__ import annotations

import re
from typing import Final

import pytest

from pytest_memtype.alias_check import ExpectedAlias
from pytest_memtype.errors import UsageError
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.machine.layout_file import folders_of_tests, load_layout

_PROVOKING: Final = ("expect_oops", "bug")


def add_markers(config: pytest.Config) -> None:
    """Make pytest know them, but for ``bug``: see :mod:`pytest_memtype.bug_plugin`."""
    config.addinivalue_line("markers", "layout(layout): MTRR layout of the test's guest: a name or a Layout")
    config.addinivalue_line(
        "markers",
        "hardware(cpu=, memory=, cpus=, cmdline=, firmware=, smm=, display=): hardware of the test's guest",
    )
    config.addinivalue_line(
        "markers", "expect_oops(match): the kernel must report something the regular expression is found in"
    )
    config.addinivalue_line(
        "markers",
        "expect_alias(before=): the test leaves a page with two conflicting types, on kernels before a "
        "version such as (6, 16)",
    )
    config.addinivalue_line(
        "markers",
        "distribution(guest): the test wants a guest that runs a distribution; the one that is named, if "
        "any, unless --guest names one",
    )
    config.addinivalue_line("markers", "shared_guest: the tests of the module share one guest")
    config.addinivalue_line(
        "markers",
        "needs_module: the test does nothing without the module, so no guest is started then",
    )


def provokes(node: pytest.Item) -> bool:
    """Does the test make the kernel report something?"""
    return any(node.get_closest_marker(name) for name in _PROVOKING)


def shares_guest(node: pytest.Item) -> bool:
    """Do the tests of this one's module share a guest?"""
    # A kernel gives many of its warnings once a boot, so a test that wants one needs a boot of its own.
    # A bug leaves its traces in the kernel.
    if provokes(node):
        return False
    return bool(node.config.getoption("--shared-guest") or node.get_closest_marker("shared_guest"))


def layout_of(node: pytest.Item) -> Layout:
    """The layout of the test's guest: the marker's, else the command line's.

    :raises UsageError: the marker says no such thing, or there is no such layout.
    """
    marker = node.get_closest_marker("layout")
    if marker is None:
        return named_layout(node.config.getoption("--layout"), node)
    if len(marker.args) != 1 or marker.kwargs:
        raise UsageError(f"{node.nodeid}: the marker layout takes one argument, a name or a Layout")
    return named_layout(marker.args[0], node)


def named_layout(layout: Layout | str, node: pytest.Item) -> Layout:
    """A layout, found by its name if need be: the test's own folders come first.

    :raises UsageError: there is none.
    """
    if isinstance(layout, Layout):
        return layout
    return load_layout(layout, folders_of_tests(node.path.parent))


def hardware_of(node: pytest.Item) -> Hardware:
    """The hardware of the test's guest.

    :raises UsageError: the marker says no such thing.
    """
    marker = node.get_closest_marker("hardware")
    if marker is None:
        return Hardware()
    try:
        return Hardware(*marker.args, **marker.kwargs)
    except TypeError as error:
        raise UsageError(f"{node.nodeid}: marker hardware: {error}") from None


def expected_alias(item: pytest.Item) -> ExpectedAlias | None:
    """The alias that the test leaves, if it says so.

    :raises UsageError: the marker says no such thing.
    """
    marker = item.get_closest_marker("expect_alias")
    if marker is None:
        return None
    try:
        return ExpectedAlias(*marker.args, **marker.kwargs)
    except (TypeError, ValueError):
        raise UsageError(
            f"{item.nodeid}: expect_alias takes before=, a kernel version such as (6, 16)"
        ) from None


def expected_reports(item: pytest.Item) -> list[str]:
    """Regular expressions of what the kernel must report in the test.

    :raises UsageError: one is none.
    """
    expected = []
    for marker in item.iter_markers("expect_oops"):
        try:
            match = marker.kwargs["match"] if marker.kwargs else marker.args[0]
            re.compile(match)
        except (IndexError, KeyError, TypeError, re.error):
            raise UsageError(f"{item.nodeid}: expect_oops wants match=, a regular expression") from None
        expected.append(match)
    return expected
