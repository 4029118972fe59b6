"""Whose memory is where, from QEMU's own account."""

from __future__ import annotations

import pytest

from pytest_memtype.audit.mtree import owners_in_tree
from pytest_memtype.errors import UsageError
from pytest_memtype.machine.memory_map import Kind

# QEMU 7.2, "info mtree -f" of q35 with 3 GiB, shortened.
TREE = """\
FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-00000000000bffff (prio 0, ram): ram KVM
  00000000000c0000-00000000000fffff (prio 0, rom): ram @00000000000c0000
  0000000000100000-000000007fffffff (prio 0, ram): ram @0000000000100000
  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram
  00000000fec00000-00000000fec00fff (prio 0, i/o): kvm-ioapic
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios
  0000000100000000-000000013fffffff (prio 0, ram): ram @0000000080000000
  0000000140000000-000000014fffffff (prio 0, ram): dimm
"""


def test_owners() -> None:
    found = [(each.start, each.end, each.kind) for each in owners_in_tree(TREE, backends={"dimm"})]
    assert found == [
        (0, 0xA0000, Kind.RAM),
        (0xA0000, 0xC0000, Kind.ISA_HOLE),
        (0xC0000, 0x100000, Kind.FIRMWARE),
        (0x100000, 0x80000000, Kind.RAM),
        (0xFD000000, 0xFE000000, Kind.BAR),
        (0xFEC00000, 0xFEC01000, Kind.CHIPSET),
        (0xFFFC0000, 0x100000000, Kind.FIRMWARE),
        (0x100000000, 0x140000000, Kind.RAM),
        (0x140000000, 0x150000000, Kind.RAM),
    ]
    # Without being told, a backend of another name is no RAM.
    assert owners_in_tree(TREE)[-1].kind is Kind.BAR


def test_names_of_somebody_elses_qemu_move_no_cursor() -> None:
    """They are printed as the owners of memory."""
    tree = TREE.replace("vga.vram", "\x1b]0;mine\x07\x1b[2J").replace("dimm", "\x9b2J")
    found = {each.start: each for each in owners_in_tree(tree, backends={"\x9b2J"})}
    assert found[0xFD000000].name == "\\x1b]0;mine\\x07\\x1b[2J"
    assert (found[0x140000000].name, found[0x140000000].kind) == ("\\x9b2J", Kind.RAM)


def test_a_tree_without_a_cpu() -> None:
    with pytest.raises(UsageError, match="no memory of a CPU"):
        owners_in_tree(TREE.replace("cpu-memory-0", "smram"))
