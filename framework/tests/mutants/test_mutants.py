"""The catalogue fits the sources; ``python -m memtype_support.mutants`` runs the tests on each mutant."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from memtype_support.mutants.mutant_catalogue import Mutant, StaleMutantError, apply, catalogue

from pytest_memtype.host.resources import guest_sources

MUTANTS = catalogue()
PROJECT = guest_sources().parent


@pytest.fixture
def module(tmp_path: Path) -> Path:
    return Path(shutil.copytree(guest_sources() / "module", tmp_path / "module"))


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_mutant_can_be_applied_and_tried(mutant: Mutant, module: Path) -> None:
    before = (module / mutant.file).read_text()
    apply(mutant, module)
    assert (module / mutant.file).read_text() != before
    assert all((PROJECT / tests).exists() for tests in mutant.tests)


def test_names_and_faults_are_told_apart() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("old", ["no such text", "record"])
def test_a_stale_mutant_is_an_error(old: str, module: Path) -> None:
    with pytest.raises(StaleMutantError, match="write it anew"):
        apply(replace(MUTANTS[0], old=old), module)
