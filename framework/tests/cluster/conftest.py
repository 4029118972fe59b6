"""For the tests of the cluster: one that several of them use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from memtype_support.dask_cluster import DaskCluster, dask_cluster


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path_factory.mktemp("cluster"), ["one", "two"]) as found:
        yield found
