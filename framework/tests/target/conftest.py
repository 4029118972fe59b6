"""A machine that somebody has started by hand: with the script of docs/on-real-hardware.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from memtype_support.hand_started import CONFIG, HandStarted, hand_started

from pytest_memtype.host.progress import silent
from pytest_memtype.target.target import Target


# Not the session's: under TCG it takes a third of a CPU for nothing.
@pytest.fixture(scope="package")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HandStarted]:
    with hand_started(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "machine.toml"
    path.write_text(f"shell = true\nlease = 8\n{CONFIG}")
    return path


@pytest.fixture
def target(machine: HandStarted, config: Path, tmp_path: Path) -> Iterator[Callable[..., Target]]:
    """Makes targets: ``target(port=)``. They are closed with the test."""
    made: list[Target] = []

    def make(*, port: int | None = None, dry_run: Callable[[str], None] | None = None) -> Target:
        address = machine.address(port=port, config=config)
        made.append(Target(address, logs=tmp_path / "logs", progress=silent, dry_run=dry_run))
        return made[-1]

    yield make
    for each in made:
        each.close()
