"""/dev/mem, read and written, and its limits: drivers/char/mem.c with CONFIG_STRICT_DEVMEM."""

from __future__ import annotations

import errno
import re

import pytest

from pytest_memtype import Guest, MemType

pytestmark = pytest.mark.needs_config("DEVMEM", "STRICT_DEVMEM")

PAGE = 4096
MIB = 1 << 20

# What busybox's dd says, by strerror().
_ERRORS = {"Operation not permitted": errno.EPERM, "Bad address": errno.EFAULT}


def read(guest: Guest, start: int, size: int) -> bytes | int:
    """Read in one call, from an address that is a multiple of the size; the bytes, or the errno."""
    script = f"dd if=/dev/mem bs={size} skip={start // size} count=1 of=/tmp/read 2>/tmp/said"
    return _result(guest, script, "od -An -v -tx1 /tmp/read")


def write(guest: Guest, start: int, data: bytes) -> int:
    """Write in one call, as :func:`read`; the errno."""
    octal = "".join(f"\\{byte:03o}" for byte in data)
    size = len(data)
    dd = f"dd of=/dev/mem bs={size} seek={start // size} count=1 conv=notrunc 2>/tmp/said"
    # How many whole pieces it wrote: dd ends well with none.
    script = f"printf '{octal}' > /tmp/data; {dd} if=/tmp/data"
    answer = _result(guest, script, "grep -qx '1+0 records out' /tmp/said")
    return answer if isinstance(answer, int) else 0


def _result(guest: Guest, script: str, show: str) -> bytes | int:
    done = guest.shell(f"mkdir -p /tmp; {script} && {show} || cat /tmp/said")
    for words, number in _ERRORS.items():
        if words in done.output:
            return number
    assert re.fullmatch(r"[0-9a-f\s]*", done.output), done.output
    return bytes.fromhex(done.output)


def memory(guest: Guest, start: int, size: int) -> bytes:
    """What the guest's memory has, from outside."""
    said = guest.qmp.execute("human-monitor-command", {"command-line": f"xp /{size}xb {start:#x}"})
    found = bytes.fromhex("".join(re.findall(r"0x([0-9a-f]{2})\b", re.sub(r"(?m)^[0-9a-f]+:", "", said))))
    assert len(found) == size, said
    return found


def end_of_ram(guest: Guest) -> int:
    """Where the last RAM ends that the kernel uses."""
    lines = guest.shell("cat /proc/iomem").output.splitlines()
    ram = [line for line in lines if line.endswith(" : System RAM") and not line.startswith(" ")]
    return int(ram[-1].partition("-")[2].partition(" ")[0], 16) + 1


def test_the_firmware_s_memory_is_shown(guest: Guest) -> None:
    """The last 16 bytes below 1 MiB jump to the firmware, and page 0 has its vectors: neither is RAM."""
    reset = read(guest, 0xFFFF0, 16)
    assert reset == memory(guest, 0xFFFF0, 16)
    # A far jump (Intel SDM vol. 2, "JMP").
    assert isinstance(reset, bytes)
    assert reset[0] == 0xEA
    assert read(guest, 0x10, 16) == memory(guest, 0x10, 16) != bytes(16)


def test_ram_below_one_megabyte_is_shown_as_zeros(guest: Guest) -> None:
    """devmem_is_allowed() says 2: programs that look for tables there are not to fail, and see nothing.

    The kernel's own code for starting CPUs lies there.
    """
    first, last = 0x1000, 0x9F000
    inside = [memory(guest, start, 256) for start in range(first, last, PAGE)]
    assert any(any(each) for each in inside)
    # dd begins at multiples of what it reads at once.
    for start, size in [(0x1000, 0x1000), (0x2000, 0x2000), (0x10000, 0x10000), (0x80000, 0x10000)]:
        # How many bytes it read, and how many of them are no zeros.
        done = guest.shell(
            f"dd if=/dev/mem bs={size} skip={start // size} count=1 of=/tmp/zeros 2>/dev/null;"
            " wc -c < /tmp/zeros; tr -d '\\000' < /tmp/zeros | wc -c"
        )
        assert done.output.split() == [str(size), "0"], hex(start)
    assert read(guest, 0x9E000, PAGE) == bytes(PAGE)


def test_ram_below_one_megabyte_is_not_written(guest: Guest) -> None:
    """As it is read: success, and no effect."""
    before = memory(guest, 0x9E000, 16)
    assert write(guest, 0x9E000, b"nobody writes it") == 0
    assert memory(guest, 0x9E000, 16) == before


def test_what_is_not_ram_is_written(guest: Guest) -> None:
    """The area for messages between programs of the BIOS data, 0x4F0 to 0x4FF; not the bytes around it."""
    around = memory(guest, 0x4E0, 16), memory(guest, 0x500, 16)
    assert write(guest, 0x4F0, b"memtype was here") == 0
    assert memory(guest, 0x4F0, 16) == b"memtype was here"
    assert (memory(guest, 0x4E0, 16), memory(guest, 0x500, 16)) == around
    assert read(guest, 0x4F0, 16) == b"memtype was here"


def test_ram_is_neither_read_nor_written(guest: Guest) -> None:
    """Nor is a range that ends in it, not even its first half: RAM begins again at 1 MiB."""
    ram = guest.ram(pages=1).start
    for start, size in [(MIB, PAGE), (16 * MIB, 16), (ram, 16), (0xF8000, 0x10000 // 2), (0, 2 * MIB)]:
        expected = errno.EPERM if start + size > MIB else None
        found = read(guest, start, size)
        assert (len(found) if isinstance(found, bytes) else found) == (expected or size)
    before = memory(guest, ram, 16)
    assert write(guest, ram, b"nobody writes it") == errno.EPERM
    assert memory(guest, ram, 16) == before


def test_what_lies_behind_the_direct_map(guest: Guest) -> None:
    """valid_phys_addr_range(): up to high_memory, the end of RAM; device memory is for mmap()."""
    end = end_of_ram(guest)
    bar = guest.mmio(pages=1)
    # A power of two that RAM doesn't end at a multiple of.
    odd = 2 * (end & -end)
    for start, size, expected in [
        (end - PAGE, PAGE, errno.EPERM),
        (end, PAGE, errno.EFAULT),
        (end - end % odd, odd, errno.EFAULT),
        (bar.start, 16, errno.EFAULT),
        (1 << 40, 16, errno.EFAULT),
    ]:
        assert read(guest, start, size) == expected, hex(start)
    assert write(guest, bar.start, bytes(16)) == errno.EFAULT


@pytest.mark.parametrize(
    ("start", "pages", "allowed"),
    [((1 << 40) - PAGE, 1, True), ((1 << 40) - PAGE, 2, False), (1 << 40, 1, False), (1 << 51, 1, False)],
    ids=["last", "across", "behind", "far-behind"],
)
def test_addresses_that_no_cpu_has(guest: Guest, start: int, pages: int, allowed: bool) -> None:
    """valid_mmap_phys_addr_range(): the guest's CPU has 40 bits."""
    region = guest.region(start, pages * PAGE)
    outcome = guest.process("X").mmap(region, MemType.UC_MINUS, via="devmem")
    assert outcome.kernel is not None
    assert outcome.kernel.errno == (0 if allowed else errno.EINVAL)
    assert len(guest.memtype_list(region)) == allowed
