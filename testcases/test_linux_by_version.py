"""What Linux does differently from version to version, with nothing else in the way: for ``memtype compare``.

"Rules" is reference/kernel-rules.md's table of version differences; the same rows are in
:mod:`pytest_memtype.spec.linux_versions`, by which the expectations here go.
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType
from pytest_memtype.errors import AgentError
from pytest_memtype.x86 import pat
from pytest_memtype.x86.pat import LINUX_PAT, RESET_PAT

UC, UC_MINUS, WC = MemType.UC, MemType.UC_MINUS, MemType.WC

WITHOUT_MTRR = pytest.mark.hardware(cpu="qemu64,-mtrr")


@pytest.mark.expect_alias  # the written page is RAM, UC- here and WB by the kernel
def test_fork_of_a_private_mapping_that_was_written(guest: Guest) -> None:
    """Up to 6.15 fork() reads the type from the first page, which is a copy in RAM by then, and fails; from
    6.16 on parent and child share one context ("mm: rewrite pfnmap tracking and remove VM_PAT").
    """
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    mapping = process.mmap(bar, UC_MINUS, via="sysfs", private=True).mapping
    assert mapping is not None
    process.write(mapping, page=0)

    if guest.version >= (6, 16):
        process.fork("Y")
    else:
        with pytest.raises(OSError, match="fork") as failure:
            process.fork("Y")
        assert failure.value.errno == errno.ENOMEM


@pytest.mark.parametrize(
    ("offset", "kept"), [(0, (0, 4)), (1, (0, 4)), (2, (0, 2))], ids=["head", "middle", "tail"]
)
def test_what_a_partial_munmap_leaves_reserved(guest: Guest, offset: int, kept: tuple[int, int]) -> None:
    """Up to 6.15 an entry with the same end is shortened, and no other is found; from 6.16 on the whole range
    stays until its last page goes (rules, 2.5).
    """
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    mapping = process.mmap(bar, UC_MINUS, via="sysfs").mapping
    assert mapping is not None

    assert process.munmap(mapping, offset=offset, pages=2) == 0

    first, end = (0, 4) if guest.version >= (6, 16) else kept
    assert [entry.region for entry in guest.memtype_list(bar)] == [bar[first:end]]
    process.exit()
    # What is found neither by its range nor by its end is left for ever (bugs, 4.1).
    lost = offset != 2 and guest.version < (6, 16)
    assert bool(guest.memtype_list(bar)) is lost


def test_writecombine_of_noncached(guest: Guest) -> None:
    """Drivers that write ``pgprot_writecombine(pgprot_noncached(prot))`` get what they mean only where the
    last word replaces the first; up to 6.12 the bits of both are ORed, and give UC.
    """
    outcome = guest.process("X").mmap(guest.mmio(pages=1), WC, via="noncached_writecombine")
    assert outcome.kernel.accepted
    assert outcome.granted is (WC if guest.version >= (6, 16) else UC)


@WITHOUT_MTRR
def test_pat_of_a_cpu_without_mtrr(guest: Guest) -> None:
    """The PAT was untied from the MTRRs in 6.2; before, Linux leaves the register as it was at reset."""
    (registers,) = guest.registers_outside()
    assert pat.decode(registers.pat_value) == pat.decode(LINUX_PAT if guest.version >= (6, 2) else RESET_PAT)


@WITHOUT_MTRR
def test_tracking_on_a_cpu_without_mtrr(guest: Guest) -> None:
    """5.10 has no list, because the PAT is off. 5.19 to 6.1 have one, though the PAT isn't set up
    (72cbc8f04fe2): there is no entry for WC, so that a mapping asks for UC- and is tracked so.
    """
    bar = guest.mmio(pages=1)
    process = guest.process("X")
    outcome = process.mmap(bar, WC, via="sysfs")
    if guest.version < (5, 19):
        assert outcome.kernel.errno == errno.ENOENT
        with pytest.raises(AgentError, match="memtype_list"):
            guest.memtype_list(bar)
        return
    memtype = WC if guest.version >= (6, 2) else UC_MINUS
    assert outcome.granted is memtype
    assert [entry.memtype for entry in guest.memtype_list(bar)] == [memtype]
