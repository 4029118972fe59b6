"""The check of ``memtype kernels check``: what a kernel of one's own lacks, and what is skipped for it."""

from __future__ import annotations

import contextlib
import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from pytest_memtype.errors import KernelError, UsageError
from pytest_memtype.host import resources
from pytest_memtype.host.files import read_file
from pytest_memtype.kernels.local import find_local
from pytest_memtype.kernels.requirements import LOST, missing, refuses_module, settings
from pytest_memtype.kernels.spec import BuildSpec, parse
from pytest_memtype.plugin.markers import needed_options
from pytest_memtype.run.variants import Resolved, Variant

_GZIP = b"\x1f\x8b"
# Bytes, unpacked or not; 300,000 are usual.
_LARGEST = 16 << 20


@dataclass(frozen=True)
class Skipped:
    """A test of the suite that will be skipped.

    :param test: Its node id, without the kernel.
    :param options: The options that it needs and the kernel lacks, without ``CONFIG_``.
    """

    test: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class KernelCheck:
    """The result of the check of a kernel.

    :param kernel: The build tree, or the file of the configuration.
    :param unfit: Why it can't be a guest, a line each; empty when it can.
    :param lost: The options that tests need and the kernel lacks, each with what is lost.
    :param skipped: The tests that will be skipped.
    :param tests: Number of all tests of the suite.
    """

    kernel: str
    unfit: tuple[str, ...]
    lost: dict[str, str]
    skipped: tuple[Skipped, ...]
    tests: int

    def json(self) -> str:
        """The result as one line of JSON."""
        return json.dumps(asdict(self))

    def text(self) -> str:
        """The result for a person."""
        lines = [f"{self.kernel}: it {'can not' if self.unfit else 'can'} be a guest"]
        lines += [f"  {each}" for each in self.unfit]
        for name, what in self.lost.items():
            count = sum(name in each.options for each in self.skipped)
            lines.append(f"CONFIG_{name}=y is off, which {count} tests need; lost: {what}")
        lines.append(f"{len(self.skipped)} of {self.tests} tests will be skipped")
        lines += [f"  {each.test}: CONFIG_{', CONFIG_'.join(each.options)}" for each in self.skipped]
        return "\n".join(lines)


def checked(path: Path) -> KernelCheck:
    """Check a kernel, and collect the suite to see which tests will be skipped on it.

    :param path: A build tree, built or only configured, or the file of a configuration, as in ``/boot`` or
        ``/proc/config.gz``.
    :raises UsageError: there is nothing of the kind, or it can't be read.
    """
    config = path / ".config" if path.is_dir() else path
    given = settings(_text(config)) if config.is_file() else {}
    if not given:
        raise UsageError(f"{path}: no configuration of a kernel; name a build tree, or its file .config")
    unfit = [f"CONFIG_{name}=y is missing: {why}" for name, why in missing(given, module=True).items()]
    if refuses_module(given):
        unfit.append("CONFIG_MODULE_SIG_FORCE=y makes it refuse the guest's module")
    if not unfit and path.is_dir():
        unfit += _not_built(path)
    needed = _needs_of_the_suite()
    names = [*LOST, *(name for options in needed.values() for name in options)]
    lost = {name: LOST.get(name, "test that asks for it") for name in names if given.get(name) != "y"}
    skipped = []
    for test, options in needed.items():
        lacking = tuple(name for name in options if name in lost)
        if lacking:
            skipped.append(Skipped(test, lacking))
    return KernelCheck(str(path), tuple(unfit), lost, tuple(skipped), len(needed))


def _text(config: Path) -> str:
    content = read_file(config, most=_LARGEST)
    if content.startswith(_GZIP):
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            content = unpacker.decompress(content, _LARGEST)
        except zlib.error as error:
            raise UsageError(f"{config}: damaged: {error}") from None
        if not unpacker.eof:
            raise UsageError(
                f"{config}: cut short, or larger than the {_LARGEST >> 20} MiB of any configuration"
            )
    return content.decode(errors="replace")


def _not_built(path: Path) -> list[str]:
    spec = parse(f"tree:{path}")
    assert isinstance(spec, BuildSpec)
    try:
        find_local(spec)
    except KernelError as error:
        return [error.message]
    return []


_VARIANT = "kernel"
_DETAIL_LINES = 20


class _Collector:
    """A plugin for pytest that notes what each test needs.

    :ivar needed: The options that each test needs, by its node id without the kernel.
    """

    def __init__(self) -> None:
        self.needed: dict[str, tuple[str, ...]] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        for item in items:
            name = item.nodeid.replace(f"[{_VARIANT}]", "").replace(f"[{_VARIANT}-", "[")
            self.needed[name] = needed_options(item)


def _needs_of_the_suite() -> dict[str, tuple[str, ...]]:
    """The options that each test of the suite needs; those of distributions want Debian's kernels anyway."""
    suite = resources.testcases()
    collector = _Collector()
    # Collecting looks for no kernel where it is handed one, so that any spec will do.
    resolved = Resolved(("host",), (), (Variant(_VARIANT, "host"),))
    arguments = [str(suite), f"--ignore={suite / 'distribution'}", "--rootdir", str(suite.parent)]
    arguments += ["--collect-only", "-q", "-p", "no:cacheprovider", "--kernel", "host"]
    arguments += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        status = pytest.main(arguments, plugins=[resolved, collector])
    if status != pytest.ExitCode.OK:
        raise UsageError(
            f"{suite}: the suite can't be collected; pytest's last lines follow",
            details=tuple(output.getvalue().splitlines()[-_DETAIL_LINES:]),
        )
    return collector.needed
