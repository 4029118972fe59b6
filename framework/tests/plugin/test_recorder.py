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


FULL_AT_THE_END = """
import resource
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        cell = {"bug": "b", "kernel": "6.1", "version": "6.1.1", "test": item.nodeid, "status": "reproduced"}
        report.memtype_bug = {**cell, "evidence": ["x" * 4096]}
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    return report
"""


def test_a_full_disk_at_the_end_is_said_in_one_line(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(FULL_AT_THE_END)
    pytester.makepyfile("def test_one(): pass")
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "0")
    assert done.ret == 3
    output = done.stdout.str() + done.stderr.str()
    assert "bugs.jsonl: the record can't be written (File too large); make room" in output
    assert "1 passed" in output
    assert "Traceback" not in output


RECORDING = """
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        report.memtype_records = [{"text": item.name}]
        # No table is drawn of those.
        report.memtype_reproduces = True
    return report
"""


def test_ten_other_runs_do_not_remove_the_folder_of_this_one(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(RECORDING)
    pytester.makepyfile(
        """
        from pytest_memtype.run.folder import new_run

        def test_one(): ...

        def test_while_others_run(request):
            for second in range(11):
                new_run(request.config.rootpath / ".memtype", f"20991123-0407{second:02}-1")

        def test_three(): ...
        """
    )
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "0")
    done.assert_outcomes(passed=3)
    (records,) = (pytester.path / ".memtype" / "runs").glob("*/records.jsonl")
    assert len(records.read_text().splitlines()) == 3, done.stdout.str()


def test_the_folder_of_all_runs_is_where_pytest_was_started(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(RECORDING)
    pytester.makepyfile(
        """
        import os

        def test_that_goes_elsewhere(tmp_path):
            os.chdir(tmp_path)

        def test_there(): ...
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "0", "--memtype-dir=out")
    (records,) = pytester.path.glob("out/runs/*/records.jsonl")
    assert len(records.read_text().splitlines()) == 2
