"""Each suite has what the project takes for granted of it, today, on the mirror of this host."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.index import Index, choose, newest_of_each_series
from pytest_memtype.kernels.kept_indexes import indexes
from pytest_memtype.kernels.sets import kernel_set
from pytest_memtype.kernels.spec import SUITES, DebianSpec

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty cache."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def found(cache: Path) -> dict[str, Index]:
    """The indexes, read anew."""
    return indexes(SUITES, cache=cache, progress=silent)


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_has_a_cloud_kernel_that_a_module_builds_for(found: dict[str, Index], suite: str) -> None:
    kernel = choose(DebianSpec(f"debian:{suite}", suite=suite), found)
    assert kernel.cloud
    assert kernel.headers


@pytest.mark.parametrize(("suite", "series"), [("bullseye", "5.10"), ("bookworm", "6.1"), ("trixie", "6.12")])
def test_a_release_keeps_its_series(found: dict[str, Index], suite: str, series: str) -> None:
    assert choose(DebianSpec(f"debian:{suite}", suite=suite), found).series == series


def test_a_series_is_at_least_as_new_as_its_suite(found: dict[str, Index]) -> None:
    """The metapackage of a suite names what is signed, and may be some days behind."""
    for suite in ("bullseye", "bookworm", "trixie"):
        own = choose(DebianSpec("", suite=suite), found)
        built = choose(DebianSpec("", series=own.series), found)
        assert newest_of_each_series([own, built]) == [built]


@pytest.mark.usefixtures("found")
def test_the_sets(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(cache))
    lts = kernel_set("lts")
    assert len(lts) >= 5
    assert set(lts) <= set(kernel_set("all"))
