"""CPUs with faults of their own, which Linux still works around: Intel's before the Core 2.

QEMU lets a CPU have any family and model, and TCG none of their faults: seen is what Linux does about them.
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, Layout, MemType

pytestmark = pytest.mark.needs_module

WB, WC, UC, UC_MINUS, WT, WP = (MemType[name] for name in ("WB", "WC", "UC", "UC_MINUS", "WT", "WP"))

MIB = 1 << 20


def cpu(vendor: str, family: int, model: int) -> pytest.MarkDecorator:
    return pytest.mark.hardware(cpu=f"qemu64,vendor={vendor},family={family},model={model}")


LOWER = (WB, WC, UC_MINUS, UC)
AT_RESET = (WB, WT, UC_MINUS, UC)


@pytest.mark.parametrize(
    "pat",
    [
        pytest.param(AT_RESET + AT_RESET, marks=cpu("GenuineIntel", 6, 14), id="core-duo"),
        pytest.param((*LOWER, WB, WP, UC_MINUS, WT), marks=cpu("GenuineIntel", 6, 15), id="core-2"),
        pytest.param(LOWER + LOWER, marks=cpu("GenuineIntel", 15, 6), id="pentium-4"),
        pytest.param((*LOWER, WB, WP, UC_MINUS, WT), marks=cpu("GenuineIntel", 15, 7), id="none-of-intel's"),
        pytest.param((*LOWER, WB, WP, UC_MINUS, WT), marks=cpu("AuthenticAMD", 15, 6), id="amd"),
    ],
)
def test_how_much_of_a_pat(guest: Guest, pat: tuple[MemType, ...]) -> None:
    """None before the Core 2 (family 6; kernel/cpu/intel.c, early_init_intel()), and half of one on a
    Pentium 4 (family 15, up to model 6; pat_bp_init()). 5.10 to 7.3."""
    assert {each.pat for each in guest.registers()} == {pat}


@pytest.mark.hardware(cpu="kvm64")
def test_four_slots_of_the_pat(guest: Guest) -> None:
    """A Pentium 4 (family 15, up to model 6) may take slot 7 for slot 3, so the upper half repeats the lower
    and there is no WT: who asks for it gets UC- (arch/x86/mm/pat/memtype.c, pat_bp_init(); 5.10 to 7.3)."""
    bar = guest.mmio(pages=3)
    drm = guest.driver("drm")
    assert drm.ioremap(bar[0], WC).granted is WC
    through = drm.ioremap(bar[1], WT)
    assert through.kernel.accepted
    assert through.granted is UC_MINUS
    # Linux' books have the wish.
    assert [(each.region, each.memtype) for each in guest.memtype_list(bar)] == [(bar[0], WC), (bar[1], WT)]
    assert guest.process("X").mmap(bar[2], UC_MINUS).granted is UC_MINUS


@pytest.mark.needs_config("KPROBES")
@pytest.mark.layout(Layout("bare", default=WB))
@pytest.mark.hardware(cpu="qemu64,vendor=GenuineIntel,family=6,model=1,stepping=7")
def test_mtrrs_of_a_pentium_pro(guest: Guest) -> None:
    """They start at 4 MiB and its multiples, and must not make 256 KiB at 1792 MiB writable from the cache
    (arch/x86/kernel/cpu/mtrr/generic.c, generic_validate_add_page(); 5.10 to 7.3)."""

    def add(base: int, size: int, number: int) -> int:
        return guest.kernel.call("mtrr_add", base, size, number, 1).number

    write_combining, write_back, uncachable = 1, 6, 0
    for base in (0xFD100000, 0xFD200000):
        assert add(base, MIB, write_combining) == -errno.EINVAL
    for memtype in (write_combining, write_back):
        assert add(0x70000000, 4 * MIB, memtype) == -errno.EINVAL
    assert guest.mtrr_list() == ()
    assert add(0x70000000, 4 * MIB, uncachable) == 0
    assert add(0xFD000000, MIB, write_combining) == 1
    assert [(each.base, each.memtype) for each in guest.mtrr_list()] == [(0x70000000, UC), (0xFD000000, WC)]
