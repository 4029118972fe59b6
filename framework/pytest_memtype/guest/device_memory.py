"""Windows of device memory, handed out one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_memtype.errors import UsageError
from pytest_memtype.guest.region import Region

DEVICE_MEMORY = 0xFD000000
"""Address at which SeaBIOS puts a prefetchable BAR of 16 MiB on q35 without default devices (QEMU 7.2)."""


class DeviceMemory:
    """Device memory that tests may use: the test device's prefetchable BAR.

    :ivar bar: The BAR.
    :ivar taken: Parts of the BAR that are never handed out.
    """

    def __init__(self, bar: Region, taken: Sequence[Region] = ()) -> None:
        self.bar = bar
        self.taken = taken
        self._next_page = 0

    def take(self, pages: int, *, align: int) -> Region:
        """Hand out a window that was never handed out before.

        :param pages: How many pages the window has, at least 1.
        :param align: Alignment of its first page within the BAR, in pages, a power of two.
        :raises UsageError: the BAR has no such window left, or a number is wrong.
        """
        if pages < 1 or align < 1 or align & (align - 1):
            raise UsageError(f"mmio: pages={pages} and align={align}: both at least 1, align a power of two")
        first = -(-self._next_page // align) * align
        while first + pages <= self.bar.pages and any(
            each.overlaps(self.bar[first : first + pages]) for each in self.taken
        ):
            first += align
        if first + pages > self.bar.pages:
            raise UsageError(
                f"mmio: no {pages} free pages: the test device has {self.bar.pages}, and tests or the "
                f"kernel use {first} of them"
            )
        # A page stays free behind each window, so that no two tests' windows ever touch.
        self._next_page = first + pages + 1
        return self.bar[first : first + pages]
