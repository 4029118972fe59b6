"""Kernels in a file: what goes there and comes back, and what a file may not do."""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from memtype_support.small_indexes import DAY, fill_with_indexes, pretend_kit, small_kernel
from memtype_support.stub_mmdebstrap import StubMmdebstrap

from pytest_memtype.cli import main
from pytest_memtype.errors import HostError
from pytest_memtype.host.progress import silent
from pytest_memtype.host.resources import cache_directory, guest_sources
from pytest_memtype.host.store import build_dir, exclusive
from pytest_memtype.kernels import mirror, sealed_tar
from pytest_memtype.kernels.bundle import bundle, bundle_path, resolve, source_hash
from pytest_memtype.kernels.fetch import kit_path, note_kernel
from pytest_memtype.kernels.sealed_tar import MANIFEST

KERNEL = "6.1.0-56-cloud-amd64"
FILES = ("image", "agent", "initramfs.cpio", "launcher.so", "config")


def memtype(*arguments: str | Path) -> Result:
    # Each command is a process of its own outside of tests.
    mirror.forget()
    return CliRunner().invoke(main, [str(each) for each in arguments])


def fill(cache: Path, *, release: str = KERNEL, sources: str = "") -> Path:
    """A cache with a kernel, and indexes that are two days old."""
    fill_with_indexes(cache, age=2 * DAY, suites=("bookworm", "trixie"))
    kernel = small_kernel(release)
    kit = pretend_kit(cache, release)
    (kit / "usr" / "bin").mkdir(parents=True)
    (kit / "usr" / "bin" / "gcc-12").write_text("compiler")
    (kit / "usr" / "bin" / "gcc-12").chmod(0o4755)
    (kit / "usr" / "bin" / "gcc").symlink_to("gcc-12")
    (kit / "bin").symlink_to("/usr/bin")
    # As Debian's have it: through other links, and back out of what those lead to.
    (kit / "usr" / "bin" / "cc").symlink_to("../../bin/gcc")
    (kit / "lib").symlink_to("usr/lib")
    (kit / "usr" / "lib").mkdir()
    (kit / "usr" / "lib" / "awk").symlink_to("/lib/../bin/mawk")
    (kit / "dev").mkdir()
    # mmdebstrap makes them.
    (kit / "dev" / "fd").symlink_to("/proc/self/fd")
    folder = bundle_path(kernel, sources or source_hash(guest_sources()), cache=cache)
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(f"{name} of {release}")
    (folder / "agent").chmod(0o755)
    return folder


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the machine with a network."""
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "there"))
    fill(tmp_path / "there")
    return tmp_path / "there"


@pytest.fixture
def file(there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export, and from now on the other machine's empty cache."""
    assert there.is_dir()
    path = tmp_path / "kernels.tar.gz"
    assert memtype("cache", "export", path, "debian:bookworm").exit_code == 0
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "here"))
    return path


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here"


def contents(cache: Path) -> dict[str, bytes]:
    """Everything in a cache but locks."""
    return {
        str(path.relative_to(cache)): path.read_bytes()
        for path in cache.rglob("*")
        if path.is_file() and not path.is_relative_to(cache / "work")
    }


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


@pytest.mark.parametrize(
    ("limit", "most", "said"),
    [
        ("_MANIFEST_BYTES", 1000, "its manifest takes 0 MiB, and 0 are the most"),
        ("_MOST_MEMBERS", 5, "it has 26 files, and 5 are the most"),
        ("_MOST_BYTES", 10, "its files take 0 GiB, and 0 are the most"),
    ],
)
def test_what_import_would_refuse_is_not_written(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, said: str
) -> None:
    monkeypatch.setattr(sealed_tar, limit, most)
    result = memtype("cache", "export", tmp_path / "x", f"debian:{KERNEL}", "--with-toolchain")
    assert result.exit_code == 2, result.output
    assert said in result.stderr.splitlines()[-1]
    assert "export fewer kernels at a time" in result.stderr
    assert list(tmp_path.iterdir()) == [there]


