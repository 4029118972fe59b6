"""Kernels in a file: what goes there and comes back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from memtype_support.carried_kernels import FILES, KERNEL, contents, memtype
from memtype_support.small_indexes import DAY, fill_with_indexes, small_kernel
from memtype_support.stub_mmdebstrap import StubMmdebstrap

from pytest_memtype.host.progress import silent
from pytest_memtype.host.resources import cache_directory, guest_sources
from pytest_memtype.host.store import build_dir, exclusive, seal
from pytest_memtype.kernels import carry, firmware, mirror
from pytest_memtype.kernels.bundle import bundle, resolve
from pytest_memtype.kernels.fetch import kit_path, note_kernel
from pytest_memtype.kernels.index import Index
from pytest_memtype.kernels.kept_indexes import encode, path_of, read_kept


def test_a_kernel_comes_back_as_it_was(there: Path, file: Path, here: Path) -> None:
    result = memtype("cache", "import", file)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == KERNEL
    assert "1 kernels, indexes of bookworm, trixie" in result.stdout
    bundles = {name: data for name, data in contents(there).items() if not name.startswith("kits/")}
    assert contents(here) == bundles
    (folder,) = (here / "bundles").iterdir()
    assert os.access(folder / "agent", os.X_OK)
    # The spec means the same, and nothing else is needed.
    mirror.stay_offline()
    assert bundle("debian:bookworm").directory == folder
    assert resolve(f"debian:{KERNEL}") == f"debian:{KERNEL}"


def test_a_second_import_is_no_error_and_changes_nothing(file: Path, here: Path) -> None:
    assert memtype("cache", "import", file).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*") if "work" not in path.parts}
    result = memtype("cache", "import", file)
    assert result.exit_code == 0
    assert f"{KERNEL}, which was there already" in result.stdout
    assert before == {path: path.stat().st_mtime_ns for path in here.rglob("*") if "work" not in path.parts}


@pytest.mark.parametrize(("age", "kept"), [(DAY, True), (3 * DAY, False)])
def test_the_newer_index_stays(file: Path, here: Path, age: float, kept: bool) -> None:
    fill_with_indexes(here, age=age, suites=["bookworm"])
    own = contents(here)["index/bookworm.2.json"]
    assert memtype("cache", "import", file).exit_code == 0
    assert (contents(here)["index/bookworm.2.json"] == own) == kept


def test_an_index_without_kernels_does_not_go_along(
    there: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions kept and exported such."""
    path = tmp_path / "kernels.tar.gz"
    path_of(there, "trixie").write_bytes(encode(Index(None, ()), fetched=time.time()))
    assert memtype("cache", "export", path, f"debian:{KERNEL}").stdout.count("trixie") == 0
    with monkeypatch.context() as context:
        context.setattr(carry, "kept_indexes", lambda *_: dict.fromkeys(("bookworm", "trixie")))
        assert "trixie" in memtype("cache", "export", path, f"debian:{KERNEL}").stdout
    monkeypatch.setenv("MEMTYPE_CACHE", str(here))
    fill_with_indexes(here, age=DAY, suites=["trixie"])
    own = path_of(here, "trixie").read_bytes()
    assert "indexes of bookworm" in memtype("cache", "import", path).stdout
    assert path_of(here, "trixie").read_bytes() == own


def test_an_index_takes_the_place_of_one_without_kernels(file: Path, here: Path) -> None:
    fill_with_indexes(here, age=DAY, suites=["trixie"])
    path_of(here, "trixie").write_bytes(encode(Index(None, ()), fetched=time.time()))
    assert "indexes of bookworm, trixie" in memtype("cache", "import", file).stdout
    assert read_kept(here, "trixie") is not None


