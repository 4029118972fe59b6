from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype import resources
from pytest_memtype.errors import UsageError
from pytest_memtype.kernels.sets import kernel_set
from pytest_memtype.kernels.spec import parse


def test_the_default_set_has_specs() -> None:
    assert [parse(spec).text for spec in kernel_set("default")] == ["debian:bookworm"]


def test_an_unknown_set() -> None:
    with pytest.raises(UsageError, match=r"no set of kernels is called 'nothing'; known are .*default"):
        kernel_set("nothing")


@pytest.mark.parametrize("text", ["", "kernels = []", "kernels = [1]", "kernels = 'debian:6.1'", "kernels ="])
def test_a_bad_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(resources, "kernel_sets", lambda: tmp_path)
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError, match=r"mine\.toml") as error:
        kernel_set("mine")
    assert "\n" not in str(error.value)
