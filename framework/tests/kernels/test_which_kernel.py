"""Which kernel a spec means, on indexes that are kept with the tests: no mirror has a say."""

from __future__ import annotations

from pathlib import Path

import pytest
from memtype_support.small_indexes import fill_with_indexes

from pytest_memtype.errors import KernelError
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import resolve
from pytest_memtype.kernels.sets import kernel_set
from pytest_memtype.run.variants import all_variants


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    fill_with_indexes(tmp_path)


@pytest.mark.parametrize(
    ("spec", "release"),
    [
        ("debian:bullseye", "5.10.0-46-cloud-amd64"),
        # What the suite's metapackage names, and the newest that is built: one of these is signed.
        ("debian:bookworm", "6.1.0-56-cloud-amd64"),
        ("debian:6.1", "6.1.0-57-cloud-amd64"),
        # trixie's, not the one that bookworm-security carries besides, nor that of backports.
        ("debian:6.12", "6.12.118+deb13-cloud-amd64"),
        ("debian:trixie", "6.12.118+deb13-cloud-amd64"),
        ("debian:bookworm-backports", "6.12.95+deb12-cloud-amd64"),
        ("debian:trixie-backports", "7.3.4+deb13-cloud-amd64"),
        ("debian:experimental", "7.3-cloud-amd64"),
        # 7.3.4-1~bpo13+1 is newer than 7.3~rc7-1~exp1.
        ("debian:7.3", "7.3.4+deb13-cloud-amd64"),
        ("debian:7.3-cloud-amd64", "7.3-cloud-amd64"),
        ("debian:6.16", "6.16.12+deb13-cloud-amd64"),
        ("debian:6.1.0-56-amd64", "6.1.0-56-amd64"),
    ],
)
def test_spec(spec: str, release: str) -> None:
    assert resolve(spec) == f"debian:{release}"


def test_a_series_that_nobody_has() -> None:
    with pytest.raises(
        KernelError, match=r"'debian:6\.13': not in Debian's archive; nearest are debian:5\.10"
    ):
        resolve("debian:6.13")


def test_sets() -> None:
    lts = [name.removeprefix("debian:").partition("-cloud")[0] for name in kernel_set("lts")]
    assert lts == [
        "5.10.0-46",
        "6.1.0-57",
        "6.12.118+deb13",
        "6.16.12+deb13",
        "6.17.13+deb13",
        "6.18.15+deb13",
        "6.19.14+deb13",
        "7.0.13+deb13",
        "7.1.13+deb13",
        "7.2.13+deb14",
        "7.3.4+deb13",
    ]
    everything = kernel_set("all")
    assert len(everything) == 18
    assert set(everything) > set(kernel_set("lts"))


def test_guests_times_kernels() -> None:
    found = all_variants(
        ["debian:bookworm", "debian:6.1.0-56-cloud-amd64"], ["minimal", "debian:bookworm"], progress=silent
    )
    # Both specs mean one kernel, which is tested once in each guest.
    assert [(each.name, each.tested) for each in found] == [
        ("debian:bookworm", "debian:6.1.0-56-cloud-amd64"),
        ("debian:bookworm@bookworm", "debian:6.1.0-56-cloud-amd64@bookworm"),
    ]
    assert {each.exact for each in found} == {"debian:6.1.0-56-cloud-amd64"}
    assert [each.system for each in found] == ["minimal", "debian:bookworm"]
    own = all_variants(None, ["debian:bookworm"], progress=silent)
    assert [each.kernel for each in own] == ["debian:6.1.0-56-amd64"]
    assert [(each.name, each.tested) for each in own] == [("own@bookworm", "debian:6.1.0-56-amd64@bookworm")]


def test_two_specs_may_mean_two_kernels() -> None:
    found = all_variants(["debian:bookworm", "debian:6.1"], None, progress=silent)
    assert [each.tested for each in found] == ["debian:6.1.0-56-cloud-amd64", "debian:6.1.0-57-cloud-amd64"]
    assert [each.name for each in found] == ["debian:bookworm", "debian:6.1"]


def test_a_set_of_series_is_named_by_them() -> None:
    """An update must not give its tests other ids."""
    found = all_variants(["set:lts"], None, progress=silent)
    assert [each.name for each in found][:3] == ["debian:5.10", "debian:6.1", "debian:6.12"]
    assert all(each.tested.startswith(f"{each.name}.") for each in found)
