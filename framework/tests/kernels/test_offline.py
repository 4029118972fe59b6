"""Without a network: what the cache has is used, one line tells how old it is, and nothing is asked twice.

A stub stands for mmdebstrap and counts how often a mirror was asked.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from memtype_support.small_indexes import DAY, fill_with_indexes, pretend_kit, small_kernel
from memtype_support.stub_mmdebstrap import NO_SUITE, SILENT, UNREACHABLE, StubMmdebstrap

from pytest_memtype.cli import main
from pytest_memtype.errors import KernelError, Unreachable
from pytest_memtype.host.progress import silent
from pytest_memtype.host.resources import guest_sources
from pytest_memtype.kernels import mirror, mmdebstrap
from pytest_memtype.kernels.bundle import bundle, bundle_path, find_kernel, resolve, source_hash
from pytest_memtype.kernels.fetch import kit_path, note_kernel
from pytest_memtype.kernels.firmware import flash
from pytest_memtype.kernels.kept_indexes import age_text, indexes
from pytest_memtype.kernels.offline import readiness
from pytest_memtype.kernels.spec import SUITES, parse
from pytest_memtype.run.variants import all_variants

KERNEL = "6.1.0-56-cloud-amd64"
SPEC = f"debian:{KERNEL}"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with indexes that are three days old."""
    folder = tmp_path / "cache"
    fill_with_indexes(folder, age=3 * DAY)
    monkeypatch.setenv("MEMTYPE_CACHE", str(folder))
    monkeypatch.delenv(mirror.VARIABLE, raising=False)
    mirror.forget()
    return folder


@pytest.fixture
def unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubMmdebstrap:
    return StubMmdebstrap(tmp_path / "bin", monkeypatch, UNREACHABLE)


def pretend_bundle(cache: Path, release: str, *, sources: str | None = None) -> Path:
    kernel = small_kernel(release)
    folder = bundle_path(kernel, source_hash(guest_sources()) if sources is None else sources, cache=cache)
    folder.mkdir(parents=True)
    note_kernel(kernel, folder)
    return folder


@pytest.mark.parametrize("pretend", [pretend_kit, pretend_bundle])
def test_an_exact_kernel_of_the_cache_asks_nobody(
    cache: Path, unreachable: StubMmdebstrap, pretend: Callable[[Path, str], Path]
) -> None:
    pretend(cache, KERNEL)
    for path in (cache / "index").iterdir():
        path.unlink()
    said: list[str] = []
    assert resolve(SPEC, progress=said.append) == SPEC
    assert [each.name for each in all_variants([SPEC], None, progress=said.append)] == [SPEC]
    assert said == []
    assert unreachable.calls == []


def test_a_bundle_without_its_kit_is_enough(cache: Path, unreachable: StubMmdebstrap) -> None:
    folder = pretend_bundle(cache, KERNEL)
    assert bundle("debian:bookworm").directory == folder
    assert len(unreachable.calls) == 1


def test_a_newer_package_of_the_same_release_is_taken_where_it_is_known(cache: Path) -> None:
    """experimental's releases stay while their packages change."""
    old = replace(small_kernel("7.3-cloud-amd64"), version="7.3~rc6-1~exp1")
    kit = kit_path(old, cache=cache)
    (kit / "memtype").mkdir(parents=True)
    note_kernel(old, kit / "memtype")
    spec = parse("debian:7.3-cloud-amd64")

    def found() -> str:
        kernel = find_kernel(spec, "", cache=cache, progress=silent)
        return getattr(kernel, "version", "")

    assert found() == "7.3~rc6-1~exp1"
    fill_with_indexes(cache)
    assert found() == "7.3~rc7-1~exp1"
    mirror.stay_offline()
    assert found() == "7.3~rc6-1~exp1"


@pytest.mark.parametrize(
    ("specs", "line"),
    [
        (["debian:bookworm"], "Debian's index of bookworm is 3 days old"),
        (["debian:6.1"], "Debian's indexes are 3 days old"),
        (["set:lts"], "Debian's indexes are 3 days old"),
        (["debian:bookworm", "debian:trixie", "set:default"], "Debian's indexes are 3 days old"),
    ],
)
def test_an_unreachable_mirror_is_asked_once_and_told_once(
    unreachable: StubMmdebstrap, specs: list[str], line: str
) -> None:
    said: list[str] = []
    with contextlib.suppress(Unreachable):
        all_variants(specs, None, progress=said.append)
    for spec in ("debian:sid", "debian:6.12"):
        resolve(spec, progress=said.append)
    assert said == [f"{line}; the Debian mirror can't be reached"]
    assert len(unreachable.calls) == 1
    # So does a worker of the same run that comes a little later.
    mirror.forget()
    resolve("debian:bookworm", progress=said.append)
    assert len(unreachable.calls) == 1