def test_what_another_version_put_beside_is_left_out(
    there: Path, file: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = (there / "bundles").iterdir()
    (folder / "of-a-later-version").write_text("{}")
    monkeypatch.setenv("MEMTYPE_CACHE", str(there))
    assert memtype("cache", "export", file, f"debian:{KERNEL}").exit_code == 0
    monkeypatch.setenv("MEMTYPE_CACHE", str(here))
    assert memtype("cache", "import", file).exit_code == 0
    names = {path.name for path in (here / "bundles" / folder.name).iterdir()}
    assert {*FILES, "kernel.json", "sums.json"} == names


def test_what_can_not_be_read_is_not_said_to_be_unwritable(there: Path, tmp_path: Path) -> None:
    (image,) = there.glob("bundles/*/image")
    # A file of that name opens for nobody, root included.
    image.unlink()
    image.symlink_to("image")
    with pytest.raises(HostError, match="Too many levels of symbolic links: it can't be read; make it yours"):
        sealed_tar._opened(image)
    image.unlink()
    image.write_text("image")
    agent = image.with_name("agent")
    if os.geteuid() != 0:
        agent.chmod(0)
        result = memtype("cache", "export", tmp_path / "x", f"debian:{KERNEL}")
        assert result.exit_code == 3
        assert f"{agent}: Permission denied: it can't be read" in result.stderr


def test_a_link_that_import_would_refuse_is_not_written(there: Path, tmp_path: Path) -> None:
    kit = kit_path(small_kernel(KERNEL), cache=there)
    (kit / "usr" / "up").symlink_to("../..")
    result = memtype("cache", "export", tmp_path / "x", f"debian:{KERNEL}", "--with-toolchain")
    assert result.exit_code == 2, result.output
    assert f"'kits/{kit.name}/usr/up': no link of that name belongs to a kernel; remove" in result.stderr
    assert list(tmp_path.iterdir()) == [there]


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


@pytest.mark.parametrize("part", [0, 1, 10, 300, -1, -9, -300])
def test_a_file_that_is_cut_short_leaves_nothing(file: Path, here: Path, part: int) -> None:
    file.write_bytes(file.read_bytes()[:part])
    assert_refused(file, here, "damaged, cut short or not made by memtype cache export")


def test_a_file_that_is_altered_leaves_nothing(file: Path, here: Path) -> None:
    plain = gzip.decompress(file.read_bytes())
    at = plain.index(b"launcher.so of")
    file.write_bytes(gzip.compress(plain[:at] + b"LAUNCHER" + plain[at + 8 :]))
    assert_refused(file, here, "launcher.so has another SHA-256 than its manifest says")


def test_other_files_are_refused(tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(here))
    (tmp_path / "text").write_text("hello\n" * 9999)
    (tmp_path / "zeros").write_bytes(gzip.compress(bytes(1 << 20)))
    for name in ("text", "zeros"):
        assert_refused(tmp_path / name, here, "not made by memtype cache export")
    for name in ("nothing", "here"):
        result = memtype("cache", "import", tmp_path / name)
        assert result.exit_code == 2
        assert "Traceback" not in result.output


def assert_refused(file: Path, here: Path, text: str) -> None:
    result = memtype("cache", "import", file)
    assert result.exit_code == 2, result.output
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("memtype: "))
    assert line.startswith(f"memtype: {file}: ")
    assert text in line
    assert contents(here) == {}
    assert not list(here.glob("work/*/partial/*"))


@dataclass
class Forged:
    """An export in pieces, to be put together otherwise.

    :param manifest: The manifest.
    :param members: Headers and contents of the others.
    """

    manifest: dict[str, Any]
    members: list[tuple[tarfile.TarInfo, bytes]]

    @classmethod
    def of(cls, file: Path) -> Forged:
        with tarfile.open(file) as tar:
            read = [(each, _contents(tar, each)) for each in tar]
        return cls(json.loads(read[0][1]), read[1:])

    def add(self, name: str, data: bytes = b"", **changes: Any) -> None:
        """One more member, which the manifest has as well."""
        header = tarfile.TarInfo(name)
        header.size = len(data)
        for key, value in changes.items():
            setattr(header, key, value)
        kinds = {tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "link"}
        self.members.append((header, data))
        self.manifest["members"][name] = {
            "kind": kinds.get(header.type, "file"),
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "executable": False,
            "target": header.linkname,
        }

    def replace(self, name: str, data: bytes) -> None:
        """Other contents for a member, which the manifest has as well."""
        at = next(at for at, (header, _) in enumerate(self.members) if header.name.endswith(name))
        header = copy.copy(self.members[at][0])
        del self.members[at]
        self.add(header.name, data)

    def write(self, file: Path, manifest: bytes | None = None) -> None:
        with tarfile.open(file, "w:gz", format=tarfile.PAX_FORMAT) as tar:
            text = json.dumps(self.manifest).encode() if manifest is None else manifest
            header = tarfile.TarInfo(MANIFEST)
            header.size = len(text)
            tar.addfile(header, io.BytesIO(text))
            for header, data in self.members:
                tar.addfile(header, io.BytesIO(data))


