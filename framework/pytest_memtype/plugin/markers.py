"""The markers of tests, and the settings that the markers of a test make."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest

from pytest_memtype.distribution.system import check_guest
from pytest_memtype.errors import LayoutError, UsageError
from pytest_memtype.guest.module import Value
from pytest_memtype.host.nearest import unknown
from pytest_memtype.kernels.requirements import of_hardware
from pytest_memtype.kernels.user_module import check_source
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.machine.layout_file import folders_of_tests, layout_folders, load_layout
from pytest_memtype.run.alias_check import ExpectedAlias
from pytest_memtype.run.options import DEFAULT_LAYOUT

_PROVOKING: Final = ("expect_oops", "bug")
_OPTION: Final = re.compile(r"(?!CONFIG_)\w+")

_wanted = pytest.StashKey[Layout]()


def add_markers(config: pytest.Config) -> None:
    """Make pytest know the markers, but for ``bug``: see :mod:`pytest_memtype.plugin.bugs`."""
    config.addinivalue_line("markers", "layout(layout): MTRR layout of the test's guest: a name or a Layout")
    config.addinivalue_line(
        "markers",
        "hardware(cpu=, memory=, cpus=, cmdline=, firmware=, smm=, display=, devices=, objects=, "
        "most_memory=): hardware of the test's guest",
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
    config.addinivalue_line(
        "markers",
        "module(path, parameters={}): a kernel module of your own, which is loaded into the test's guests",
    )
    config.addinivalue_line("markers", "shared_guest: the tests of the module share one guest")
    config.addinivalue_line(
        "markers",
        "needs_module: the test does nothing without the module, so no guest is started then",
    )
    config.addinivalue_line(
        "markers",
        "needs_config(NAME, ...): the test needs options of the kernel's configuration, such as 'EFI'; it is "
        "skipped on a kernel without",
    )


def needed_options(node: pytest.Item) -> tuple[str, ...]:
    """The options of the kernel that a test needs, by its markers ``needs_config`` and ``hardware``.

    :param node: The test.
    :raises UsageError: a marker's arguments are wrong.
    """
    hardware = hardware_of(node)
    names = [*of_hardware(cpus=hardware.cpus, firmware=hardware.firmware)]
    for marker in node.iter_markers("needs_config"):
        named = [isinstance(name, str) and _OPTION.fullmatch(name) for name in marker.args]
        if marker.kwargs or not all(named):
            raise UsageError(
                f"{_where(node, marker)}: needs_config takes names of options without CONFIG_, such as 'EFI'"
            )
        names += marker.args
    return tuple(dict.fromkeys(names))


def modules_of(node: pytest.Item) -> tuple[tuple[str, Mapping[str, Value]], ...]:
    """The modules that the test's guests load, and their parameters, by its markers ``module``.

    Those of the file come before those of the class and the test.

    :param node: The test.
    :raises UsageError: a marker's arguments are wrong, or there is no such module.
    """
    found = []
    for marker in reversed(list(node.iter_markers("module"))):
        path = marker.args[0] if len(marker.args) == 1 else None
        parameters = marker.kwargs.get("parameters", {})
        if not isinstance(path, (str, Path)) or marker.kwargs.keys() - {"parameters"}:
            raise UsageError(
                f"{_where(node, marker)}: the marker module takes a path, and parameters= if need be"
            )
        if not isinstance(parameters, Mapping):
            raise UsageError(f"{_where(node, marker)}: parameters={parameters!r} are no names and values")
        try:
            check_source(str(path), node.path.parent)
        except UsageError as error:
            raise UsageError(f"{_where(node, marker)}: {error.message}") from None
        found.append((str(path), parameters))
    return tuple(found)


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

    :param node: The test.
    :raises UsageError: the marker's arguments are wrong, or there is no such layout.
    """
    marker = node.get_closest_marker("layout")
    if marker is None:
        return _layout_of_command_line(node)
    if len(marker.args) != 1 or marker.kwargs:
        raise UsageError(f"{_where(node, marker)}: the marker layout takes one argument, a name or a Layout")
    try:
        return named_layout(marker.args[0], node)
    except LayoutError as error:
        raise UsageError(f"{_where(node, marker)}: marker layout: {error.message}") from None


def check_markers(node: pytest.Item) -> None:
    """Check a test's markers about its guest, before any test runs.

    :param node: The test.
    :raises UsageError: a marker can't be used; the message names the file and the line.
    """
    if node.get_closest_marker("layout") is not None:
        layout_of(node)
    needed_options(node)
    modules_of(node)
    expected_alias(node)
    expected_reports(node)


