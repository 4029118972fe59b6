from pathlib import Path

import pytest

from pytest_memtype.errors import UsageError
from pytest_memtype.kernels.spec import BuildSpec, DebianSpec, HostSpec, Spec, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("debian:bookworm", DebianSpec("debian:bookworm", suite="bookworm")),
        ("debian:trixie-backports", DebianSpec("debian:trixie-backports", suite="trixie-backports")),
        ("debian:6.1", DebianSpec("debian:6.1", series="6.1")),
        ("debian:5.10", DebianSpec("debian:5.10", series="5.10")),
        # Names as Debian gives them: bookworm's, its backport to bullseye, trixie's own, and a real-time one.
        *(
            (f"debian:{release}", DebianSpec(f"debian:{release}", release=release))
            for release in (
                "6.1.0-50-cloud-amd64",
                "6.1.0-0.deb11.52-cloud-amd64",
                "7.3.4+deb13-cloud-amd64",
                "6.12.115+deb13.1-amd64",
                "6.1.0-50-rt-amd64",
                "7.3-cloud-amd64",
            )
        ),
        ("debian:experimental", DebianSpec("debian:experimental", suite="experimental")),
        (
            "tree:/usr/src/linux",
            BuildSpec(
                "tree:/usr/src/linux", Path("/usr/src/linux/arch/x86/boot/bzImage"), Path("/usr/src/linux")
            ),
        ),
        (
            "image:/boot/vmlinuz,build=/usr/src/linux",
            BuildSpec(
                "image:/boot/vmlinuz,build=/usr/src/linux", Path("/boot/vmlinuz"), Path("/usr/src/linux")
            ),
        ),
        ("host", HostSpec("host")),
    ],
)
def test_what_can_be_written(text: str, expected: Spec) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("debian:buzz", "no such Debian suite; known are bullseye, bookworm"),
        ("debian:", "no such Debian suite"),
        ("debian:6.1.192", "6.1.0-50-cloud-amd64"),
        ("debian:6.1.0-50-cloud-arm64", "6.1.0-50-cloud-amd64"),
        ("debian:6.1.0-50-amd64; rm -rf /", "a whole release"),
        ("tree:", "no such kind of kernel"),
        ("image:bzImage", "write image:BZIMAGE,build=PATH"),
        ("image:,build=.", "write image:BZIMAGE,build=PATH"),
        ("hosts", "no such kind of kernel"),
        ("set:lts", "stands for several kernels"),
        ("bookworm", "known are debian:SUITE"),
        ("", "known are debian:SUITE"),
    ],
)
def test_what_can_not(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.message.startswith(f"kernel {text!r}: ")
    assert told in caught.value.message
    assert "\n" not in caught.value.message