def test_the_toolchain_goes_along_when_it_is_asked_for(
    there: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "all.tar.gz"
    assert memtype("cache", "export", path, f"debian:{KERNEL}", "--with-toolchain").exit_code == 0
    monkeypatch.setenv("MEMTYPE_CACHE", str(here))
    assert "1 with toolchain" in memtype("cache", "import", path).stdout
    assert contents(here) == contents(there)
    assert list((kit_path(small_kernel(KERNEL), cache=here) / "dev").iterdir()) == []
    kit = kit_path(small_kernel(KERNEL), cache=here)
    assert (kit / "usr" / "bin" / "gcc").readlink() == Path("gcc-12")
    assert (kit / "bin").readlink() == Path("/usr/bin")
    assert (kit / "usr" / "bin" / "cc").readlink() == Path("../../bin/gcc")
    assert (kit / "usr" / "lib" / "awk").readlink() == Path("/lib/../bin/mawk")
    # Nothing of a kit is run as another user.
    assert (kit / "usr" / "bin" / "gcc-12").stat().st_mode & 0o7777 == 0o755


def test_what_is_not_cached_is_one_line(there: Path, tmp_path: Path) -> None:
    path = tmp_path / "kernels.tar.gz"
    for spec, which in (("debian:trixie", "6.12.118"), ("debian:6.12.118+deb13-cloud-amd64", "")):
        result = memtype("cache", "export", path, spec)
        assert result.exit_code == 3
        last = result.stderr.splitlines()[-1]
        assert last.startswith(f"memtype: kernel {spec!r}: {which}")
        assert last.endswith(f"not in the cache, which has debian:{KERNEL}")
    assert not path.exists()
    assert memtype("cache", "export", tmp_path / "no" / "x", "set:cached").exit_code == 2
    assert not [each for each in tmp_path.iterdir() if each not in (there, tmp_path / "there")]


def test_what_another_version_put_beside_is_left_out(
    there: Path, file: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = (there / "bundles").iterdir()
    (folder / "of-a-later-version").write_text("{}")
    seal(folder)
    monkeypatch.setenv("MEMTYPE_CACHE", str(there))
    assert memtype("cache", "export", file, f"debian:{KERNEL}").exit_code == 0
    monkeypatch.setenv("MEMTYPE_CACHE", str(here))
    assert memtype("cache", "import", file).exit_code == 0
    names = {path.name for path in (here / "bundles" / folder.name).iterdir()}
    assert {*FILES, "kernel.json", "sums.json"} == names


def test_a_damaged_kernel_is_not_exported(there: Path, tmp_path: Path) -> None:
    """It would get a checksum that fits it on its way."""
    path = tmp_path / "kernels.tar.gz"
    assert memtype("cache", "export", path, f"debian:{KERNEL}").exit_code == 0
    path.unlink()
    (image,) = there.glob("bundles/*/image")
    image.write_bytes(bytes((image.read_bytes()[0] ^ 1, *image.read_bytes()[1:])))
    result = memtype("cache", "export", path, f"debian:{KERNEL}")
    assert result.exit_code == 3
    assert f"{image.parent} is damaged, and made again: image has changed since it was made" in result.stderr
    assert not path.exists()


def test_damaged_firmware_is_not_exported(there: Path, tmp_path: Path) -> None:
    folder = firmware._folder("ovmf", cache=there)
    folder.mkdir(parents=True)
    for name in firmware.FILES:
        (folder / name).write_text(name)
    seal(folder)
    path = tmp_path / "kernels.tar.gz"
    assert memtype("cache", "export", path, f"debian:{KERNEL}").exit_code == 0
    path.unlink()
    (folder / firmware.FILES[0]).write_text("rotten")
    result = memtype("cache", "export", path, f"debian:{KERNEL}")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1].startswith(
        f"memtype: {folder} is damaged; remove it (memtype cache "
    )
    assert not path.exists()


@pytest.mark.timeout(600)
def test_a_real_toolchain_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest is built with it, of other sources, as another version of the package does."""
    made = bundle("debian:bookworm")
    if not made.kit.is_dir():
        pytest.skip(f"the cache has a guest for {made.release}, and not the toolchain that built it")
    file = tmp_path / "all.tar.gz"
    done = memtype("cache", "export", file, f"debian:{made.release}", "--with-toolchain")
    assert done.exit_code == 0, done.output
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "here"))
    done = memtype("cache", "import", file)
    assert done.exit_code == 0, done.output
    mirror.stay_offline()
    sources = tmp_path / "guests"
    shutil.copytree(guest_sources(), sources)
    with next(sources.rglob("*.c")).open("a") as source:
        source.write("\n")
    built = bundle(f"debian:{made.release}", sources=sources)
    assert built.directory.name not in (made.directory.name, "")
    assert built.module is not None


@pytest.mark.usefixtures("there")
def test_a_kernel_of_this_host_stays_here(tmp_path: Path) -> None:
    result = memtype("cache", "export", tmp_path / "x", "tree:/dev/null/none")
    assert result.exit_code == 3
    assert "there is no folder /dev/null/none" in result.stderr


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", ["kit", "bundle", "index"])
def test_nothing_is_moved_under_a_run_that_is_making_it(
    there: Path, file: Path, here: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(there))
    assert memtype("cache", "export", file, f"debian:{KERNEL}", "--with-toolchain").exit_code == 0
    monkeypatch.setenv("MEMTYPE_CACHE", str(here))
    kit = kit_path(small_kernel(KERNEL), cache=here)
    # A guest is built under the lock of its kit.
    place = build_dir(here, "index-bookworm" if what == "index" else kit.name)
    if what == "bundle":
        shutil.copytree(there / "kits" / kit.name, kit, symlinks=True)
    made = {"kit": kit, "bundle": here / "bundles", "index": here / "index" / "bookworm.2.json"}[what]
    command = [
        sys.executable,
        "-c",
        "from pytest_memtype.cli import main; main()",
        "cache",
        "import",
        str(file),
    ]
    with exclusive(place, silent):
        importing = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert importing.stderr is not None
        said = iter(importing.stderr.readline, "")
        assert "waiting for another run that is preparing the same\n" in said
        assert not made.exists()
    with importing:
        importing.stderr.read()
    assert importing.returncode == 0
    assert made.exists()


@pytest.mark.parametrize("toolchain", [False, True])
def test_another_versions_kernels_need_their_toolchain(
    there: Path, file: Path, here: Path, monkeypatch: pytest.MonkeyPatch, toolchain: bool
) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(there))
    option = ["--with-toolchain"] if toolchain else []
    assert memtype("cache", "export", file, "debian:bookworm", *option).exit_code == 0
    monkeypatch.setenv("MEMTYPE_CACHE", str(here))
    monkeypatch.setattr("pytest_memtype.kernels.carry.source_hash", lambda _: "other sources")
    result = memtype("cache", "import", file)
    if toolchain:
        assert result.exit_code == 0
    else:
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 2
        assert "another version of pytest-memtype; export it with the version that is used" in result.stderr
        assert contents(here) == {}


@pytest.mark.timeout(600)
def test_a_real_kernel_runs_a_test_on_a_machine_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither toolchain nor mirror is there; only QEMU and what came in the file."""
    release = bundle("debian:bookworm").release
    file = tmp_path / "kernels.tar.gz"
    assert memtype("cache", "export", file, f"debian:{release}").exit_code == 0
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "here"))
    stub = StubMmdebstrap(tmp_path / "bin", monkeypatch)
    assert memtype("cache", "import", file).exit_code == 0
    (tmp_path / "test_it.py").write_text("def test_it(guest):\n    assert guest.release\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--offline",
            "--fresh=boot",
            "--accel=tcg",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert stub.calls == []
    assert cache_directory() == tmp_path / "here"
    assert not (tmp_path / "here" / "kits").exists()
    assert note_kernel is not None