def check_distribution(node: pytest.Item) -> None:
    """Check a test's marker ``distribution``, which decides in which guests, so how often, the test runs.

    :param node: The test.
    :raises UsageError: the marker names no guest.
    """
    for marker in node.iter_markers("distribution"):
        try:
            for name in marker.args:
                check_guest(name)
        except UsageError as error:
            raise UsageError(f"{_where(node, marker)}: marker distribution: {error.message}") from None


def check_layout_option(config: pytest.Config) -> None:
    """Check ``--layout``, before anything is collected.

    :param config: pytest's configuration, which keeps the layout that was found.
    :raises LayoutError: there is no such layout, or its file holds none.
    """
    name = config.getoption("--layout")
    if name != DEFAULT_LAYOUT:
        config.stash[_wanted] = load_layout(name, _folders_of_command_line(config))


def _layout_of_command_line(node: pytest.Item) -> Layout:
    name = node.config.getoption("--layout")
    try:
        return named_layout(name, node)
    except LayoutError:
        # The layout's file is beside other tests of the run.
        if _wanted not in node.config.stash:
            raise
        return node.config.stash[_wanted]


def _folders_of_command_line(config: pytest.Config) -> list[Path]:
    start = config.invocation_params.dir
    named = [start / argument.partition("::")[0] for argument in config.args]
    return layout_folders([each for each in named if each.exists()], start=start)


def named_layout(layout: Layout | str, node: pytest.Item) -> Layout:
    """A layout, found by its name if need be: in the test's own folder, then in those above it.

    :param layout: The layout, or its name.
    :param node: The test.
    :raises LayoutError: there is no such layout, or ``layout`` is something else.
    """
    if isinstance(layout, Layout):
        return layout
    if not isinstance(layout, str):
        raise LayoutError(f"{layout!r} is neither a name nor a Layout")
    own, root = node.path.parent, node.config.rootpath
    above = [each for each in own.parents if each.is_relative_to(root)]
    return load_layout(layout, [found for each in (own, *above) for found in folders_of_tests(each)])


def hardware_of(node: pytest.Item) -> Hardware:
    """The hardware of the test's guest, by its marker ``hardware``.

    :param node: The test.
    :raises UsageError: the marker's arguments are wrong.
    """
    marker = node.get_closest_marker("hardware")
    if marker is None:
        return Hardware()
    known = [each.name for each in fields(Hardware)]
    for name in marker.kwargs:
        if name not in known:
            raise UsageError(
                f"{_where(node, marker)}: marker hardware: nothing is called {name!r}{unknown(name, known)}"
            )
    try:
        return Hardware(*marker.args, **marker.kwargs)
    except UsageError as error:
        raise UsageError(f"{_where(node, marker)}: {error.message}") from None
    except TypeError:
        # An argument was given twice, or too many without their names.
        raise UsageError(
            f"{_where(node, marker)}: marker hardware: give each by its name, once, such as memory='1G'"
        ) from None


def expected_alias(item: pytest.Item) -> ExpectedAlias | None:
    """The alias that the test leaves, by its marker ``expect_alias``; None without the marker.

    :param item: The test.
    :raises UsageError: the marker's arguments are wrong.
    """
    marker = item.get_closest_marker("expect_alias")
    if marker is None:
        return None
    try:
        return ExpectedAlias(*marker.args, **marker.kwargs)
    except (TypeError, ValueError):
        raise UsageError(
            f"{_where(item, marker)}: expect_alias takes before=, a kernel version such as (6, 16)"
        ) from None


def expected_reports(item: pytest.Item) -> list[str]:
    """Regular expressions for the reports that the test expects, by its markers ``expect_oops``.

    :param item: The test.
    :raises UsageError: a marker has no argument that is a regular expression.
    """
    expected = []
    for marker in item.iter_markers("expect_oops"):
        try:
            match = marker.kwargs["match"] if marker.kwargs else marker.args[0]
            re.compile(match)
        except (IndexError, KeyError, TypeError, re.error):
            raise UsageError(
                f"{_where(item, marker)}: expect_oops wants match=, a regular expression"
            ) from None
        expected.append(match)
    return expected


def _where(node: pytest.Item, marker: pytest.Mark) -> str:
    """The test with its file and line; the marker's line, where the marker stands at the function."""
    path, first, name = node.location
    line = first or 0
    with contextlib.suppress(OSError, UnicodeDecodeError, IndexError):
        lines = node.path.read_text(encoding="utf-8").splitlines()
        for number in range(line, len(lines)):
            if f"mark.{marker.name}" in lines[number]:
                line = number
                break
            if lines[number].lstrip().startswith(("def ", "async def ")):
                break
    return f"{path}:{line + 1}: {name}"
