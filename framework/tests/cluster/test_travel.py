"""Kernels that a worker can't make by itself travel to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from memtype_support.build_tree import build_tree, debian_kernel, needs_its_compiler
from memtype_support.dask_cluster import dask_cluster, run_tests

from pytest_memtype.kernels.mirror import VARIABLE

TEST = """
import pytest
from pytest_memtype import MemType


@pytest.mark.hardware(memory="96M")
def test_maps(guest):
    assert guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC).accepted
"""


@pytest.mark.timeout(1800)
def test_kernels_travel_to_a_worker_that_has_none(tmp_path: Path) -> None:
    debian = debian_kernel("debian:bookworm")
    tree = build_tree(tmp_path / "tree", debian)
    needs_its_compiler(tree)
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_travel.py").write_text(TEST)
    exact = f"debian:{debian.release}"
    kernels = [f"tree:{tree}", f"image:{debian.image},build={tree}", exact]
    cache = tmp_path / "cache"
    with dask_cluster(tmp_path, []) as cluster:
        # Neither the client's cache nor a mirror.
        cluster.worker("bare", environment={"MEMTYPE_CACHE": str(cache), VARIABLE: "1"})
        options = [each for kernel in kernels for each in ("--kernel", kernel)]
        done = run_tests(folder, f"--scheduler={cluster.file}", *options, seconds=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{exact} is sent to the workers: " in done.stdout + done.stderr
    lines = (folder / ".memtype/latest/records.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    found = {(each["tested"], each["kernel"], each["kernel_answer"]["accepted"]) for each in records}
    assert found == {(kernel, debian.release, True) for kernel in kernels}
    # Nothing was built there: the only bundle is the one that the client has exported.
    assert [path.name for path in (cache / "bundles").iterdir()] == [debian.directory.name]
