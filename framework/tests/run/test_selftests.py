"""The kernel's own tests, built from its newest sources and run in a real guest."""

from __future__ import annotations

import json

from click.testing import CliRunner

from pytest_memtype.cli import main


def test_the_kernels_own_tests_pass_on_its_own_kernel() -> None:
    done = CliRunner().invoke(main, ["selftests", "--json", "--kernel", "debian:bookworm"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["source"].startswith("linux-source-")
    (kernel,) = answer["kernels"]
    found = {(each["run"], each["test"]): each["result"] for each in kernel["results"]}
    # Linux 6.1 keeps each of these; mm/pfnmap.c lists them.
    names = ("madvise_disallowed", "munmap_split", "mremap_fixed", "mremap_shrink", "mremap_expand", "fork")
    for run in ("pfnmap BAR", "pfnmap BAR, wc"):
        for name in names:
            assert found[run, f"pfnmap.{name}"] == "ok"
    assert found["test_mremap_vdso", "main"] == "ok"
    (cpa,) = (each for each in kernel["results"] if each["run"] == "cpa-test")
    assert cpa["result"] == "skipped"
    assert "CONFIG_CPA_DEBUG" in cpa["reason"]


def test_a_test_that_fails_is_told_and_the_status_is_1() -> None:
    # mremap_dontunmap moves shared memory, which 5.13 brought: 5.10 refuses it.
    done = CliRunner().invoke(main, ["selftests", "--kernel", "debian:bullseye"])
    assert done.exit_code == 1, done.output
    (line,) = (line for line in done.stdout.splitlines() if " failed " in line and "mremap_dontunmap" in line)
    assert "after 4 of 5 tests" in done.stdout.replace("\n", " "), line
