"""A thousand clones in one process: what do they leave behind?

python framework/benchmarks/endurance.py [CLONES]
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from memtype_support.benchmark import Bench, bench, finish, show

from pytest_memtype.host.private_folder import PREFIX

#: What the interpreter, the allocator and the libraries keep is there after so many.
WARM_UP = 20


@dataclass(frozen=True)
class Footprint:
    """What this process has.

    :param resident_mib: Of its own memory, without its children's.
    :param temporary_files: In the folder for them, all that is ours by name.
    """

    descriptors: int
    sockets: int
    threads: int
    children: int
    temporary_files: int
    resident_mib: float


def footprint() -> Footprint:
    """Of this process, now."""
    targets = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            targets.append(str(path.readlink()))
        except FileNotFoundError:
            continue  # The descriptor that lists them.
    children = [task / "children" for task in Path("/proc/self/task").iterdir()]
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Footprint(
        descriptors=len(targets),
        sockets=sum(target.startswith("socket:") for target in targets),
        threads=threading.active_count(),
        children=sum(len(path.read_text().split()) for path in children),
        temporary_files=len(list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))),
        resident_mib=pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20),
    )


def run(on: Bench, clones: int) -> None:
    """Clone, ask, close, so many times."""
    for _ in range(clones):
        guest = on.clone()
        with guest.machine:
            assert guest.tracked(observed=False) == ()


def main(clones: int) -> None:
    # A folder of our own: other runs on this host have guests, too.
    with tempfile.TemporaryDirectory(prefix="memtype-endurance-") as folder:
        tempfile.tempdir = folder
        with bench() as on:
            run(on, WARM_UP)
            before = footprint()
            run(on, clones)
            after = footprint()
        tempfile.tempdir = None
    first, last = asdict(before), asdict(after)
    growth = {name: last[name] - first[name] for name in first}
    show(
        f"What {clones} clones in one process leave",
        ("", "before", "after", "growth"),
        [(name.replace("_", " "), first[name], last[name], growth[name]) for name in first],
    )
    finish({"clones": clones, **{f"{name}_growth": value for name, value in growth.items()}})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