def _contents(tar: tarfile.TarFile, header: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(header) if header.isreg() else None
    return b"" if file is None else file.read()


def bundle_name(forged: Forged) -> str:
    names: list[str] = list(forged.manifest["members"])
    return next(name for name in names if name.startswith("bundles/"))


def member(name: str, **changes: Any) -> Callable[[Forged], None]:
    return lambda forged: forged.add(name.format(bundle=bundle_name(forged)), **changes)


def link_out_of_the_kit(forged: Forged) -> None:
    for name in ("kits", "kits/x", "kits/x/usr"):
        forged.add(name, type=tarfile.DIRTYPE)
    forged.add("kits/x/usr/out", type=tarfile.SYMTYPE, linkname="../../../../etc")


def links_out_of_the_kit_together(forged: Forged) -> None:
    """By its text alone each stays inside."""
    for name in ("kits", "kits/x", "kits/x/usr", "kits/x/usr/lib"):
        forged.add(name, type=tarfile.DIRTYPE)
    forged.add("kits/x/usr/lib/up", type=tarfile.SYMTYPE, linkname="..")
    forged.add("kits/x/usr/lib/out", type=tarfile.SYMTYPE, linkname="up/../..")


def links_in_a_circle(forged: Forged) -> None:
    for name in ("kits", "kits/x"):
        forged.add(name, type=tarfile.DIRTYPE)
    forged.add("kits/x/a", type=tarfile.SYMTYPE, linkname="b")
    forged.add("kits/x/b", type=tarfile.SYMTYPE, linkname="a/a")


def file_that_never_ends(forged: Forged) -> None:
    for name in ("kits", "kits/x"):
        forged.add(name, type=tarfile.DIRTYPE)
    forged.add("kits/x/kernel.json", type=tarfile.SYMTYPE, linkname="/dev/zero")


def a_kernel_nested_deeply(forged: Forged) -> None:
    forged.replace("/kernel.json", b"[" * 50_000)


def a_kernel_of_mebibytes(forged: Forged) -> None:
    forged.replace("/kernel.json", b" " * (8 << 20))


def an_index_from(fetched: str) -> Callable[[Forged], None]:
    """From a time that is no number of seconds."""
    text = f'{{"fetched": {fetched}, "newest": null, "kernels": []}}'
    return lambda forged: forged.replace("bookworm.2.json", text.encode())


def an_index_of_mebibytes(forged: Forged) -> None:
    forged.replace("bookworm.2.json", b" " * (32 << 20))


def file_behind_a_link(forged: Forged) -> None:
    for name in ("kits", "kits/x"):
        forged.add(name, type=tarfile.DIRTYPE)
    forged.add("kits/x/usr", type=tarfile.SYMTYPE, linkname="bin")
    forged.add("kits/x/usr/file", b"text")


def link_where_the_host_writes(forged: Forged) -> None:
    for name in ("kits", "kits/x"):
        forged.add(name, type=tarfile.DIRTYPE)
    forged.add("kits/x/src", type=tarfile.SYMTYPE, linkname="/usr")


def a_file_twice(forged: Forged) -> None:
    forged.members.append(forged.members[-1])


def not_in_the_manifest(forged: Forged) -> None:
    name = f"{bundle_name(forged)}/memtype.ko"
    forged.add(name, b"text")
    del forged.manifest["members"][name]


def another_size(forged: Forged) -> None:
    forged.members.append((tarfile.TarInfo("x"), b""))
    header, data = next(each for each in forged.members if each[0].name.endswith("/image"))
    forged.manifest["members"][header.name]["size"] = len(data) + 1


def a_hundred_gibibytes(forged: Forged) -> None:
    forged.manifest["members"][f"{bundle_name(forged)}/image"]["size"] = 100 << 30


def a_header_of_mebibytes(forged: Forged) -> None:
    header = forged.members[0][0]
    header.pax_headers = {"comment": "x" * (8 << 20)}


def a_shell_command(forged: Forged) -> None:
    kernel = replace(small_kernel(KERNEL), version="1$(touch /tmp/x)")
    forged.replace("/kernel.json", json.dumps(asdict(kernel)).encode())


def a_shell_command_in_an_index(forged: Forged) -> None:
    kernel = replace(small_kernel(KERNEL), image='linux-image-x"; touch /tmp/x; "')
    text = json.dumps({"fetched": 1, "newest": kernel.release, "kernels": [asdict(kernel)]})
    forged.replace("bookworm.2.json", text.encode())


def another_kernel(forged: Forged) -> None:
    forged.replace("/kernel.json", json.dumps(asdict(small_kernel("7.3-cloud-amd64"))).encode())


def no_launcher(forged: Forged) -> None:
    forged.members = [each for each in forged.members if not each[0].name.endswith("launcher.so")]
    members = forged.manifest["members"]
    del members[next(name for name in members if name.endswith("launcher.so"))]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(member("../outside", data=b"x"), "not the name of a file below", id="parent"),
        pytest.param(member("bundles/../../outside", data=b"x"), "not the name of a file", id="dots"),
        pytest.param(member("/outside", data=b"x"), "not the name of a file below the cache", id="root"),
        pytest.param(member("bundles//x", data=b"x"), "not the name of a file below the cache", id="empty"),
        pytest.param(member("outside", data=b"x"), "no file of that name belongs", id="unknown"),
        pytest.param(member("templates", type=tarfile.DIRTYPE), "no folder of that name", id="templates"),
        pytest.param(member("{bundle}/more", data=b"x"), "no file of that name belongs", id="one more"),
        pytest.param(
            member("{bundle}/memtype.ko", type=tarfile.SYMTYPE, linkname="/etc/shadow"),
            "no link of that name belongs to a kernel",
            id="link",
        ),
        pytest.param(
            member("{bundle}/memtype.ko", type=tarfile.LNKTYPE, linkname="{bundle}/image"),
            "is not what the manifest says",
            id="hard link",
        ),
        pytest.param(member("{bundle}/memtype.ko", type=tarfile.CHRTYPE), "is not what the", id="device"),
        pytest.param(member("{bundle}/memtype.ko", type=tarfile.FIFOTYPE), "is not what the", id="pipe"),
        pytest.param(member("bundles/x y", type=tarfile.DIRTYPE), "no folder of that name", id="name"),
        (link_out_of_the_kit, "no link of that name belongs"),
        (links_out_of_the_kit_together, "'kits/x/usr/lib/out': no link of that name belongs"),
        (links_in_a_circle, "no link of that name belongs"),
        (file_that_never_ends, "no link of that name belongs"),
        (a_kernel_nested_deeply, "doesn't say which kernel it is of"),
        (a_kernel_of_mebibytes, "no file of that name belongs"),
        pytest.param(an_index_from("9" * 400), "its index of bookworm makes no sense", id="too large"),
        pytest.param(an_index_from("Infinity"), "its index of bookworm makes no sense", id="infinite"),
        pytest.param(an_index_from("NaN"), "its index of bookworm makes no sense", id="no number"),
        (an_index_of_mebibytes, "no file of that name belongs"),
        (link_where_the_host_writes, "no link of that name belongs"),
        (file_behind_a_link, "is in no folder of the file's own"),
        (a_file_twice, "is not in its manifest, or is there twice"),
        (not_in_the_manifest, "is not in its manifest, or is there twice"),
        (another_size, "is not what the manifest says"),
        (a_hundred_gibibytes, "its files take 100 GiB, and 64 are the most"),
        (a_header_of_mebibytes, "header is larger than any"),
        (a_shell_command, "doesn't say which kernel it is of"),
        (a_shell_command_in_an_index, "its index of bookworm makes no sense"),
        (another_kernel, "is no bundle of 7.3-cloud-amd64"),
        (no_launcher, f"is no bundle of {KERNEL}"),
    ],
)
def test_a_hostile_file_is_refused(
    file: Path, here: Path, tmp_path: Path, change: Callable[[Forged], None], text: str
) -> None:
    forged = Forged.of(file)
    change(forged)
    forged.write(file)
    before = sorted(tmp_path.iterdir())
    assert_refused(file, here, text)
    assert sorted(each for each in tmp_path.iterdir() if each != here) == [x for x in before if x != here]


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        (b"", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'{"format": 2, "facts": {}, "members": {}}', "its format is 2, and this version reads 1"),
        (b'{"format": 1, "facts": {}, "members": []}', "its manifest makes no sense"),
        (b'{"format": 1, "facts": {}, "members": {"x": 1}}', "its manifest makes no sense at 'x'"),
    ],
)
def test_a_manifest_that_makes_no_sense(file: Path, here: Path, manifest: bytes, text: str) -> None:
    Forged.of(file).write(file, manifest)
    assert_refused(file, here, text)


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
