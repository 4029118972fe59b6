"""Small indexes of Debian's suites, as they were in November 2026, to test on which kernel a spec means.

What a mirror has changes every day; what is to be made of it doesn't. ``debian:bookworm`` is 6.1.0-56 there,
which the suite's metapackage names, and ``debian:6.1`` is 6.1.0-57, which is built and not signed yet.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

from pytest_memtype.kernels.fetch import kit_path, note_kernel
from pytest_memtype.kernels.index import Kernel
from pytest_memtype.kernels.kept_indexes import decode, path_of
from pytest_memtype.kernels.spec import SUITES

FOLDER = Path(__file__).parents[1] / "tests" / "kernels" / "indexes"
DAY = 24 * 3600.0


def fill_with_indexes(cache: Path, *, age: float = 0.0, suites: Iterable[str] = SUITES) -> None:
    """Give a cache these indexes.

    :param age: How old they are, seconds.
    :param suites: Those it gets.
    """
    for suite in suites:
        path = path_of(cache, suite)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.loads((FOLDER / path.name).read_bytes())
        path.write_text(json.dumps({**content, "fetched": time.time() - age}))


def pretend_kit(cache: Path, release: str) -> Path:
    """Have a cache look as if it had the kit of a kernel of these indexes, which is enough to be chosen."""
    kernel = small_kernel(release)
    kit = kit_path(kernel, cache=cache)
    (kit / "memtype").mkdir(parents=True)
    note_kernel(kernel, kit / "memtype")
    return kit


def small_kernel(release: str) -> Kernel:
    """A kernel of these indexes by its release."""
    indexes = (decode(path.read_bytes())[0] for path in sorted(FOLDER.iterdir()))
    return next(kernel for index in indexes for kernel in index.kernels if kernel.release == release)
