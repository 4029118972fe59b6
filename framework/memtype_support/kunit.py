"""The kernel's own parser of KTAP, out of Debian's sources, on a text."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from memtype_support.kernel_scripts import kernel_scripts

# It prints while it parses, and the tree comes last.
_PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
import kunit_parser
def tree(test):
    return [test.name, test.status.name, [tree(each) for each in test.subtests], test.counts.errors, test.log]
parsed = tree(kunit_parser.parse_run_tests(sys.stdin))
print(json.dumps(parsed))
"""


@dataclass(frozen=True)
class Parsed:
    """A test as the parser sees it.

    :param name: Its name; ``main`` for the whole.
    :param status: ``SUCCESS``, ``FAILURE``, ``SKIPPED``, ``TEST_CRASHED``, ``NO_TESTS``.
    :param subtests: Tests in it.
    :param errors: Number of errors in the KTAP of it and its subtests.
    :param log: Diagnostics.
    """

    name: str
    status: str
    subtests: list[Parsed]
    errors: int
    log: list[str]


def parse(text: str) -> Parsed:
    """Parse KTAP.

    :raises LeftOutError: the parser can't be had.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(kernel_scripts())],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return _parsed(json.loads(done.stdout.splitlines()[-1]))


def _parsed(tree: list[object]) -> Parsed:
    name, status, subtests, errors, log = tree
    assert isinstance(subtests, list)
    assert isinstance(log, list)
    assert isinstance(errors, int)
    return Parsed(str(name), str(status), [_parsed(each) for each in subtests], errors, log)
