from __future__ import annotations

from pathlib import Path

import pytest
from memtype_support.small_indexes import fill_with_indexes, pretend_kit

from pytest_memtype.errors import UsageError
from pytest_memtype.host import resources
from pytest_memtype.kernels import sets
from pytest_memtype.kernels.index import Kernel
from pytest_memtype.kernels.sets import expand, kernel_set
from pytest_memtype.kernels.spec import parse


def test_the_default_set_has_specs() -> None:
    assert [parse(spec).text for spec in kernel_set("default")] == ["debian:bookworm"]


def kernel(version: str, *, headers: bool = True) -> Kernel:
    return Kernel(f"{version}-cloud-amd64", f"{version}-1", "trixie", "linux-image", headers)


def test_sets_that_ask_the_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [kernel("6.12.1"), kernel("6.12.10"), kernel("6.16.3", headers=False)]
    monkeypatch.setattr(sets, "every", lambda **_: there)
    assert kernel_set("lts") == ("debian:6.12.10-cloud-amd64", "debian:6.16.3-cloud-amd64")
    assert kernel_set("all") == tuple(f"debian:{each.release}" for each in there)


def test_specs_and_sets_are_expanded_in_order_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    fill_with_indexes(tmp_path)
    monkeypatch.setattr(sets, "every", lambda **_: [kernel("6.12.1")])
    assert expand(["tree:x", "set:lts", "debian:6.12.1-cloud-amd64", "set:default"]) == (
        "tree:x",
        "debian:6.12.1-cloud-amd64",
        "debian:bookworm",
    )


def test_the_kernels_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="the cache has no kernel"):
        kernel_set("cached")
    for release in ("6.12.118+deb13-cloud-amd64", "5.10.0-46-cloud-amd64", "6.1.0-56-amd64"):
        pretend_kit(tmp_path, release)
    assert kernel_set("cached") == ("debian:5.10.0-46-cloud-amd64", "debian:6.12.118+deb13-cloud-amd64")


def test_an_unknown_set() -> None:
    with pytest.raises(UsageError, match=r"no set of kernels is called 'nothing'; known are .*default"):
        kernel_set("nothing")


@pytest.mark.parametrize(
    "text", ["", "kernels = []", "kernels = [1]", "kernels = 'debian:6.1'", "kernels =", "query = 'x'"]
)
def test_a_bad_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(resources, "kernel_sets", lambda: tmp_path)
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError, match=r"mine\.toml") as error:
        kernel_set("mine")
    assert "\n" not in str(error.value)
