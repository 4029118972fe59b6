"""A kernel whose headers the mirror has dropped: no module, and what can be tested all the same."""

from __future__ import annotations

import pytest

from pytest_memtype import MemType
from pytest_memtype.errors import KernelError, ModuleMissing
from pytest_memtype.host.progress import silent
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.kernels.index import Kernel
from pytest_memtype.kernels.kept_indexes import every
from pytest_memtype.plugin.fixtures import GuestFactory

# The first download takes a while.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def kernel() -> str:
    """The oldest kernel since 6.16 that has an image and no headers."""

    def fits(each: Kernel) -> bool:
        return not each.headers and tuple(map(int, each.series.split("."))) >= (6, 16)

    try:
        spec = next(
            f"debian:{each.release}" for each in every(cache=cache_directory(), progress=silent) if fits(each)
        )
    except (StopIteration, KernelError) as error:
        pytest.skip(f"the mirror has no kernel without headers: {error!r}")
    return spec


def test_the_bundle_has_no_module(kernel: str) -> None:
    made = bundle(kernel)
    assert made.module is None
    # What every module says it is for.
    assert b"vermagic=" not in made.initramfs.read_bytes()


def test_user_mappings_and_their_page_tables(guest_factory: GuestFactory, kernel: str) -> None:
    guest = guest_factory(kernel=kernel)
    bar, other = guest.mmio(pages=4), guest.mmio(pages=2)
    process = guest.process("X")

    first = process.mmap(bar, MemType.WC, via="sysfs")
    assert first.verdict_or_none is None
    assert first.kernel.accepted
    assert first.granted_pages == (MemType.WC,) * 4
    assert first.effective is None
    assert process.mmap(other, MemType.UC_MINUS, via="sysfs").granted is MemType.UC_MINUS
    # /dev/mem takes over the type in use.
    second = guest.process("Y").mmap(bar, MemType.UC_MINUS, via="devmem")
    assert second.granted is MemType.WC
    assert [(entry.region, entry.memtype) for entry in guest.memtype_list(bar)] == [(bar, MemType.WC)] * 2

    assert first.mapping is not None
    child = process.fork()
    assert child.munmap(first.mapping) == 0
    process.exit()
    child.exit()


def test_pages_that_a_process_may_not_touch(guest_factory: GuestFactory, kernel: str) -> None:
    """Linux keeps page and type in their entries, the address inverted (asm/pgtable-invert.h)."""
    guest = guest_factory(kernel=kernel)
    bar = guest.mmio(pages=2)
    process = guest.process("X")
    for protection in ("", "r"):
        outcome = process.mmap(bar, MemType.WC, via="sysfs", protection=protection)
        assert outcome.granted_pages == (MemType.WC,) * 2
        assert outcome.mapping is not None
        assert process.mprotect(outcome.mapping, "") == 0
        assert process.physical(outcome.mapping, 1) == bar[1].start
        assert process.munmap(outcome.mapping) == 0


def test_what_needs_the_module_says_so(guest_factory: GuestFactory, kernel: str) -> None:
    guest = guest_factory(kernel=kernel)
    bar = guest.mmio(pages=1)
    mapped = guest.process("X").mmap(bar, MemType.WC, via="sysfs")
    for ask in (
        lambda: guest.driver("drm").ioremap(bar, MemType.WC),
        lambda: guest.process("Y").mmap(bar, MemType.WC, via="driver"),
        lambda: guest.verify(bar, MemType.WC),
        lambda: guest.tracked(),
        lambda: guest.registers(),
        lambda: guest.ram(pages=1),
        lambda: mapped.verdict,
    ):
        with pytest.raises(ModuleMissing, match="can't be built for this kernel: its headers are gone"):
            ask()
    guest.reset()
    assert guest.process("X").mmap(bar, MemType.UC_MINUS, via="sysfs").granted is MemType.UC_MINUS


TESTS = """
import pytest
from pytest_memtype import MemType

def test_with_the_kernel_alone(guest):
    assert guest.process("X").mmap(guest.mmio(pages=1), MemType.WC, via="sysfs").granted is MemType.WC

def test_with_a_driver(guest):
    guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC)

@pytest.fixture
def tracked(guest):
    return guest.tracked()

def test_with_a_fixture(tracked):
    pass

# No guest can be started with it.
@pytest.mark.hardware(cpu="none-that-exists")
@pytest.mark.needs_module
def test_that_says_so(guest):
    pass
"""


def test_tests_that_need_the_module_are_skipped_with_that_reason(
    pytester: pytest.Pytester, kernel: str
) -> None:
    bundle(kernel)
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--accel", "tcg", "-rs", "--kernel", kernel
    )
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines(["*ioremap needs the guest's module*its headers are gone"])
    result.stdout.fnmatch_lines(["*the test needs the guest's module*its headers are gone"])