def test_offline_never_asks(cache: Path, unreachable: StubMmdebstrap) -> None:
    fill_with_indexes(cache, age=5 * 3600, suites=["trixie"])
    mirror.stay_offline()
    said: list[str] = []
    assert resolve("debian:bookworm", progress=said.append) == SPEC
    assert said == [
        "Debian's index of bookworm is 3 days old; the Debian mirror may not be asked (--offline)"
    ]
    mirror.forget()
    mirror.stay_offline()
    resolve("debian:6.1", progress=said.append)
    assert said[1] == (
        "Debian's indexes are up to 3 days old (bullseye, bookworm, bookworm-backports, trixie-backports, "
        "forky, sid, experimental); the Debian mirror may not be asked (--offline)"
    )
    assert unreachable.calls == []


def test_a_silent_mirror_is_given_up(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets that vanish: apt alone would wait for minutes, and longer for a name server."""
    monkeypatch.setattr(mmdebstrap, "_IMPATIENCE_SECONDS", 0.3)
    stub = StubMmdebstrap(tmp_path / "bin", monkeypatch, SILENT)
    said: list[str] = []
    found = indexes(SUITES, cache=cache, progress=said.append)
    assert list(found) == list(SUITES)
    assert said == ["Debian's indexes are 3 days old; the Debian mirror can't be reached"]
    (process,) = stub.calls
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert mmdebstrap._IMPATIENCE_SECONDS + mmdebstrap._ABANDON_SECONDS * 2 <= 10


def test_without_older_indexes_it_is_one_error(cache: Path, unreachable: StubMmdebstrap) -> None:
    for path in (cache / "index").iterdir():
        path.unlink()
    with pytest.raises(Unreachable, match="index of bullseye: the Debian mirror can't be reached; check"):
        resolve("debian:6.1")
    assert len(unreachable.calls) == 1
    with pytest.raises(Unreachable, match=r"^Debian's index of bookworm: not in the cache, and the Debian"):
        resolve("debian:bookworm")
    assert len(unreachable.calls) == 1


def test_a_suite_without_an_index_is_named(cache: Path, unreachable: StubMmdebstrap) -> None:
    for suite in ("forky", "sid"):
        (cache / "index" / f"{suite}.2.json").unlink()
    mirror.stay_offline()
    said: list[str] = []
    assert resolve("debian:6.1", progress=said.append) == "debian:6.1.0-57-cloud-amd64"
    assert "3 days old, and there is none of forky, sid; the Debian mirror" in said[0]
    with pytest.raises(KernelError, match="not in the indexes kept here, which are without forky, sid; near"):
        resolve("debian:7.4")
    assert unreachable.calls == []


def test_a_mirror_that_answers_badly_is_not_unreachable(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = StubMmdebstrap(tmp_path / "bin", monkeypatch, NO_SUITE)
    said: list[str] = []
    indexes(SUITES, cache=cache, progress=said.append)
    assert len(stub.calls) == len(SUITES)
    assert mirror.unasked() is None
    last = [line for line in said if not line.startswith("reading ")]
    assert len(last) == 1
    assert last[0].startswith("Debian's indexes are 3 days old; the mirror doesn't carry this suite")


def test_workers_ask_once(unreachable: StubMmdebstrap) -> None:
    """Two that come at the same time: one asks, the other waits for it and learns what came of it."""
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: resolve("debian:bookworm", progress=said.append), range(2)))
    assert len(unreachable.calls) == 1
    assert sum("3 days old" in line for line in said) == 1


@pytest.mark.parametrize("arguments", [["--offline"], []])
def test_a_set_of_which_kernels_are_missing_is_one_line(
    cache: Path, unreachable: StubMmdebstrap, arguments: list[str]
) -> None:
    pretend_kit(cache, "6.1.0-57-cloud-amd64")
    pretend_bundle(cache, "5.10.0-46-cloud-amd64")
    result = CliRunner().invoke(main, ["run", "--kernel", "set:lts", *arguments])
    assert result.exit_code == 3
    age, missing = result.stderr.splitlines()
    assert age.startswith("Debian's indexes are 3 days old; ")
    assert missing.startswith(
        "memtype: 9 of 11 kernels are not in the cache (debian:6.12.118+deb13-cloud-amd64,"
    )
    assert "memtype kernels fetch set:lts" in missing
    assert missing.endswith("or test those that the cache has (--kernel set:cached)")
    assert len(unreachable.calls) == (0 if arguments else 1)


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--offline"],
        ["run", "--offline", "--kernel", SPEC],
        ["run", "--observe", "--offline"],
        ["compare", "--kernel", "debian:bookworm", "--kernel", SPEC, "--offline"],
        ["layouts", "matrix", "--offline"],
        ["shell", "--offline"],
        ["bugs", "run", "--offline"],
    ],
)
def test_every_command_that_wants_a_kernel_takes_offline(
    unreachable: StubMmdebstrap, command: list[str]
) -> None:
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 3
    *_, last = result.stderr.splitlines()
    assert last.startswith(f"memtype: {SPEC} is not in the cache, and the Debian mirror may not be asked")
    assert unreachable.calls == []


def test_fetching_offline_says_what_is_missing(unreachable: StubMmdebstrap) -> None:
    result = CliRunner().invoke(main, ["kernels", "fetch", "--offline", SPEC])
    assert result.exit_code == 3
    assert f"memtype: kernel {KERNEL}: not in the cache, and the Debian mirror may not be" in result.stderr
    assert unreachable.calls == []


def test_a_bundle_of_other_sources_is_said_to_be_one(cache: Path) -> None:
    """Such as one that another version of pytest-memtype has built: the kit would have to be there."""
    pretend_bundle(cache, KERNEL, sources="other")
    mirror.stay_offline()
    with pytest.raises(
        Unreachable, match=f"kernel {KERNEL} as this version of pytest-memtype builds it: not"
    ):
        bundle("debian:bookworm")


def test_the_firmware_is_named(unreachable: StubMmdebstrap) -> None:
    mirror.stay_offline()
    with pytest.raises(Unreachable, match=r"^the firmware OVMF: not in the cache, and the Debian mirror may"):
        flash("ovmf")
    assert unreachable.calls == []


def test_readiness(cache: Path, unreachable: StubMmdebstrap) -> None:
    found = readiness(cache)
    assert (found.kernel, found.ready, found.kernels) == (KERNEL, False, 0)
    assert found.line() == f"no: the default kernel {KERNEL} is not in the cache; indexes up to 3 days old"
    pretend_kit(cache, KERNEL)
    assert (readiness(cache).built, readiness(cache).buildable) == (False, True)
    pretend_bundle(cache, KERNEL)
    for number, release in enumerate((KERNEL, KERNEL, "7.3-cloud-amd64")):
        folder = cache / "templates" / str(number) / "ready"
        folder.mkdir(parents=True)
        (folder / "template.json").write_text(json.dumps({"notes": {"greeting": {"release": release}}}))
    found = readiness(cache)
    assert (found.ready, found.built, found.templates, found.kernels) == (True, True, 2, 1)
    assert found.line().startswith(
        f"{KERNEL} built, 2 templates of it, 1 kernels in all, no OVMF, indexes up"
    )
    for path in (cache / "index").iterdir():
        path.unlink()
    assert readiness(cache).line() == "no: no index says which kernel is the default"
    assert unreachable.calls == []


def test_the_list_of_available_kernels_says_what_means_which(unreachable: StubMmdebstrap) -> None:
    result = CliRunner().invoke(main, ["kernels", "list", "--available", "--offline"])
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if " " in line.strip()}
    assert rows[SPEC].split()[3:] == ["yes", "yes", "debian:bookworm"]
    assert rows["debian:6.1.0-57-cloud-amd64"].split()[3:] == ["yes", "not", "yet", "debian:6.1"]
    assert "signed or not yet. The two may differ for days." in result.stdout
    assert unreachable.calls == []


PLAIN = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_it(memtype_kernel, number): ...
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_plain_run_of_pytest_says_one_line(
    pytester: pytest.Pytester, cache: Path, unreachable: StubMmdebstrap, workers: str
) -> None:
    pretend_kit(cache, KERNEL)
    pytester.makepyfile(PLAIN)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", workers)
    result.assert_outcomes(passed=4)
    assert len(unreachable.calls) == 1
    said = [line for line in result.outlines if "3 days old" in line]
    assert said == ["memtype: Debian's index of bookworm is 3 days old; the Debian mirror can't be reached"]
    for option in ("--offline", "--kernel=" + SPEC):
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", workers, option)
        result.assert_outcomes(passed=4)
    assert len(unreachable.calls) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3 * DAY + 5, "3 days old"),
        (DAY, "1 day old"),
        (DAY - 1, "23 hours old"),
        (3600, "1 hour old"),
        (120, "2 minutes old"),
        (0, "seconds old"),
        (-5, "from the future by this host's clock"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (3 * DAY, "indexes up to 3 days old"),
        (0.0, "indexes up to seconds old"),
        (-DAY, "indexes from the future by this host's clock"),
    ],
)
def test_the_age_of_indexes_is_a_sentence(cache: Path, age: float, text: str) -> None:
    fill_with_indexes(cache, age=age)
    assert readiness(cache).line().endswith(text)
