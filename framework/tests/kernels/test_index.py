import pytest

from pytest_memtype.errors import KernelError
from pytest_memtype.kernels.index import Index, Kernel, choose, newest_of_each_series, parse
from pytest_memtype.kernels.spec import DebianSpec

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
