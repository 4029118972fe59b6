from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from memtype_support.verifier_library import Library, make

# For memtype_support.mutants, which asks whether there is a failure and not for the shortest.
settings.register_profile(
    "unshrunk", max_examples=200, phases=(Phase.explicit, Phase.generate), database=None
)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The verifier in this process; with the sanitizers where ``test_sanitizers.py`` runs a session."""
    target = os.environ.get("MEMTYPE_VERIFIER_TARGET", "verifier.so")
    folder: Path = tmp_path_factory.mktemp("verifier")
    make(target, folder)
    return Library(folder / target)
