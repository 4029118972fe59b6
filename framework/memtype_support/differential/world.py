"""Both reference models side by side, and what they expect of each operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import singledispatchmethod

from memtype_support.differential import operations as ops
from pytest_memtype.spec import verifier as spec
from pytest_memtype.spec.linux import Answer, Linux, Platform
from pytest_memtype.spec.linux_reservations import Reservation
from pytest_memtype.spec.verifier import Machine, Request, TrackedPage, Verifier
from pytest_memtype.x86.memtype import MemType

PAGE_SIZE = 4096


@dataclass(frozen=True)
class Expected:
    """What an operation gives by the models; None where that doesn't apply.

    :param exists: False when the operation speaks of a mapping or process that isn't there: the agent
        refuses it.
    :param answer: Linux's, None also when enforce mode keeps the request from it.
    :param result: errno, or the signal of an access.
    """

    exists: bool = True
    verdict: spec.Verdict | None = None
    answer: Answer | None = None
    result: int | None = None
    lookup: spec.Lookup | None = None


@dataclass(frozen=True)
class State:
    """What there is after an operation.

    :param listed: None where the kernel keeps no list.
    :param kernel: The page table of each driver's mapping, by number.
    :param user: The page table of what each process's mapping was made over, by process and number.
    """

    tracked: Counter[TrackedPage]
    listed: tuple[Reservation, ...] | None
    kernel: Mapping[int, tuple[MemType | None, ...]]
    user: Mapping[tuple[str, int], tuple[MemType | None, ...]]


@dataclass
class World:
    """The models of one guest.

    :ivar kernel: The drivers' mappings: number -> driver.
    :ivar mapped: Those of them that have a page table, or had: all but reservations.
    :ivar user: What the processes map: (process, number) -> (vpage, pages).
    :ivar pids: Of live processes: the model's own numbers, for a pid may be used again.
    """

    platform: Platform
    machine: Machine
    windows: Mapping[str, tuple[int, int]]
    enforce: bool = False
    kernel: dict[int, str] = field(default_factory=dict)
    mapped: set[int] = field(default_factory=set)
    user: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    linux: Linux = field(init=False)
    verifier: Verifier = field(init=False)
    _held: dict[int, Request] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.linux = Linux(self.platform)
        self.verifier = Verifier(self.machine)
        self._next_pid = 1

    def pfn(self, span: ops.Span) -> int:
        return self.windows[span.window][0] + span.first

    def apply(self, operation: ops.Operation, *, address: Callable[[], int]) -> Expected:
        """Carry out an operation.

        :param address: Where mmap() of it has put, or would put, the mapping.
        """
        return self._apply(operation, address)

    @singledispatchmethod
    def _apply(self, operation: ops.Operation, _address: Callable[[], int]) -> Expected:
        raise NotImplementedError(operation)

    @_apply.register
    def _driver_map(self, operation: ops.DriverMap, _address: Callable[[], int]) -> Expected:
        span = operation.span
        request = Request(self.pfn(span), span.pages, operation.memtype, operation.driver)
        verdict = self.verifier.verify(request)
        if self.enforce and not verdict.accepted:
            return Expected(verdict=verdict)
        call = getattr(self.linux, operation.call)
        asked = () if operation.call == "reserve_wc" else (operation.memtype,)
        answer: Answer = call(operation.number, request.pfn, span.pages, *asked)
        if not answer.errno:
            self.kernel[operation.number] = operation.driver
            if operation.call != "reserve_wc":
                self.mapped.add(operation.number)
            if verdict.accepted:
                self.verifier.adopt(request)
                self._held[operation.number] = request
        return Expected(verdict=verdict, answer=answer)

    @_apply.register
    def _driver_release(self, operation: ops.DriverRelease, _address: Callable[[], int]) -> Expected:
        if operation.mapping not in self.kernel:
            return Expected(exists=False)
        del self.kernel[operation.mapping]
        self.linux.release(operation.mapping)
        held = self._held.pop(operation.mapping, None)
        if held is not None:
            self.verifier.release(held)
        return Expected()

    @_apply.register
    def _start(self, operation: ops.Start, _address: Callable[[], int]) -> Expected:
        self._new_process(operation.process)
        self.linux.processes.start(self.pids[operation.process])
        return Expected()

    def _new_process(self, name: str) -> None:
        self.pids[name] = self._next_pid
        self._next_pid += 1

    @_apply.register
    def _mmap(self, operation: ops.Mmap, address: Callable[[], int]) -> Expected:
        if operation.process not in self.pids:
            return Expected(exists=False)
        span, pid = operation.span, self.pids[operation.process]
        # Only the part that is mapped is asked for.
        first, pages = operation.part or (0, span.pages)
        request = Request(self.pfn(span) + first, pages, operation.memtype, operation.process, pid)
        requests = [(request, first)]
        for piece in operation.more:
            before, offset = requests[-1]
            following = replace(request, pfn=self.pfn(piece), pages=piece.pages)
            requests.append((following, offset + before.pages))
        size = sum(piece.pages for piece in operation.pieces)
        verdict = self._verify_all([each for each, _ in requests])
        if self.enforce and not verdict.accepted:
            return Expected(verdict=verdict)
        where = address()
        answer = self.linux.mmap(
            pid,
            where // PAGE_SIZE,
            self.pfn(span),
            size,
            operation.memtype,
            via=operation.via,
            private=operation.private,
            protection=operation.protection,
            part=operation.part,
            pieces=[(self.pfn(piece), piece.pages) for piece in operation.pieces] if operation.more else (),
        )
        if not answer.errno:
            self.user[operation.process, operation.number] = (where // PAGE_SIZE, size)
            for each, offset in requests if verdict.accepted else ():
                self.verifier.adopt(replace(each, address=where + offset * PAGE_SIZE))
        return Expected(verdict=verdict, answer=answer)

    def _verify_all(self, requests: Sequence[Request]) -> spec.Verdict:
        """The verdict on what is mapped at once: the first that is no, or the last. One type is no alias."""
        for request in requests[:-1]:
            verdict = self.verifier.verify(request)
            if not verdict.accepted:
                return verdict
        return self.verifier.verify(requests[-1])

    @_apply.register
    def _munmap(self, operation: ops.Munmap, _address: Callable[[], int]) -> Expected:
        where = self.user.get((operation.process, operation.mapping))
        if where is None:
            return Expected(exists=False)
        first, pid = where[0] + operation.offset, self.pids[operation.process]
        result = self.linux.processes.munmap(pid, first, first + operation.pages)
        self.verifier.unmap(pid, first * PAGE_SIZE, operation.pages)
        if operation.pages == where[1]:
            del self.user[operation.process, operation.mapping]
        return Expected(result=result)

    @_apply.register
    def _mremap(self, operation: ops.Mremap, address: Callable[[], int]) -> Expected:
        where = self.user.get((operation.process, operation.mapping))
        if where is None:
            return Expected(exists=False)
        first, pid = where[0] + operation.offset, self.pids[operation.process]
        pages, new_pages = operation.pages, operation.new_pages
        new = address() // PAGE_SIZE if operation.move else None
        result = self.linux.processes.mremap(pid, first, pages, new_pages, new)
        # What Linux has unmapped, also on its way to an error.
        gone = [vpage for vpage in range(first, first + pages) if not self._mapped(pid, vpage)]
        if not result and new is not None:
            gone = [vpage for vpage in gone if vpage >= first + new_pages]
        for vpage in gone:
            self.verifier.unmap(pid, vpage * PAGE_SIZE, 1)
        if not result and new is not None:
            self.verifier.move(pid, first * PAGE_SIZE, new_pages, new * PAGE_SIZE)
            if pages == where[1]:
                del self.user[operation.process, operation.mapping]
            self.user[operation.process, operation.number] = (new, new_pages)
        return Expected(result=result)

    def _mapped(self, pid: int, vpage: int) -> bool:
        return any(vma.first <= vpage < vma.end for vma in self.linux.processes.vmas[pid])

    @_apply.register
    def _mprotect(self, operation: ops.Mprotect, _address: Callable[[], int]) -> Expected:
        where = self.user.get((operation.process, operation.mapping))
        if where is None:
            return Expected(exists=False)
        first, pid = where[0] + operation.offset, self.pids[operation.process]
        protection = operation.protection
        return Expected(result=self.linux.processes.mprotect(pid, first, first + operation.pages, protection))

    @_apply.register
    def _access(self, operation: ops.Access, _address: Callable[[], int]) -> Expected:
        where = self.user.get((operation.process, operation.mapping))
        if where is None:
            return Expected(exists=False)
        pid = self.pids[operation.process]
        return Expected(
            result=self.linux.processes.access(pid, where[0] + operation.page, write=operation.write)
        )

    @_apply.register
    def _fork(self, operation: ops.Fork, _address: Callable[[], int]) -> Expected:
        if operation.process not in self.pids:
            return Expected(exists=False)
        parent = self.pids[operation.process]
        self._new_process(operation.child)
        child = self.pids[operation.child]
        result = self.linux.processes.fork(parent, child)
        if result:
            del self.pids[operation.child]
            return Expected(result=result)
        self.verifier.fork(parent, child, operation.child)
        for (process, number), where in list(self.user.items()):
            if process == operation.process:
                self.user[operation.child, number] = where
        return Expected(result=0)

    @_apply.register
    def _exit(self, operation: ops.Exit, _address: Callable[[], int]) -> Expected:
        if operation.process not in self.pids:
            return Expected(exists=False)
        self._end(operation.process)
        return Expected()

    def _end(self, process: str) -> None:
        pid = self.pids.pop(process)
        self.linux.processes.exit(pid)
        self.verifier.exit(pid)
        self.user = {key: where for key, where in self.user.items() if key[0] != process}

    @_apply.register
    def _exec(self, operation: ops.Exec, _address: Callable[[], int]) -> Expected:
        if operation.process not in self.pids:
            return Expected(exists=False)
        self._end(operation.process)
        self._new_process(operation.process)
        self.linux.processes.start(self.pids[operation.process])
        return Expected()

    @_apply.register
    def _zap(self, operation: ops.Zap, _address: Callable[[], int]) -> Expected:
        pfn = self.pfn(operation.span)
        self.linux.processes.zap("driver", pfn, pfn + operation.span.pages)
        return Expected()

    @_apply.register
    def _verify(self, operation: ops.Verify, _address: Callable[[], int]) -> Expected:
        pid = 1 if operation.kind == "user" else 0
        span = operation.span
        request = Request(self.pfn(span), span.pages, operation.memtype, "nobody", pid)
        return Expected(verdict=self.verifier.verify(request))

    @_apply.register
    def _lookup(self, operation: ops.Lookup, _address: Callable[[], int]) -> Expected:
        return Expected(lookup=self.verifier.lookup(self.pfn(operation.span), operation.span.pages))

    @_apply.register
    def _set_policy(self, operation: ops.SetPolicy, _address: Callable[[], int]) -> Expected:
        if operation.name == "enforce":
            self.enforce = operation.value
        else:
            self.verifier.one_ioremap = operation.value
        return Expected()

    def state(self) -> State:
        """What the models say there is now, in the windows."""
        tracked: Counter[TrackedPage] = Counter()
        listed: list[Reservation] = []
        for pfn, pages in self.windows.values():
            tracked += self.verifier.tracked(pfn, pages)
            listed += self.linux.memtype_list(pfn, pages)
        return State(
            tracked=tracked,
            listed=tuple(listed) if self.linux.reservations.tracking else None,
            kernel={
                number: self.linux.kernel_page_table(number)
                for number in self.kernel
                if number in self.mapped
            },
            user={
                key: self.linux.user_page_table(self.pids[key[0]], *where) for key, where in self.user.items()
            },
        )
