"""The guests that tests get: one for several tests, and one with a distribution."""

from __future__ import annotations

import re

import pytest
from memtype_support.inner_pytest import run


def test_a_shared_guest_is_booted_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        pids = set()
        @pytest.mark.parametrize("n", range(3))
        def test_it(guest, n):
            pids.add(guest.machine.process.pid)
            assert len(pids) == 1
        """
    )
    run(pytester, "--shared-guest").assert_outcomes(passed=3)


def test_a_test_is_skipped_for_an_option_of_the_kernel(pytester: pytest.Pytester) -> None:
    """No guest is started for it: there is no such CPU."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.hardware(cpu="none-that-exists", cpus=2)
        @pytest.mark.needs_config("NO_SUCH", "EFI", "NOR_THIS")
        def test_it(guest): raise AssertionError

        @pytest.mark.needs_config("EFI", "DEBUG_FS")
        def test_with_what_it_needs(guest): pass
        """
    )
    result = run(pytester, "--kernel", "debian:bookworm", "-rs")
    result.assert_outcomes(skipped=1, passed=1)
    reason = "the test needs CONFIG_NO_SUCH=y, CONFIG_NOR_THIS=y; kernel 'debian:bookworm' was built without"
    result.stdout.fnmatch_lines([f"SKIPPED*{reason}"])


def test_distribution_is_skipped_on_the_minimal_guest_or_has_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.distribution
        def test_any(guest): raise AssertionError

        @pytest.mark.distribution("debian:trixie")
        def test_named(guest): ...

        def test_ssh(guest):
            with pytest.raises(Exception, match="wants a guest with a distribution; use --guest"):
                guest.ssh()
        """
    )
    result = run(pytester, "--kernel", "debian:bookworm", "-k", "any or ssh", "-rs")
    result.assert_outcomes(skipped=1, passed=1, deselected=1)
    result.stdout.fnmatch_lines(["SKIPPED*it wants a guest with a distribution, such as --guest debian:*"])
    listed = run(pytester, "--collect-only", "-q", "-k", "named").stdout
    listed.re_match_lines([r".*test_named\[own@trixie\]"])
    elsewhere = run(pytester, "--collect-only", "-q", "-k", "named", "--guest", "debian:bookworm").stdout
    elsewhere.re_match_lines([r".*test_named\[own@bookworm\]"])


def test_no_guest_is_started_ahead_for_a_test_that_gets_none(pytester: pytest.Pytester) -> None:
    """Its template would be made for nobody, and the end of the run would wait for that."""
    pytester.makeconftest(
        """
        from pytest_memtype.run.session import Session

        def expect(session, kind, *, logs):
            print("ahead for", logs.parent.name)

        Session.expect = expect
        """
    )
    left_out = [
        "distribution",
        "skip",
        "skipif(True, reason='so')",
        "xfail(run=False)",
        "needs_config('NO_SUCH')",
    ]
    tests = [("first", "usefixtures()"), *zip("abcde", left_out, strict=True), ("last", "skipif('False')")]
    # In turn with tests that have a guest: each of those looks at the next.
    pytester.makepyfile(
        "import pytest\n"
        + "".join(
            f"@pytest.mark.{mark}\ndef test_{name}(guest): ...\ndef test_behind_{name}(guest): ...\n"
            for name, mark in tests
        )
    )
    result = run(pytester, "-n", "0", "-s", "-p", "no:random_order", "--kernel", "debian:bookworm")
    result.assert_outcomes(passed=9, skipped=4, xfailed=1)
    names = re.findall(r"ahead for .*(test_[a-z]+(?:_[a-z]+)?)-debian", result.stdout.str())
    # What is left out looks for nobody.
    assert names == ["test_behind_first", "test_last", "test_behind_last"]


def test_pytest_comes_back_to_a_module_for_another_kernel(pytester: pytest.Pytester) -> None:
    """All modules with the first kernel, then all with the second: the guests' logs don't meet."""
    module = """
        import pytest

        pytestmark = pytest.mark.shared_guest

        def test_fails(guest):
            assert guest.mmio(pages=1).pages == 2
    """
    pytester.makepyfile(test_one=module, test_other=module)
    result = run(pytester, "-n", "0", "--kernel", "debian:bookworm", "--kernel", "debian:bullseye")
    result.assert_outcomes(failed=4)
    logs = [*(pytester.path / ".memtype").glob("runs/*/*/guest-1/console.log")]
    assert len(logs) == 4
    releases = [b"Linux version 5.10" in log.read_bytes() for log in logs]
    assert sorted(releases) == [False, False, True, True]


def test_a_guest_that_is_asked_for_by_name_alone_is_refused_in_one_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(request): request.getfixturevalue('guest')")
    done = run(pytester)
    done.assert_outcomes(failed=1)
    output = done.stdout.str()
    assert "UsageError: a test that asks for its guest by getfixturevalue() is made for no kernel" in output
    assert "AttributeError" not in output


FULL = """
import errno
import pytest
from pytest_memtype.plugin.fixtures import GUESTS
from pytest_memtype.run.session import GuestsOfTest

def full(guests, test):
    raise OSError(errno.ENOSPC, "No space left on device")

GuestsOfTest.count = full
machines = []

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item):
    machines.extend(each.guest.machine for each in item.stash[GUESTS].guests)

def pytest_sessionfinish():
    assert [each.alive for each in machines] == [False]
"""


def test_a_guest_whose_counters_can_not_be_written_is_ended(pytester: pytest.Pytester) -> None:
    """All of them would run until the run ends."""
    pytester.makeconftest(FULL)
    pytester.makepyfile("def test_it(guest): ...")
    done = run(pytester)
    done.assert_outcomes(passed=1, errors=1)
    assert "INTERNALERROR" not in done.stdout.str() + done.stderr.str()
