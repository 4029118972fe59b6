import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from memtype_support.stub_mmdebstrap import StubMmdebstrap

from pytest_memtype.errors import HostError, KernelError
from pytest_memtype.host.progress import silent
from pytest_memtype.host.store import build_dir, exclusive
from pytest_memtype.kernels import index
from pytest_memtype.kernels.index import Index, Kernel, choose, newest_of_each_series, parse
from pytest_memtype.kernels.sources import AptSources
from pytest_memtype.kernels.spec import SUITES, DebianSpec

# In the shape of Debian's own: bookworm-security has bookworm's 6.1 and a backport of trixie's 6.12.
BOOKWORM = """\
Package: linux-image-cloud-amd64
Source: linux-signed-amd64 (6.1.176+1)
Version: 6.1.176-1
Architecture: amd64
Depends: linux-image-6.1.0-50-cloud-amd64 (= 6.1.176-1)
Description: Linux for x86-64 cloud (meta-package)

Package: linux-image-6.1.0-50-cloud-amd64
Source: linux-signed-amd64 (6.1.176+1)
Version: 6.1.176-1
Architecture: amd64
Depends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool

Package: linux-image-6.1.0-50-cloud-amd64-unsigned
Source: linux
Version: 6.1.176-1
Architecture: amd64

Package: linux-image-6.1.0-50-cloud-amd64-dbg
Source: linux
Version: 6.1.176-1
Architecture: amd64

Package: linux-headers-6.1.0-50-cloud-amd64
Source: linux
Version: 6.1.176-1
Architecture: amd64
Depends: linux-headers-6.1.0-50-common (= 6.1.176-1), linux-compiler-gcc-12-x86

Package: linux-image-cloud-amd64
Source: linux-signed-amd64 (6.1.192+2)
Version: 6.1.192-2
Architecture: amd64
Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)

Package: linux-image-6.1.0-56-cloud-amd64
Source: linux-signed-amd64 (6.1.192+2)
Version: 6.1.192-2
Architecture: amd64

Package: linux-headers-6.1.0-56-cloud-amd64
Source: linux
Version: 6.1.192-2
Architecture: amd64

Package: linux-image-6.1.0-56-rt-amd64
Source: linux-signed-amd64 (6.1.192+2)
Version: 6.1.192-2
Architecture: amd64

Package: linux-headers-6.1.0-56-rt-amd64
Source: linux
Version: 6.1.192-2
Architecture: amd64

Package: linux-image-6.1.0-49-cloud-amd64
Source: linux-signed-amd64 (6.1.174+1)
Version: 6.1.174-1
Architecture: amd64

Package: linux-image-6.12-cloud-amd64
Source: linux-signed-6.12-amd64 (6.12.117+1~deb12u1)
Version: 6.12.117-1~deb12u1
Architecture: amd64
Depends: linux-image-6.12.117+deb12-cloud-amd64 (= 6.12.117-1~deb12u1)

Package: linux-image-6.12.117+deb12-cloud-amd64
Source: linux-signed-6.12-amd64 (6.12.117+1~deb12u1)
Version: 6.12.117-1~deb12u1
Architecture: amd64

Package: linux-headers-6.12.117+deb12-cloud-amd64
Source: linux-6.12
Version: 6.12.117-1~deb12u1
Architecture: amd64
"""
# From 6.19 on linux-image-X is empty and depends on linux-binary-X.
BACKPORTS = """\
Package: linux-image-cloud-amd64
Version: 7.3.4-1~bpo13+1
Architecture: amd64
Depends: linux-base-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-image-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)

Package: linux-image-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Architecture: amd64
Depends: linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)

Package: linux-binary-unsigned-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Architecture: amd64

Package: linux-binary-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Architecture: amd64

Package: linux-headers-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Architecture: amd64

Package: linux-binary-unsigned-7.3.9+deb13-cloud-amd64
Version: 7.3.9-1~bpo13+1
Architecture: amd64

Package: linux-headers-7.3.9+deb13-cloud-amd64
Version: 7.3.9-1~bpo13+1
Architecture: amd64
"""


