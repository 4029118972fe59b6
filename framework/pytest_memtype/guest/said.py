"""Reports of a guest's kernel on its console since a test began."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pytest_memtype.console.reports import ConsoleReport, find_reports
from pytest_memtype.console.text import sanitize

# init/version.c, linux_banner: a kernel's first line.
_BOOT: Final = b"Linux version "


class Said:
    """The reports of a kernel on its console, but for those of a boot that the test has caused.

    :param log: The console's log, which grows and may not be there yet.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self.begin_test()

    def begin_test(self) -> None:
        """Leave out all that was said before."""
        self._start = self.size
        self._before_boot: list[ConsoleReport] = []

    @property
    def size(self) -> int:
        """Bytes of the log at this moment."""
        return self._log.stat().st_size if self._log.exists() else 0

    def reports(self) -> tuple[ConsoleReport, ...]:
        """The reports since the test began."""
        return (*self._before_boot, *find_reports(sanitize(self._said())))

    def leave_boot_out(self, position: int) -> None:
        """Leave out the reports of a boot that has just ended.

        :param position: The log's size when the kernel before was told to go. It may have reported something
            after that, which isn't left out.
        """
        said = self._said()
        boot = said.find(_BOOT, position - self._start)
        if boot >= 0:
            self._before_boot.extend(find_reports(sanitize(said[:boot])))
            self._start += len(said)

    def _said(self) -> bytes:
        with self._log.open("rb") as file:
            file.seek(self._start)
            return file.read()
