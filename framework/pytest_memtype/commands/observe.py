"""Observation for ``memtype run --observe``: a boot, drivers, and mappings that break the rules of 2005."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_memtype.errors import HostError
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.observation import Observation, ObservationStatus
from pytest_memtype.host.nearest import check_choice
from pytest_memtype.host.private_folder import temporary_folder
from pytest_memtype.host.progress import Progress, is_terminal, shown
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.bundle import Bundle
from pytest_memtype.kernels.drivers import FOLDER, drivers
from pytest_memtype.kernels.ready import ready
from pytest_memtype.kernels.sets import DEFAULT
from pytest_memtype.machine.accelerator import ACCELERATORS, Wanted
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout, check_bootable, register_writes
from pytest_memtype.machine.layout_file import layout_folders, load_layout
from pytest_memtype.machine.uncovered import uncovered_ram
from pytest_memtype.run.boot import GuestPlan, booted
from pytest_memtype.run.options import OPTIONS, OptionParser
from pytest_memtype.run.qualification import chosen

BROKEN = 1

DEVICES = (
    "e1000e",
    "nvme,serial=1",
    "pvpanic-pci",
    "pvscsi",
    "virtio-balloon-pci",
    "virtio-net-pci,romfile=",
    "vmxnet3,romfile=",
)
"""Devices for the drivers. q35 has an AHCI controller of its own, and the test device is for bochs."""


@dataclass(frozen=True)
class Observed:
    """The observations of a guest.

    :param release: The kernel's release.
    :param observations: The observations, in the order of the kernel's answers.
    :param status: How far the observations can be relied on.
    :param loaded: Names of the drivers that were loaded.
    :param notes: Remarks on what could not be done, one line each.
    """

    release: str
    observations: tuple[Observation, ...]
    status: ObservationStatus
    loaded: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def broken(self) -> tuple[Observation, ...]:
        """Observations of mappings that break a rule."""
        return tuple(each for each in self.observations if each.rule is not None)


def run_observe(arguments: Sequence[str]) -> int:
    """Observe a guest of each kernel and print the observations.

    :param arguments: ``--kernel SPEC`` (several times), ``--layout NAME``, ``--accel auto|tcg|kvm``,
        ``--offline``.
    :returns: 0 when no mapping breaks a rule, 1 when one does, 3 when none did but not all could be seen.
    :raises UsageError: an argument can't be used.
    :raises MemtypeError: a kernel can't be had, or its guest can't be used.
    """
    takes = [option for option in OPTIONS if option.observes]
    *names, last = (option.name for option in takes)
    advice = f"; it takes {', '.join(names)} and {last} only"
    parser = OptionParser(takes, before="run --observe: ", advice=advice)
    known = parser.parse_args(list(arguments))
    if known.offline:
        mirror.stay_offline()
    check_choice("--accel", known.accel, ACCELERATORS)
    layout = load_layout(known.layout, layout_folders())
    found = unseen = False
    for status in ready(known.kernel or DEFAULT):
        assert status.made is not None
        with shown(Console(stderr=True)) as progress:
            observed = observe(status.made, layout=layout, accelerator=known.accel, progress=progress)
        show(observed, Console(width=None if is_terminal(Console()) else 200))
        found = found or bool(observed.broken)
        unseen = unseen or not observed.status.complete
    if found:
        return BROKEN
    return HostError.exit_status if unseen else 0


def observe(made: Bundle, *, layout: Layout, accelerator: Wanted, progress: Progress) -> Observed:
    """Boot a guest, load the drivers that its kernel has, and return the observations of their mappings.

    :param made: The kernel, with its module.
    :param layout: The layout that the MTRRs are programmed with.
    :param accelerator: The accelerator that the user wants, or ``auto``.
    :param progress: Called with one line at the start of each slow stage.
    :raises HostError: the kernel has no module for its guest, or the host can't run it.
    :raises MemtypeError: the drivers can't be had, or the guest can't be used.
    """
    if made.module is None:
        raise HostError(f"kernel {made.release}: nothing can be observed without the module; use another")
    # Before anything is fetched for it.
    check_bootable(layout)
    register_writes(layout, physical_bits=Hardware().physical_bits)
    choice = chosen(made, accelerator, progress=progress).accelerator
    kept = drivers(made, progress=progress)
    notes = [] if kept else [f"no drivers were loaded: {made.spec} is not one of Debian's kernels"]
    uncovered = uncovered_ram(layout, Hardware())
    notes += [uncovered] if uncovered else []
    with temporary_folder("observe") as name:
        archive = Path(name) / "initramfs.cpio"
        # The kernel unpacks several archives one behind the other (Documentation/driver-api/early-userspace/
        # buffer-format.rst).
        archive.write_bytes(made.initramfs.read_bytes() + (kept.archive.read_bytes() if kept else b""))
        plan = GuestPlan(made.image, archive, layout, Hardware(), choice, DEVICES)
        progress(f"booting {made.release}")
        guest = booted(plan, logs=Path(name) / "logs")
        with guest.machine:
            status = guest.observation()
            notes += (str(probe) for probe in status.probes if not probe.armed)
            loaded, failed = _load(guest, kept.order if kept else ())
            notes += failed
            if kept and kept.built_in:
                notes.append(f"built into this kernel: {', '.join(kept.built_in)}")
            if kept and kept.missing:
                notes.append(f"not in this kernel: {', '.join(kept.missing)}")
            return Observed(
                made.release, tuple(guest.observed()), guest.observation(), tuple(loaded), tuple(notes)
            )


def _load(guest: Guest, order: Sequence[str]) -> tuple[list[str], list[str]]:
    """Load modules; returns the names of those that were loaded, and a line for each that could not be."""
    loaded, failed = [], []
    for name in order:
        result = guest.shell(f"insmod /{FOLDER}/{name}.ko")
        if result.status:
            failed.append(f"{name} could not be loaded: {result.output.strip()}")
        else:
            loaded.append(name)
    return loaded, failed


def show(observed: Observed, console: Console) -> None:
    """Print the mappings that break a rule, the notes, and how many mappings were seen."""
    console.print(f"{observed.release}: normal boot, then {', '.join(observed.loaded) or 'no driver'}")
    if observed.broken:
        console.print(_table(observed.broken))
    for note in observed.notes:
        console.print(note, markup=False, highlight=False)
    seeded = sum(each.seeded for each in observed.observations)
    count = len(observed.observations)
    lost = observed.status.missed + observed.status.dropped
    console.print(
        f"{count} mappings observed ({seeded} from before the module, {count - seeded} since), {lost} lost; "
        f"{len(observed.broken)} break the rules",
        highlight=False,
    )


def _table(broken: Sequence[Observation]) -> Table:
    table = Table(box=None, header_style="bold")
    for column in ("memory", "asked for", "given", "by", "task", "rule", "in conflict with"):
        table.add_column(column, overflow="fold")
    for each in broken:
        cells = (
            str(each.region),
            "unknown" if each.requested is None else str(each.requested),
            "refused" if each.granted is None else str(each.granted),
            each.caller or "before the module",
            f"{each.task}:{each.pid}" if each.task else "",
            each.rule or "",
            "" if each.conflict is None else str(each.conflict),
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table
