"""``guests/module/verifier.c`` as a library of this process, built by ``guests/verifier_host/Makefile``."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cffi

from pytest_memtype.errors import HostError
from pytest_memtype.host.resources import guest_sources
from pytest_memtype.spec.verifier import Request, TrackedPage, pages_of
from pytest_memtype.x86.memtype import MemType

# In the order of enum verifier_rule.
RULES = (None, "malformed", "impossible", "ram-not-wb", "alias", "exclusive", "smram")
_HOST = guest_sources() / "verifier_host"
_CAPACITY = 4096
_LIMIT_SECONDS = 120


def make(target: str, folder: Path, *, module: Path | None = None) -> str:
    """Build a target of ``guests/verifier_host/Makefile`` in ``folder``.

    :param module: A folder with another ``verifier.c`` and ``verifier.h`` than the project's.
    :return: What it printed.
    :raises HostError: there is no compiler.
    :raises AssertionError: it doesn't build; the message is the compiler's.
    """
    for program in ("make", "clang"):
        if shutil.which(program) is None:
            raise HostError(f"{program}: not installed; install the packages make, clang and libclang-rt-dev")
    command = ["make", "-s", "-C", str(folder), "-f", str(_HOST / "Makefile"), "--no-print-directory", target]
    if module is not None:
        command.append(f"MODULE={module}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False)
    if done.returncode:
        raise AssertionError(f"{target} doesn't build:\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass(frozen=True)
class Answer:
    """What the verifier said.

    :param conflict: The pages of the mapping it named.
    :param hazards: Bit mask.
    """

    rule: str | None
    errno: int
    hazards: int
    conflict: tuple[TrackedPage, ...] | None


@dataclass(frozen=True)
class Record:
    """One tracked mapping.

    :param handle: What :meth:`Library.release` takes.
    """

    handle: int
    request: Request

    @property
    def last(self) -> int:
        return self.request.pfn + self.request.pages - 1


class Library:
    """One verifier on a machine that the test describes; see ``guests/verifier_host/library.h``.

    A process' number is its address space too.
    """

    def __init__(self, path: Path) -> None:
        # The stubs know nothing of a structure's fields.
        self._ffi: Any = cffi.FFI()
        lines = (_HOST / "library.h").read_text().splitlines()
        self._ffi.cdef("\n".join(line for line in lines if not line.startswith("#")))
        self._library: Any = self._ffi.dlopen(str(path))
        self._records = self._ffi.new("struct library_record[]", _CAPACITY)

    @contextmanager
    def started(self, **machine: int) -> Iterator[Library]:
        """A verifier with no records. Whatever it leaves behind at its end is an error.

        :param machine: The fields of ``struct library_machine``.
        """
        self.start(**machine)
        yield self
        assert self.stop() == 0, "allocations were left behind"

    def start(self, **machine: int) -> None:
        """See ``library.h``."""
        self._library.library_start(self._ffi.new("struct library_machine *", machine))

    def stop(self) -> int:
        """End the verifier and say how many allocations it left behind."""
        return int(self._library.library_stop())

    def allocations(self) -> int:
        """How many are held now."""
        return int(self._library.library_allocations())

    def fail_allocation(self, count: int) -> None:
        """Let the ``count``-th from now fail; 0 takes that back."""
        self._library.library_fail_allocation(count)

    def set_machine(self, *, possible: int, one_ioremap: bool) -> None:
        """Another PAT register, another policy."""
        self._library.library_set_machine(possible, one_ioremap)

    def hazards(self, first: int, last: int, memtype: int) -> int:
        """What the machine answers."""
        return int(self._library.library_hazards(first, last, memtype))

    def rescheduled(self) -> int:
        """How often others would have been let run so far."""
        return int(self._library.library_rescheduled())

    def check(self, request: Request, *, memtype: int | None = None) -> Answer:
        """``verifier_check()``.

        :param memtype: In place of the request's: a number that is none.
        """
        verdict = self._ffi.new("struct library_verdict *")
        self._library.library_check(self._request(request, memtype), verdict)
        return self._answer(verdict)

    def track(self, request: Request) -> tuple[Answer, int]:
        """``verifier_track()``: the answer, and a handle or 0."""
        verdict = self._ffi.new("struct library_verdict *")
        owner = request.owner.encode()
        handle = self._library.library_track(self._request(request), owner, verdict)
        return self._answer(verdict), int(handle)

    def adopt(self, request: Request, *, memtype: int | None = None) -> int:
        """``verifier_adopt()``: a handle or 0."""
        return int(self._library.library_adopt(self._request(request, memtype), request.owner.encode()))

    def release(self, handle: int) -> None:
        """``verifier_release()``."""
        self._library.library_release(handle)

    def cut(self, *, pid: int, address: int, pfn: int, pages: int) -> int:
        """``verifier_cut()``: how many pages were taken out."""
        return int(self._library.library_cut(pid, address, pfn, pages))

    def lookup(self, pfn: int, pages: int) -> tuple[int, MemType | None, bool]:
        """``verifier_lookup()``: errno, type and whether it is in use; the latter two count if errno is 0."""
        found = self._ffi.new("struct library_lookup *")
        self._library.library_lookup(pfn, pages, found)
        return int(found.error), None if found.error else MemType(found.memtype), bool(found.in_use)

    def records(self, first: int = 0, last: int = 2**64 - 1, *, capacity: int = _CAPACITY) -> list[Record]:
        """``verifier_each()`` until it has met ``capacity`` records."""
        count = self._library.library_list(first, last, self._records, capacity)
        assert count < _CAPACITY
        return [Record(int(each.handle), self._mapping(each)) for each in self._records[0:count]]

    def release_all(self, pid: int, first: int = 0, last: int = 2**64 - 1) -> int:
        """Releases the records of one space while ``verifier_each()`` walks over them."""
        return int(self._library.library_release_all(pid, first, last))

    def _request(self, request: Request, memtype: int | None = None) -> Any:
        fields = {
            "first": request.pfn,
            "pages": request.pages,
            "space": request.pid,
            "address": request.address,
            "memtype": request.memtype if memtype is None else memtype,
            "pid": request.pid,
        }
        return self._ffi.new("struct library_request *", fields)

    def _answer(self, verdict: Any) -> Answer:
        conflict = tuple(pages_of(self._mapping(verdict.conflict))) if verdict.has_conflict else None
        return Answer(RULES[verdict.rule], int(verdict.error), int(verdict.hazards), conflict)

    def _mapping(self, record: Any) -> Request:
        assert record.space == record.pid
        return Request(
            pfn=int(record.first),
            pages=int(record.last - record.first + 1),
            memtype=MemType(record.memtype),
            owner=self._ffi.string(record.owner).decode(),
            pid=int(record.pid),
            address=int(record.address),
        )
