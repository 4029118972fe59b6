import os
import shutil
from pathlib import Path

import pytest

from pytest_memtype.errors import HostError
from pytest_memtype.kernels import route, sources
from pytest_memtype.kernels.sources import AptSources, archives_from_targets, sources_of

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# As apt-get indextargets prints the fields REPO_URI, RELEASE, CODENAME, COMPONENT, ARCHITECTURE, ORIGIN.
BOOKWORM = """\
http://mirror.invalid/debian/|bookworm|bookworm|main|amd64|Debian
http://mirror.invalid/debian/|bookworm|bookworm|contrib|amd64|Debian
http://mirror.invalid/debian/|bookworm|bookworm|main|all|Debian
http://mirror.invalid/debian/|bookworm-updates|bookworm-updates|main|amd64|Debian
http://mirror.invalid/security/|bookworm-security|bookworm-security|main|amd64|Debian
http://other.invalid/|nodistro|nodistro|main|amd64|Other
"""


def read(listing: str, suite: str, base: str, keyring: Path | None = None) -> AptSources:
    return AptSources(suite, base, archives_from_targets(listing, suite=suite, base=base), keyring)


def test_a_suite_the_host_has_is_read_from_its_mirrors() -> None:
    assert read(BOOKWORM, "bookworm", "bookworm", KEYRING).lines == (
        f"deb [signed-by={KEYRING}] http://mirror.invalid/debian/ bookworm main",
        f"deb [signed-by={KEYRING}] http://mirror.invalid/debian/ bookworm-updates main",
        f"deb [signed-by={KEYRING}] http://mirror.invalid/security/ bookworm-security main",
    )


def test_backports_come_from_the_mirror_of_their_suite() -> None:
    lines = read(BOOKWORM, "bookworm-backports", "bookworm").lines
    assert lines[-1] == "deb http://mirror.invalid/debian/ bookworm-backports main"