def read(text: str, suite: str) -> Index:
    return parse(text.splitlines(keepends=True), suite=suite)


@pytest.fixture
def indexes() -> dict[str, Index]:
    return {"bookworm": read(BOOKWORM, "bookworm"), "trixie-backports": read(BACKPORTS, "trixie-backports")}


def test_kernels_are_those_with_an_image(indexes: dict[str, Index]) -> None:
    headers = {kernel.release: kernel.headers for kernel in indexes["bookworm"].kernels}
    assert headers == {
        "6.1.0-49-cloud-amd64": False,
        "6.1.0-50-cloud-amd64": True,
        "6.1.0-56-cloud-amd64": True,
        "6.1.0-56-rt-amd64": True,
        "6.12.117+deb12-cloud-amd64": True,
    }


def test_an_index_without_kernels_is_empty() -> None:
    assert parse([], suite="bookworm") == Index(newest=None, kernels=())


def test_a_signed_image_is_preferred_to_an_unsigned_one(indexes: dict[str, Index]) -> None:
    images = {kernel.release: kernel.image for index in indexes.values() for kernel in index.kernels}
    assert images["6.1.0-50-cloud-amd64"] == "linux-image-6.1.0-50-cloud-amd64"
    assert images["7.3.4+deb13-cloud-amd64"] == "linux-binary-7.3.4+deb13-cloud-amd64"
    assert images["7.3.9+deb13-cloud-amd64"] == "linux-binary-unsigned-7.3.9+deb13-cloud-amd64"


def test_the_newest_of_a_suite_is_its_own_and_not_a_backport_it_carries(indexes: dict[str, Index]) -> None:
    chosen = choose(DebianSpec("debian:bookworm", suite="bookworm"), indexes)
    assert chosen == Kernel(
        release="6.1.0-56-cloud-amd64",
        version="6.1.192-2",
        suite="bookworm",
        image="linux-image-6.1.0-56-cloud-amd64",
    )
    assert chosen.series == "6.1"


def test_the_newest_of_a_series_is_a_cloud_kernel(indexes: dict[str, Index]) -> None:
    assert choose(DebianSpec("", series="6.1"), indexes).release == "6.1.0-56-cloud-amd64"
    assert choose(DebianSpec("", series="6.12"), indexes).release == "6.12.117+deb12-cloud-amd64"
    assert choose(DebianSpec("", series="7.3"), indexes).suite == "trixie-backports"


def test_versions_are_compared_as_debian_does() -> None:
    # deb-version(7): "~" sorts before the end of a part, and 10 after 9.
    older = Kernel("6.12.9+deb12-cloud-amd64", "6.12.9-1~deb12u1", "bookworm", "a")
    same = Kernel("6.12.9+deb13-cloud-amd64", "6.12.9-1", "trixie", "b")
    newer = Kernel("6.12.10+deb13-cloud-amd64", "6.12.10-1", "trixie", "c")
    spec = DebianSpec("", series="6.12")
    assert choose(spec, {"x": Index(None, (same, older))}) is same
    assert choose(spec, {"x": Index(None, (newer, same, older))}) is newer


def test_a_release_that_is_gone_names_the_nearest(indexes: dict[str, Index]) -> None:
    with pytest.raises(KernelError) as caught:
        choose(DebianSpec("debian:6.1.0-52-cloud-amd64", release="6.1.0-52-cloud-amd64"), indexes)
    assert caught.value.message == (
        "kernel 'debian:6.1.0-52-cloud-amd64': not in Debian's archive; nearest are "
        "debian:6.1.0-49-cloud-amd64, debian:6.1.0-50-cloud-amd64, debian:6.1.0-56-cloud-amd64, "
        "debian:6.12.117+deb12-cloud-amd64, debian:7.3.4+deb13-cloud-amd64"
    )


def test_a_series_that_is_gone_names_the_nearest(indexes: dict[str, Index]) -> None:
    with pytest.raises(KernelError, match=r"nearest are debian:6\.1, debian:6\.12, debian:7\.3$"):
        choose(DebianSpec("debian:6.6", series="6.6"), indexes)


