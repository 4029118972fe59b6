"""The file that kernels are carried in: what is not written into one, and which ones are refused."""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import json
import os
import tarfile
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from memtype_support.carried_kernels import KERNEL, contents, memtype
from memtype_support.small_indexes import small_kernel

from pytest_memtype.errors import HostError
from pytest_memtype.host.checksum import checksum_of
from pytest_memtype.kernels import sealed_tar
from pytest_memtype.kernels.fetch import kit_path
from pytest_memtype.kernels.sealed_tar import MANIFEST


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


def sums_of_files_elsewhere(forged: Forged) -> None:
    forged.replace("/sums.json", json.dumps({__file__: checksum_of(Path(__file__))}).encode())


def sums_of_mebibytes(forged: Forged) -> None:
    forged.replace("/sums.json", b" " * (8 << 20))


def another_image(forged: Forged) -> None:
    """It fits the manifest, and not the checksums that the bundle got when it was built."""
    forged.replace("/image", b"an image that has rotted")


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
        (sums_of_files_elsewhere, "was so before it was exported; export it anew there"),
        (sums_of_mebibytes, "no file of that name belongs"),
        (another_image, "was so before it was exported; export it anew there"),
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
        (b'{"format": 1, "facts": {}, "members": []}', "damaged"),
        (b'{"format": 1, "facts": {}, "members": {"x": 1}}', "damaged"),
        (b'{"format": 1, "facts": {}, "members": {"x": {"kind": "pipe"}}}', "damaged"),
        (b'{"format": 1, "facts": {}, "members": {"x": {"kind": "file", "size": -1}}}', "damaged"),
        (b'{"format": 1, "facts": {}, "members": {"x": {"kind": "file", "size": true}}}', "damaged"),
        (b'{"format": 1, "members": {"kits": {"kind": "folder", "size": 1}}}', "is a folder, and has a size"),
    ],
)
def test_a_manifest_that_makes_no_sense(file: Path, here: Path, manifest: bytes, text: str) -> None:
    Forged.of(file).write(file, manifest)
    assert_refused(file, here, text)


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        # A list takes 64 bytes and more, an object more than 200.
        (b'{"format": 1, "facts": [' + b"[]," * (1 << 20) + b'0], "members": {}}', ""),
        (b'{"format": 1, "members": {' + b",".join(b'"%x": {}' % n for n in range(1 << 18)) + b"}}", "files"),
    ],
)
def test_a_manifest_takes_little_more_memory_than_its_text(
    file: Path, here: Path, monkeypatch: pytest.MonkeyPatch, manifest: bytes, text: str
) -> None:
    monkeypatch.setattr(sealed_tar, "_MOST_MEMBERS", 1 << 17)
    Forged.of(file).write(file, manifest)
    tracemalloc.start()
    try:
        assert_refused(file, here, text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20


def test_what_changes_while_it_is_read_is_not_written(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image,) = there.glob("bundles/*/image")
    with_digest = sealed_tar._with_digest
    for change in (b"another image in its place, as large", b"short"):

        def changed(member: sealed_tar.Member, path: Path, change: bytes = change) -> sealed_tar.Member:
            found = with_digest(member, path)
            if path == image:
                path.write_bytes(change.ljust(member.size)[: member.size] if len(change) > 9 else change)
            return found

        monkeypatch.setattr(sealed_tar, "_with_digest", changed)
        with pytest.raises(HostError, match=rf"{image}: was written to while it was read; try again"):
            sealed_tar.write(
                io.BytesIO(),
                {"bundles/x": image.parent},
                {},
                allowed=lambda *_: True,
                left_out=lambda *_: False,
            )
    assert list(tmp_path.iterdir()) == [there]


def test_what_vanishes_is_named(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (image,) = there.glob("bundles/*/image")
    described = sealed_tar._described

    def vanishes(path: Path) -> sealed_tar.Member:
        if path == image:
            path.unlink()
        return described(path)

    monkeypatch.setattr(sealed_tar, "_described", vanishes)
    with pytest.raises(HostError, match=f"{image}: No such file or directory: it can't be read"):
        sealed_tar.write(
            io.BytesIO(), {"bundles/x": image.parent}, {}, allowed=lambda *_: True, left_out=lambda *_: False
        )
