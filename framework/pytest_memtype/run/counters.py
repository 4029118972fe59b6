"""The collection of a kernel's coverage: the counters of every guest of a run, for the folder of the run."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from weakref import WeakKeyDictionary

from pytest_memtype.coverage.reading import Reading, has, write
from pytest_memtype.errors import GuestExited, MemtypeError
from pytest_memtype.guest.guest import Guest
from pytest_memtype.machine.state import GuestState
from pytest_memtype.run.alias_check import template_of

#: The option of the kernel that counts.
GCOV = "GCOV_KERNEL"


class CounterCollector:
    """A collector of the counters of the guests of one process of a run.

    :param run: The run's folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._templates: WeakKeyDictionary[Guest, str] = WeakKeyDictionary()

    def begin(self, guest: Guest, *, kernel: str) -> None:
        """Note what a guest's counters begin with, which for a clone is its template's.

        :param guest: The guest, which has just been started.
        :param kernel: The spec of its kernel.
        """
        template = template_of(guest)
        if template is None:
            return
        name = f"template-{hashlib.sha256(repr(template).encode()).hexdigest()[:16]}"
        if has(self._run, name):
            # Some clone has told what all of them begin with.
            self._templates[guest] = name
            return
        # What this one counts from here on is its test's, as reading has set its counters to 0.
        self._read(guest, "", kernel=kernel, name=name, template=name)

    def end(self, guest: Guest, *, kernel: str, test: str) -> None:
        """Note what a guest has counted for a test. It goes on from 0.

        :param guest: The guest, whose test has ended.
        :param kernel: The spec of its kernel.
        :param test: The node id of the test.
        """
        self._read(guest, test, kernel=kernel, name=f"test-{time.time_ns()}-{os.getpid()}")

    def begin_again(self, guest: Guest, *, kernel: str) -> None:
        """Note what a kernel has counted that has loaded itself anew: a boot, as that of a template.

        :param guest: The guest, whose counters before that have been read.
        :param kernel: The spec of its kernel.
        """
        name = f"boot-{time.time_ns()}-{os.getpid()}"
        self._read(guest, "", kernel=kernel, name=name, template=name)

    def _read(self, guest: Guest, test: str, *, kernel: str, name: str, template: str = "") -> None:
        began = template or self._templates.pop(guest, "")
        state = guest.machine.state
        try:
            if state is GuestState.STOPPED:
                guest.machine.resume()
            elif state is not GuestState.READY:
                # It has taken its counters with it, which a test may have wanted, or won't answer.
                raise GuestExited(f"the guest is {state.name.lower()}")
            found = guest.gcov_counters()
            reading = Reading(test, kernel, began, found.names, found.packed)
        except MemtypeError as error:
            reading = Reading(test, kernel, began, lost=error.message)
        write(reading, self._run, name)
