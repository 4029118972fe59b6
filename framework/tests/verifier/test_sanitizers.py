"""The same properties under AddressSanitizer and UndefinedBehaviorSanitizer.

A library built with AddressSanitizer can only be loaded where its runtime came first, so a Python of its
own has it preloaded. Leaks are counted by the library itself, since Python has some of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from memtype_support.verifier_library import make

_HERE = Path(__file__).parent
_LIMIT_SECONDS = 280
_RELEASED_TWICE = """
import sys
from pathlib import Path
from memtype_support.verifier_library import Library
from pytest_memtype.spec.verifier import Request
from pytest_memtype.x86.memtype import MemType

library = Library(Path(sys.argv[1]))
library.start(last_pfn=63, possible=0xFF)
handle = library.adopt(Request(1, 1, MemType.WC, "drm"))
library.release(handle)
library.release(handle)
"""


def _sanitized(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    runtime = make("asan-runtime", folder).strip()
    environment = os.environ | {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "MEMTYPE_VERIFIER_TARGET": "verifier-sanitized.so",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LIMIT_SECONDS,
        check=False,
    )


def test_the_properties_hold_under_sanitizers(tmp_path: Path) -> None:
    tests = str(_HERE / "test_properties.py")
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", str(_HERE))
    done = _sanitized(tmp_path, "-m", "pytest", *options, tests)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_a_record_released_twice_is_reported(tmp_path: Path) -> None:
    make("verifier-sanitized.so", tmp_path)
    done = _sanitized(tmp_path, "-c", _RELEASED_TWICE, str(tmp_path / "verifier-sanitized.so"))
    assert done.returncode != 0
    assert "AddressSanitizer: heap-use-after-free" in done.stdout
