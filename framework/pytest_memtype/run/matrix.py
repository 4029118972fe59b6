"""Measurement for ``memtype layouts matrix``: the type that guests grant for each request and MTRR type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path

from pytest_memtype.errors import GuestError, UsageError
from pytest_memtype.guest.device_memory import DEVICE_MEMORY
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.outcome import Outcome
from pytest_memtype.guest.region import PAGE_SIZE, Region
from pytest_memtype.host.private_folder import temporary_folder
from pytest_memtype.host.progress import Progress
from pytest_memtype.kernels.ready import ready
from pytest_memtype.kernels.sets import DEFAULT
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.report.matrix import MTRR_ROWS, REQUESTED, Cell, Matrix
from pytest_memtype.run.session import GuestSpec, Session
from pytest_memtype.x86.effective import effective_type
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrRange, memory_type_at

_WINDOW = 1 << 20

LAYOUT = Layout(
    "matrix",
    default=MemType.UC,
    ranges=[
        MtrrRange(0, "256M", MemType.WB),
        *(
            MtrrRange(DEVICE_MEMORY + number * _WINDOW, "1M", memtype)
            for number, memtype in enumerate(MTRR_ROWS)
            if memtype is not MemType.UC
        ),
    ],
    description="a megabyte of the test device's memory for each MTRR type",
)


def matrices(kernels: Iterable[str], *, cpu: str = Hardware.cpu, progress: Progress) -> Iterator[Matrix]:
    """Measure the matrices of a guest of each kernel.

    :param kernels: Specs of kernels; none for the default set.
    :param cpu: QEMU's ``-cpu``; its vendor decides whose table applies.
    :param progress: Called with one line at the start of each slow stage.
    :raises UsageError: the CPU has no MTRRs.
    :raises MemtypeError: a kernel can't be had, or its guest can't be used.
    """
    hardware = Hardware(cpu=cpu)
    for status in ready(list(kernels) or DEFAULT):
        assert status.made is not None
        with temporary_folder("matrix") as folder:
            session = Session(Path(folder), progress=progress, fresh="clone", accelerator="auto")
            kind = GuestSpec(status.made.spec, LAYOUT, hardware)
            guest = session.start(kind, logs=Path(folder) / "guest").guest
            try:
                yield from measure(guest)
            finally:
                guest.machine.close()
                session.close()


def measure(guest: Guest) -> tuple[Matrix, Matrix]:
    """Ask for each type over each MTRR type, with ioremap and with mmap.

    :param guest: A guest with the layout :data:`LAYOUT`.
    :raises UsageError: the guest's CPU has no MTRRs.
    :raises GuestError: the guest's MTRRs are not those of the layout.
    """
    state = guest.registers()[0].mtrr
    if state is None:
        raise UsageError(
            f"cpu {guest.hardware.cpu!r} has no MTRRs to measure; use one that has, like 'qemu64'"
        )
    windows: dict[MemType, Iterator[Region]] = {}
    for number, memtype in enumerate(MTRR_ROWS):
        start = DEVICE_MEMORY + number * _WINDOW
        found = memory_type_at(state, start)
        if found is not memtype:
            raise GuestError(f"the MTRRs say {found} at {start:#x}, where layout {LAYOUT.name} has {memtype}")
        windows[memtype] = _pages(guest, start)
    driver, process = guest.driver("matrix"), guest.process("matrix")
    return (
        _matrix(guest, "ioremap", windows, driver.ioremap),
        _matrix(guest, "mmap", windows, process.mmap),
    )


def _pages(guest: Guest, start: int) -> Iterator[Region]:
    # A page lies free behind each, so that no earlier mapping influences the next.
    return (guest.region(start + 2 * number * PAGE_SIZE, PAGE_SIZE) for number in count())


def _matrix(
    guest: Guest,
    way: str,
    windows: dict[MemType, Iterator[Region]],
    ask: Callable[[Region, MemType], Outcome],
) -> Matrix:
    vendor = guest.registers()[0].vendor
    cells = []
    for mtrr in MTRR_ROWS:
        for requested in REQUESTED:
            outcome = ask(next(windows[mtrr]), requested)
            manual = effective_type(mtrr, requested, vendor)
            cells.append(Cell(mtrr, requested, outcome.granted, outcome.effective, manual))
    return Matrix(guest.release, vendor, way, tuple(cells))
