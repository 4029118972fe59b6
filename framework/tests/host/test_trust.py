"""Who may write to what is run and booted. The tests that need other owners need root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_memtype.errors import HostError, NotOurs
from pytest_memtype.host import resources
from pytest_memtype.host.trust import require_ours

#: Any user but root and the one who runs this.
STRANGER = 65533

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a file, two folders below a private one."""
    folder = tmp_path / "above" / "cache" / "bundles" / "one"
    folder.mkdir(parents=True)
    (folder / "launcher.so").write_text("")
    for each in (folder, *list(folder.parents)[:3]):
        each.chmod(0o755)
    return folder


def refused(path: Path, named: Path, says: str) -> None:
    with pytest.raises(NotOurs) as caught:
        require_ours(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{named}: ")
    assert says in message
    assert caught.value.exit_status == 3


def test_what_is_ours_alone_is_used(place: Path) -> None:
    require_ours(place)
    require_ours(place / "launcher.so")


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o1777])
def test_a_folder_that_everybody_can_write_to(place: Path, mode: int) -> None:
    place.chmod(mode)
    refused(place, place, f"everybody can write to it (mode {mode:04o})")


def test_a_file_in_it_that_everybody_can_write_to(place: Path) -> None:
    (place / "launcher.so").chmod(0o666)
    refused(place, place / "launcher.so", "everybody can write to it (mode 0666)")


def test_a_folder_above_that_everybody_can_write_to(place: Path) -> None:
    above = place.parent.parent
    above.chmod(0o777)
    refused(place, above, "everybody can write to it (mode 0777)")
    # There nobody can rename what isn't his.
    above.chmod(0o1777)
    require_ours(place)


@needs_root
def test_a_group_with_others_in_it(place: Path) -> None:
    # Debian's users(100) and its like have no primary member but may get some; root's group has root alone.
    place.chmod(0o775)
    require_ours(place)
    os.chown(place, 0, 65432)
    refused(place, place, "its group can write to it (mode 0775)")


@needs_root
@pytest.mark.parametrize("what", ["launcher.so", ".", "..", "../.."])
def test_something_of_a_stranger(place: Path, what: str) -> None:
    given = Path(os.path.normpath(place / what))
    os.chown(given, STRANGER, 0)
    refused(place, given, f"belongs to user {STRANGER}")


def test_a_link_leads_to_what_is_looked_at(place: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(place.parent)
    require_ours(link / "one")
    place.parent.chmod(0o777)
    refused(link / "one", place.parent, "everybody can write to it")


@needs_root
def test_a_link_of_a_stranger(place: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(place.parent)
    os.chown(link, STRANGER, 0, follow_symlinks=False)
    refused(link / "one", link, f"belongs to user {STRANGER}")


def test_a_link_to_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(NotOurs, match="more than 40 links"):
        require_ours(tmp_path / "link" / "file")


@needs_root
def test_a_plain_user_trusts_root_and_root_no_plain_user(place: Path) -> None:
    # setpriv, because this process shall stay root.
    code = "import sys; from pathlib import Path; from pytest_memtype.host.trust import require_ours; "
    code += "require_ours(Path(sys.argv[1]))"
    top = next(each for each in place.parents if each.name == "above")
    # The folders of pytest are root's alone, so that the stranger needs a way in.
    way = [each for each in top.parents if each != Path("/tmp") and not each.stat().st_mode & 0o001]
    for each in way:
        each.chmod(0o711)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["setpriv", "--reuid", str(STRANGER), "--clear-groups", sys.executable, "-c", code, str(place)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if "ModuleNotFoundError" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("another user can't reach this checkout")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o707])
def test_a_cache_that_others_can_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    if mode == 0o775:
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder to a group that it isn't in")
        os.chown(cache, 0, 65432)
    cache.chmod(mode)
    monkeypatch.setenv("MEMTYPE_CACHE", str(cache))
    with pytest.raises(HostError, match="can write to it"):
        resources.cache_directory()