def test_a_suite_without_a_cloud_kernel() -> None:
    with pytest.raises(KernelError, match="no cloud kernel at present"):
        choose(DebianSpec("debian:sid", suite="sid"), {"sid": Index(newest=None, kernels=())})


def test_experimental_has_releases_of_two_numbers() -> None:
    text = """\
Package: linux-image-7.3-cloud-amd64
Version: 7.3~rc7-1~exp1
Depends: linux-binary-7.3-cloud-amd64 (= 7.3~rc7-1~exp1)

Package: linux-binary-7.3-cloud-amd64
Version: 7.3~rc7-1~exp1

Package: linux-headers-7.3-cloud-amd64
Version: 7.3~rc7-1~exp1
"""
    (kernel,) = read(text, "experimental").kernels
    assert (kernel.release, kernel.image) == ("7.3-cloud-amd64", "linux-binary-7.3-cloud-amd64")
    assert kernel.series == "7.3"


def test_the_newest_of_each_series(indexes: dict[str, Index]) -> None:
    kernels = [kernel for index in indexes.values() for kernel in index.kernels if kernel.cloud]
    assert [kernel.release for kernel in newest_of_each_series(kernels)] == [
        "6.1.0-56-cloud-amd64",
        "6.12.117+deb12-cloud-amd64",
        "7.3.9+deb13-cloud-amd64",
    ]


@pytest.mark.parametrize(("age", "used"), [(0, True), (23 * 3600, True), (25 * 3600, False), (-3600, False)])
def test_a_kept_index_is_used_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: int, used: bool
) -> None:
    kernel = Kernel("6.1.0-56-cloud-amd64", "6.1.192-2", "bookworm", "linux-image-6.1.0-56-cloud-amd64")
    kept = {"fetched": time.time() - age, "newest": kernel.release, "kernels": [asdict(kernel)]}
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "bookworm.2.json").write_text(json.dumps(kept))
    refreshed: list[str] = []
    monkeypatch.setattr(index, "_refresh", lambda _cache, suite, _place, **_: refreshed.append(suite))
    spec = DebianSpec("debian:bookworm", suite="bookworm")
    assert index.find(spec, cache=tmp_path, progress=silent) == kernel
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

    monkeypatch.setattr(index, "_refresh", refresh)
    spec = DebianSpec("debian:bookworm", suite="bookworm")
    assert index.find(spec, cache=tmp_path, progress=silent) == kernel


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

    def unpack(_sources: AptSources, root: Path, **_options: object) -> None:
        (root / "kernels").mkdir(parents=True)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(index, "unpack", unpack)
    assert index.indexes(["bookworm"], cache=tmp_path, progress=silent) == {"bookworm": Index(None, ())}
    (file,) = (tmp_path / "index").iterdir()
    assert file.stat().st_ino in flushed


@pytest.mark.timeout(60)
@pytest.mark.parametrize("suites", [["bookworm"], ["bookworm", "trixie"]])
def test_a_cache_that_can_not_be_worked_in_is_told_and_not_waited_for(
    tmp_path: Path, suites: list[str]
) -> None:
    (tmp_path / "work").write_text("")
    with pytest.raises(HostError) as caught:
        index.indexes(suites, cache=tmp_path, progress=silent)
    assert caught.value.message.startswith(f"{tmp_path / 'work'}")
    assert "MEMTYPE_CACHE" in caught.value.message
    assert "\n" not in caught.value.message


READS = """
import sys
from pathlib import Path
from pytest_memtype.kernels.index import indexes
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
    assert len(stub.calls) <= 4
    assert not any(Path(f"/proc/{pid}").exists() for pid in stub.calls)


@pytest.mark.timeout(60)
def test_ctrl_c_ends_the_wait_for_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = tmp_path / "began"
    stub = StubMmdebstrap(tmp_path / "bin", monkeypatch)
    place = build_dir(tmp_path, f"index-{SUITES[0]}")
    with exclusive(place, silent):
        interrupted(tmp_path, began)
    assert stub.calls == []
