"""Pictures of a guest's display."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_memtype.errors import GuestError
from pytest_memtype.host.private_folder import temporary_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_memtype.machine.qmp import Qmp


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of a display.

    :param pixels: Array of shape (height, width, 3): red, green and blue, 0 to 255.
    """

    pixels: NDArray[np.uint8]

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    def colours(self) -> dict[tuple[int, int, int], int]:
        """Number of pixels of each colour, (red, green, blue)."""
        import numpy as np

        found, counts = np.unique(self.pixels.reshape(-1, 3), axis=0, return_counts=True)
        return {
            (int(red), int(green), int(blue)): int(count)
            for (red, green, blue), count in zip(found, counts, strict=True)
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and bool(
            self.pixels.shape == other.pixels.shape and (self.pixels == other.pixels).all()
        )

    __hash__ = None  # type: ignore[assignment]


def screenshot(qmp: Qmp, *, device: str | None = None) -> Picture:
    """A picture of a guest's display at this moment.

    :param qmp: The guest's QMP.
    :param device: QEMU's id of the display, None for its first.
    :raises GuestError: there is no such display, or it shows nothing.
    """
    with temporary_folder("screen") as folder:
        file = Path(folder) / "screen.ppm"
        qmp.execute("screendump", {"filename": os.fspath(file), **({"device": device} if device else {})})
        return read_ppm(file.read_bytes())


def read_ppm(content: bytes) -> Picture:
    """Read a portable pixmap, P6 with one byte for each colour.

    QEMU writes it so (QEMU 7.2, ui/console.c, ppm_save()).

    :param content: Content of the file.
    :raises GuestError: the content is no such pixmap, or only a part of one.
    """
    import numpy as np

    try:
        kind, size, depth, pixels = content.split(b"\n", 3)
        width, height = (int(number) for number in size.split())
        if kind != b"P6" or depth != b"255" or len(pixels) != width * height * 3:
            raise ValueError
    except ValueError:
        raise GuestError(
            f"QEMU's screendump is no picture: {len(content)} bytes that begin with {content[:16]!r}"
        ) from None
    return Picture(np.frombuffer(pixels, np.uint8).reshape(height, width, 3))
