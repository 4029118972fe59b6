from __future__ import annotations

import pytest

FULL = """
import resource
import pytest

@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        outcome.get_result().memtype_records = [{"text": "x" * 4096}]
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
"""


def test_a_full_disk_ends_the_run_in_one_line(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(FULL)
    pytester.makepyfile("def test_one(): pass\ndef test_two(): pass")
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "0")
    assert done.ret == 3
    output = done.stdout.str()
    assert "records.jsonl: the record can't be written (File too large); make room" in output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output
