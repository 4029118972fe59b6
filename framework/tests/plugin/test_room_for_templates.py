"""The room that the cache leaves for templates, and how many the suite has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pytest_memtype.machine.template_store import SUITE, TEMPLATE

ROOT = Path(__file__).parents[3]

COUNT = """\
import json, pytest
from pytest_memtype.plugin.markers import hardware_of, layout_of, modules_of

class Count:
    def pytest_collection_modifyitems(self, items):
        guests = [item for item in items if "guest" in item.fixturenames]
        places = {(repr(hardware_of(each)), repr(layout_of(each)), repr(modules_of(each))) for each in guests}
        print("\\n" + json.dumps(len(places)))

pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "testcases"], plugins=[Count()])
"""


def test_all_of_a_kernel_fit() -> None:
    """Three kernels' templates fit into the cache, or each run of them boots every one."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    (count,) = (json.loads(line) for line in done.stdout.splitlines() if line.isdecimal())
    assert count > 50
    assert count * TEMPLATE <= SUITE, f"the suite has {count} templates now"
