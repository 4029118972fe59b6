"""The indexes that the cache keeps: their age, mirrors that fail, several readers at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from memtype_support.stub_mmdebstrap import NO_SUITE, NO_VERSION, UNREACHABLE, StubMmdebstrap

from pytest_memtype.errors import HostError, KernelError
from pytest_memtype.host.progress import silent
from pytest_memtype.host.store import build_dir, exclusive
from pytest_memtype.kernels import kept_indexes, mirror
from pytest_memtype.kernels.dropped import note_dropped
from pytest_memtype.kernels.index import Index, Kernel
from pytest_memtype.kernels.kept_indexes import encode
from pytest_memtype.kernels.mmdebstrap import unpack
from pytest_memtype.kernels.sources import AptSources, Archive
from pytest_memtype.kernels.spec import SUITES, DebianSpec

RELEASE = "6.1.0-56-cloud-amd64"
INDEX = Index(None, (Kernel(RELEASE, "6.1.192-2", "bookworm", f"linux-image-{RELEASE}", headers=False),))


@pytest.mark.parametrize(("age", "used"), [(0, True), (23 * 3600, True), (25 * 3600, False), (-3600, False)])
def test_a_kept_index_is_used_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: int, used: bool
) -> None:
    kernel = Kernel("6.1.0-56-cloud-amd64", "6.1.192-2", "bookworm", "linux-image-6.1.0-56-cloud-amd64")
    kept = {"fetched": time.time() - age, "newest": kernel.release, "kernels": [asdict(kernel)]}
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "bookworm.2.json").write_text(json.dumps(kept))
    refreshed: list[str] = []
    monkeypatch.setattr(kept_indexes, "_refresh", lambda _cache, suite, _place, **_: refreshed.append(suite))
    spec = DebianSpec("debian:bookworm", suite="bookworm")
    assert kept_indexes.find(spec, cache=tmp_path, progress=silent) == kernel
    assert refreshed == ([] if used else ["bookworm"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"fetched": 1, "kern',
        "\udcff",
        "[" * 100_000,
        "[]",
        "{}",
        f'{{"fetched": {"9" * 400}, "newest": null, "kernels": []}}',
        '{"fetched": -Infinity, "newest": null, "kernels": []}',
        '{"fetched": "now", "newest": null, "kernels": []}',
        '{"fetched": 0, "kernels": []}',
        '{"fetched": 0, "newest": null, "kernels": [{"release": "6.1"}]}',
    ],
)
def test_a_damaged_index_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    kernel = Kernel("6.1.0-56-cloud-amd64", "6.1.192-2", "bookworm", "linux-image-6.1.0-56-cloud-amd64")
    path = tmp_path / "index" / "bookworm.2.json"
    path.parent.mkdir()
    path.write_text(text, errors="surrogateescape")

    def refresh(_cache: Path, _suite: str, _place: Path, **_: object) -> None:
        path.write_text(
            json.dumps({"fetched": time.time(), "newest": kernel.release, "kernels": [asdict(kernel)]})
        )

    monkeypatch.setattr(kept_indexes, "_refresh", refresh)
    spec = DebianSpec("debian:bookworm", suite="bookworm")
    assert kept_indexes.find(spec, cache=tmp_path, progress=silent) == kernel


@pytest.mark.parametrize(
    ("script", "suite", "read_anew"),
    [
        (NO_VERSION, "bookworm", True),
        (NO_VERSION, "trixie", False),
        (NO_SUITE, "bookworm", False),
        (f'echo "E: Unable to locate package x"; {UNREACHABLE}', "bookworm", False),
    ],
)
def test_an_index_that_names_what_the_mirror_has_dropped_is_read_anew_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, suite: str, read_anew: bool
) -> None:
    """Else a kernel can't be had from its suite for a day, each time that Debian has a new one."""
    path = kept_indexes.path_of(tmp_path, "bookworm")
    path.parent.mkdir()
    path.write_bytes(encode(INDEX, fetched=time.time() - 3600))
    refreshed: list[str] = []

    def refresh(_cache: Path, suite: str, _place: Path, **_: object) -> None:
        refreshed.append(suite)
        path.write_bytes(encode(INDEX, fetched=time.time()))

    StubMmdebstrap(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(KernelError):
        unpack(AptSources(suite, suite), tmp_path / "root", hook="", what="kernel x", cache=tmp_path)
    mirror.forget()
    monkeypatch.setattr(kept_indexes, "_refresh", refresh)
    for _ in range(2):
        assert kept_indexes.indexes(["bookworm"], cache=tmp_path, progress=silent) == {"bookworm": INDEX}
    assert refreshed == ["bookworm"] * read_anew


def test_a_note_from_the_future_makes_no_index_stale(tmp_path: Path) -> None:
    """As a clock that was set back leaves it."""
    path = kept_indexes.path_of(tmp_path, "bookworm")
    path.parent.mkdir()
    path.write_bytes(encode(INDEX, fetched=time.time()))
    note_dropped("bookworm", cache=tmp_path)
    (note,) = path.parent.glob("*.dropped")
    os.utime(note, (time.time() + 3600,) * 2)
    assert kept_indexes.listed(RELEASE, cache=tmp_path) == list(INDEX.kernels)
    os.utime(note, (time.time(),) * 2)
    assert kept_indexes.listed(RELEASE, cache=tmp_path) == []


def test_an_index_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a crash of the host leaves an empty file under that name."""
    flushed: set[int] = set()
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        assert not (tmp_path / "index").exists()
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(kept_indexes, "unpack", unpacked_as("bookworm"))
    monkeypatch.setattr(kept_indexes, "sources_of", lambda suite: AptSources(suite, suite))
    assert kept_indexes.indexes(["bookworm"], cache=tmp_path, progress=silent) == {"bookworm": INDEX}
    (file,) = (tmp_path / "index").iterdir()
    assert file.stat().st_ino in flushed


def unpacked_as(release: str) -> Callable[..., None]:
    """A mmdebstrap that finds a kernel in the archive of a name."""

    def unpack(_sources: AptSources, root: Path, **_options: object) -> None:
        (root / "kernels").mkdir(parents=True)
        stanza = f"Package: linux-image-{RELEASE}\nVersion: 6.1.192-2\nMaintainer: Ren\u00e9\n\n"
        (root / "kernels" / release).write_bytes(
            stanza.encode() + b"Package: x\nVersion: 1\nMaintainer: Ren\xe9\n"
        )

    return unpack


@pytest.mark.parametrize("name", ["bookworm", "oldstable"])
def test_kernels_are_read_by_the_name_that_the_host_has_for_a_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    archives = {"bookworm": Archive("http://mirror.invalid/debian/", name)}
    monkeypatch.setattr(kept_indexes, "sources_of", lambda suite: AptSources(suite, suite, archives))
    monkeypatch.setattr(kept_indexes, "unpack", unpacked_as(name))
    assert kept_indexes.indexes(["bookworm"], cache=tmp_path, progress=silent) == {"bookworm": INDEX}


def test_an_index_without_any_kernel_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bases = {"bookworm": "bookworm", "bookworm-backports": "bookworm"}
    monkeypatch.setattr(kept_indexes, "sources_of", lambda suite: AptSources(suite, bases[suite]))
    monkeypatch.setattr(kept_indexes, "unpack", unpacked_as("some-other-name"))
    with pytest.raises(KernelError, match="index of bookworm: apt has read it, and there is no kernel in it"):
        kept_indexes.indexes(["bookworm"], cache=tmp_path, progress=silent)
    assert not (tmp_path / "index").exists()
    # Backports of a new suite may have none.
    found = kept_indexes.indexes(["bookworm-backports"], cache=tmp_path, progress=silent)
    assert found == {"bookworm-backports": Index(None, ())}


@pytest.mark.parametrize(("suite", "read_anew"), [("trixie", True), ("trixie-backports", False)])
def test_a_kept_index_without_any_kernel_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suite: str, read_anew: bool
) -> None:
    """Earlier versions kept such."""
    (tmp_path / "index").mkdir()
    kept_indexes.path_of(tmp_path, suite).write_bytes(encode(Index(None, ()), fetched=time.time()))
    refreshed: list[str] = []
    monkeypatch.setattr(kept_indexes, "_refresh", lambda _cache, suite, _place, **_: refreshed.append(suite))
    if read_anew:
        with pytest.raises(KernelError, match="index of trixie: not in the cache"):
            kept_indexes.indexes([suite], cache=tmp_path, progress=silent)
    else:
        kept_indexes.indexes([suite], cache=tmp_path, progress=silent)
    assert refreshed == [suite] * read_anew


def test_a_mirror_without_a_kernel_is_asked_once_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def unpack(sources: AptSources, root: Path, **_options: object) -> None:
        asked.append(sources.lines[0])
        (root / "kernels").mkdir(parents=True)

    def ask(mirror: str) -> None:
        archives = {"bookworm": Archive(mirror, "bookworm")}
        monkeypatch.setattr(kept_indexes, "sources_of", lambda suite: AptSources(suite, suite, archives))
        with pytest.raises(KernelError, match=r"there is no kernel in it; check the mirror, .* once an hour"):
            kept_indexes.indexes(["bookworm"], cache=tmp_path, progress=silent)

    monkeypatch.setattr(kept_indexes, "unpack", unpack)
    ask("http://one.example.org")
    ask("http://one.example.org")
    assert len(asked) == 1
    # The user has mended the list of mirrors.
    ask("http://two.example.org")
    assert len(asked) == 2
    note = build_dir(tmp_path, "index-bookworm") / kept_indexes._REFUSED
    os.utime(note, (time.time() - 3601,) * 2)
    ask("http://two.example.org")
    assert len(asked) == 3


@pytest.mark.timeout(60)
@pytest.mark.parametrize("suites", [["bookworm"], ["bookworm", "trixie"]])
def test_a_cache_that_can_not_be_worked_in_is_told_and_not_waited_for(
    tmp_path: Path, suites: list[str]
) -> None:
    (tmp_path / "work").write_text("")
    with pytest.raises(HostError) as caught:
        kept_indexes.indexes(suites, cache=tmp_path, progress=silent)
    assert caught.value.message.startswith(f"{tmp_path / 'work'}")
    assert "MEMTYPE_CACHE" in caught.value.message
    assert "\n" not in caught.value.message


READS = """
import sys
from pathlib import Path
from pytest_memtype.kernels.kept_indexes import indexes
from pytest_memtype.kernels.spec import SUITES
cache = Path(sys.argv[1])
indexes(SUITES, cache=cache, progress=lambda _: (cache / "began").touch())
"""
#: As a mirror that answers, and then sends nothing more.
ANSWERS_ONCE = """
for target; do [ "$target" = "${target#/}" ] || lists=$target/var/lib/apt/lists/partial; done
mkdir -p "$lists"; echo Origin: Debian >"$lists/InRelease"
exec sleep 3600
"""


def interrupted(cache: Path, began: Path) -> int:
    """The status of a process that reads all indexes and gets Ctrl-C when a file is there."""
    command = [sys.executable, "-c", READS, str(cache)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as reading:
        while not began.exists():
            assert reading.poll() is None
        reading.send_signal(signal.SIGINT)
        try:
            # As long as a test may take, and no measure of anything: it took half an hour.
            _, said = reading.communicate(timeout=50)
        finally:
            reading.kill()
    assert b"KeyboardInterrupt" in said, said
    return reading.returncode


@pytest.mark.timeout(60)
def test_ctrl_c_ends_the_reading_of_indexes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = StubMmdebstrap(tmp_path / "bin", monkeypatch, ANSWERS_ONCE)
    interrupted(tmp_path, tmp_path / "bin" / "calls")
    # Those that waited for their turn were never started, and those that ran are gone.
    assert 1 <= len(stub.calls) <= 4
    assert not any(Path(f"/proc/{pid}").exists() for pid in stub.calls)


@pytest.mark.timeout(60)
def test_ctrl_c_ends_the_wait_for_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = tmp_path / "began"
    stub = StubMmdebstrap(tmp_path / "bin", monkeypatch)
    place = build_dir(tmp_path, f"index-{SUITES[0]}")
    with exclusive(place, silent):
        interrupted(tmp_path, began)
    assert stub.calls == []