def test_a_suite_the_host_follows_by_another_name_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apt names the files of its indexes by the names that stand in the lines."""
    listing = (
        "http://mirror.invalid/debian/|stable|trixie|main|amd64|Debian\n"
        "http://mirror.invalid/security/|stable-security|trixie-security|main|amd64|Debian\n"
    )
    monkeypatch.setattr(sources, "_once", lambda *_: listing)
    monkeypatch.setattr(sources, "debian_keyring", lambda: None)
    trixie = sources_of("trixie")
    assert trixie.lines == (
        "deb http://mirror.invalid/debian/ stable main",
        "deb http://mirror.invalid/security/ stable-security main",
    )
    assert trixie.releases() == ("stable", "trixie-updates", "stable-security")
    assert "stable" not in sources_of("trixie-backports").releases()


def test_a_suite_the_host_does_not_have_is_left_to_mmdebstrap(tmp_path: Path) -> None:
    assert read(BOOKWORM, "trixie", "trixie", KEYRING).lines == ()
    assert read("", "bookworm", "bookworm", KEYRING).lines == ()
    cdrom = "cdrom:[Debian 12]/|bookworm|bookworm|main|amd64|Debian\n"
    assert read(cdrom, "bookworm", "bookworm", KEYRING).lines == ()
    assert AptSources(suite="trixie", base="trixie").arguments(tmp_path) == ["trixie", str(tmp_path)]


STRANGER = "http://other.example.org/tools/|bookworm|bookworm|main|amd64|tools bookworm\n"


def test_an_archive_of_others_with_debians_code_name_is_not_debians() -> None:
    """Apt reads its file first where its name comes first."""
    assert read(STRANGER + BOOKWORM, "bookworm", "bookworm").lines == (
        "deb http://mirror.invalid/debian/ bookworm main",
        "deb http://mirror.invalid/debian/ bookworm-updates main",
        "deb http://mirror.invalid/security/ bookworm-security main",
    )


def test_a_mirror_may_say_that_it_is_not_debians() -> None:
    mirror = BOOKWORM.replace("|Debian\n", "|Own | mirror\n")
    assert read(mirror, "bookworm", "bookworm").lines == read(BOOKWORM, "bookworm", "bookworm").lines


def test_the_kernels_of_backports_are_not_those_of_their_suite() -> None:
    releases = AptSources(suite="trixie-backports", base="trixie").releases()
    assert "trixie-backports" in releases
    assert "trixie" not in releases


def test_experimental_extends_sid(tmp_path: Path) -> None:
    arguments = AptSources(suite="experimental", base="sid").arguments(tmp_path)
    assert arguments[-2:] == ["sid", str(tmp_path)]
    assert any("s/ sid main$/ experimental main/p" in argument for argument in arguments)


@pytest.mark.parametrize(
    ("name", "text", "option", "variable", "elsewhere"),
    [
        (
            "sources.list",
            "deb [signed-by=/usr/x.gpg] http://mirror.invalid/debian/ x main",
            "",
            "",
            True,
        ),
        ("sources.list", "deb https://mirror.invalid/debian/ bookworm main", "", "", True),
        ("sources.list", "deb file:/srv/debian/ bookworm main", "", "", False),
        ("sources.list.d/x.list", "deb [trusted=yes] mirror+file:/etc/mirrors x main", "", "", False),
        ("sources.list", "deb http://localhost:3142/debian/ bookworm main", "", "", False),
        ("sources.list.d/x.sources", "URIs: http://127.0.0.1/debian/", "", "", False),
        ("sources.list.d/x.sources", "URIs: http://mirror.invalid/\nSigned-By: /usr/share/x", "", "", True),
        ("sources.list", "deb http://mirror.invalid/ x main", 'Acquire::http::Proxy "http://x"', "", False),
        ("sources.list", "deb http://mirror.invalid/ x main", "", "http_proxy", False),
    ],
)
def test_mirrors_elsewhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    text: str,
    option: str,
    variable: str,
    elsewhere: bool,
) -> None:
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)
    if variable:
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / name).write_text(text)
    monkeypatch.setattr(sources, "_APT", tmp_path)
    monkeypatch.setattr(sources, "_host_options", lambda: (option,) if option else ())
    assert sources.mirrors_elsewhere() == elsewhere


HEADER = "Iface\tDestination\tGateway\tFlags\n"


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "there"),
    [
        (HEADER, "", False),
        (HEADER + "eth0\t00000000\t0202000A\t0003\n", "", True),
        (HEADER + "lo\t00000000\t00000000\t0001\n", "", False),
        (HEADER, f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} 00000400 1 0 00200200       lo\n", False),
        (HEADER, f"fe80{'0' * 28} 40 {'0' * 32} 00 {'0' * 32} 00000100 1 0 00000001     eth0\n", False),
        (HEADER, f"{'0' * 32} 00 {'0' * 32} 00 fe80{'0' * 28} 00000400 1 0 00000003     eth0\n", True),
        ("", "", False),
    ],
)
def test_routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ipv4: str, ipv6: str, there: bool) -> None:
    (tmp_path / "ipv4").write_text(ipv4)
    (tmp_path / "ipv6").write_text(ipv6)
    monkeypatch.setattr(route, "_IPV4", tmp_path / "ipv4")
    monkeypatch.setattr(route, "_IPV6", tmp_path / "ipv6")
    assert route.has_route() == there
    monkeypatch.setattr(route, "_IPV4", tmp_path / "nothing")
    assert route.has_route()


def apt_get(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have an apt-get at the front of the PATH that runs some shell lines, and asks apt nothing."""
    program = folder / "apt-get"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(sources, "_once", sources._output)


def test_an_archive_of_others_may_say_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "listing").write_bytes(
        b"http://other.invalid/|x|x|main|amd64|Fran\xe7ois\n" + BOOKWORM.encode()
    )
    apt_get(tmp_path, monkeypatch, f"cat '{tmp_path}/listing'")
    assert len(sources_of("bookworm").lines) == 3


def test_an_apt_that_is_not_done_is_an_error_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_LIMIT_SECONDS", 0.1)
    apt_get(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(HostError, match=r"apt-get indextargets: not done in 0.1 s; "):
        sources_of("bookworm")


@pytest.mark.skipif(
    shutil.which("apt-config") is None, reason="this host has no apt, whose answer is asked for"
)
def test_the_ways_to_single_hosts_are_carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By apt's own apt-config, whose settings are those of a file."""
    (tmp_path / "apt.conf").write_text(
        """
        Acquire::http::Proxy "http://proxy.invalid:3128/";
        Acquire::http::Proxy::mirror.invalid "DIRECT";
        Acquire::https::Proxy-Auto-Detect "/usr/bin/find-proxy";
        Acquire::http::Timeout "5";
        """
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    found = sources._host_options()
    assert {
        'Acquire::http::Proxy "http://proxy.invalid:3128/"',
        'Acquire::http::Proxy::mirror.invalid "DIRECT"',
        'Acquire::https::Proxy-Auto-Detect "/usr/bin/find-proxy"',
    } <= set(found)
    assert not any("Timeout" in option for option in found)
