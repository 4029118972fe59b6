"""``memtype run --observe``, in real guests with real drivers."""

from __future__ import annotations

import io

import pytest
from click.testing import CliRunner
from rich.console import Console

from pytest_memtype import Guest, MemType
from pytest_memtype.cli import main
from pytest_memtype.commands.observe import Observed, observe, show
from pytest_memtype.guest.observation import ObservationStatus, Probe
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.machine.layout_file import load_layout

SERIES = ["debian:bullseye", "debian:bookworm", "debian:trixie", "debian:trixie-backports"]


def printed(observed: Observed) -> str:
    text = io.StringIO()
    show(observed, Console(file=text, width=250))
    return text.getvalue()


@pytest.mark.parametrize("spec", SERIES)
def test_a_stock_driver_is_seen_mapping_its_bars(spec: str) -> None:
    """VMware's network card has two memory BARs, which vmxnet3_alloc_pci_resources() ioremaps (UC-)."""
    observed = observe(bundle(spec), layout=load_layout("firmware"), accelerator="tcg", progress=silent)

    assert "vmxnet3" in observed.loaded
    mapped = [each for each in observed.observations if each.caller and "[vmxnet3]" in each.caller]
    assert len(mapped) == 2
    for each in mapped:
        assert (each.task, each.kind) == ("insmod", "kernel")
        assert (each.requested, each.granted, each.rule) == (MemType.UC_MINUS, MemType.UC_MINUS, None)
    assert any(each.seeded for each in observed.observations)
    assert observed.status.works
    assert (observed.status.missed, observed.broken) == (0, ())
    assert any("bochs" in note for note in observed.notes if note.startswith("not in this kernel"))
    text = printed(observed)
    assert "0 lost; 0 break the rules" in text


def test_a_broken_rule_is_a_line_of_the_table(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    guest.driver("drm").ioremap(bar, MemType.WC)
    guest.shell(f"busybox devmem {bar.start:#x}")
    observed = Observed(guest.release, tuple(guest.observed()), guest.observation(), (), ())

    (line,) = [line for line in printed(observed).splitlines() if "alias" in line]
    assert f"{bar.start:#x}" in line
    for expected in ("UC-", "WC", "busybox:", "drm"):
        assert expected in line
    assert "1 break the rules" in printed(observed)


@pytest.mark.parametrize(
    ("armed", "missed", "dropped", "complete"),
    [(True, 0, 0, True), (False, 0, 0, False), (True, 1, 0, False), (True, 0, 1, False)],
)
def test_what_could_not_be_seen(armed: bool, missed: int, dropped: int, complete: bool) -> None:
    """The command's exit status doesn't say then that all is well."""
    probes = (Probe("memtype_reserve", 0, True), Probe("memtype_free", 0, armed))
    assert ObservationStatus(probes, missed, dropped).complete is complete


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tests/"], "run --observe: "),
        (["--kernels", "x"], "run --observe: "),
        (["--accel", "magic"], "--accel 'magic': "),
    ],
)
def test_usage(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["run", "--observe", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"memtype: {said}")
    assert result.stderr.count("\n") == 1


def test_the_command() -> None:
    result = CliRunner().invoke(main, ["run", "--observe", "--kernel", "debian:bookworm", "--accel", "tcg"])
    assert result.exit_code == 0
    assert "mappings observed" in result.output
