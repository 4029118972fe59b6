"""Steps, played by the model of Linux."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pytest_memtype.reproduce.step import Board, Step
from pytest_memtype.spec.linux import Linux, Platform
from pytest_memtype.spec.linux_messages import Message
from pytest_memtype.spec.linux_versions import Version

FIRST_PFN = 0x1000
"""The page frame in the model that stands for cell 0: above the ISA hole, which has rules of its own."""

_PARENT, _CHILD = 1, 2
# Addresses in the model's processes: each mapping has this many pages to itself.
_APART = 0x100


@dataclass
class Scene:
    """The model after some steps.

    :param failed: Numbers of the steps that the kernel refused.
    :param mappings: Virtual page, cells and first cell of each mapping, by number of the step that made it.
    """

    board: Board
    linux: Linux
    steps: list[Step] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    mappings: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def said(self) -> list[Message]:
        """The messages that the kernel has logged, in page frames of the model."""
        return self.linux.said

    @property
    def processes(self) -> set[int]:
        """The pids of the processes that there are."""
        return set(self.linux.processes.vmas)

    def after(self, step: Step) -> Scene:
        """The scene after another step; this one stays as it is."""
        scene = Scene(self.board, self.linux.copied(), [*self.steps], [*self.failed], {**self.mappings})
        scene.take(step)
        return scene

    def take(self, step: Step) -> None:
        """Take the next step."""
        number, linux = len(self.steps), self.linux
        self.steps.append(step)
        pid = _CHILD if step.child else _PARENT
        if step.actor == "process" and pid not in linux.processes.vmas:
            linux.processes.start(pid)
        pages = step.end_cell - step.first_cell
        if step.target is None:
            error = self._map(step, number, pid, FIRST_PFN + step.first_cell, pages)
        else:
            vpage = self.mappings[step.target][0] + step.first_cell
            error = self._change(step, number, pid, vpage, pages)
        if error:
            self.failed.append(number)

    def _map(self, step: Step, number: int, pid: int, pfn: int, pages: int) -> int:
        linux, memtype = self.linux, step.memtype
        if step.verb == "exit":
            linux.processes.exit(pid)
            return 0
        if step.verb in ("fork", "fork_without_memory"):
            return linux.processes.fork(_PARENT, _CHILD, memory=step.verb == "fork")
        if step.verb == "reserve_wc":
            answer = linux.reserve_wc(number, pfn, pages)
        else:
            assert memtype is not None
            if step.verb == "mmap":
                vpage = (number + 1) * _APART
                answer = linux.mmap(pid, vpage, pfn, pages, memtype, private=step.private)
                if not answer.errno:
                    self.mappings[number] = vpage, pages, step.first_cell
                return answer.errno
            answer = getattr(linux, step.verb)(number, pfn, pages, memtype)
        if not answer.errno:
            self.mappings[number] = 0, pages, step.first_cell
        return answer.errno

    def _change(self, step: Step, number: int, pid: int, vpage: int, pages: int) -> int:
        assert step.target is not None
        processes = self.linux.processes
        match step.verb:
            case "release":
                self.linux.release(step.target)
                del self.mappings[step.target]
                return 0
            case "munmap":
                return processes.munmap(pid, vpage, vpage + pages)
            case "mprotect":
                return processes.mprotect(pid, vpage, vpage + pages, "r")
            case "write":
                return processes.access(pid, vpage, write=True)
            case "mremap":
                new = (number + 1) * _APART
                error = processes.mremap(pid, vpage, pages, pages, new)
                if not error:
                    self.mappings[number] = new, pages, self.mappings[step.target][2] + step.first_cell
                return error
        raise ValueError(step.verb)

    def key(self) -> tuple[object, ...]:
        """A value that two scenes have in common if they can't be told apart from here on."""
        linux = self.linux
        vmas = tuple(
            (
                pid,
                tuple(
                    (vma.pfn, vma.end - vma.first, vma.private, vma.protection, vma.page_prot, vma.pat)
                    + ((vma.context.first, vma.context.end, vma.context.references) if vma.context else ())
                    for vma in sorted(found, key=lambda vma: vma.pfn)
                ),
                len(linux.processes.tables[pid]),
                sum(entry.pfn is None for entry in linux.processes.tables[pid].values()),
            )
            for pid, found in sorted(linux.processes.vmas.items())
        )
        kernel = tuple(sorted((where[2], where[1]) for where in self.mappings.values() if not where[0]))
        listed = tuple((each.first, each.end, each.memtype) for each in linux.reservations.entries)
        return listed, tuple(sorted(linux.reservations.tags.items())), vmas, kernel


@dataclass(frozen=True)
class Machine:
    """The facts of a machine that the model has to know besides its memory.

    :param version: The kernel's version.
    :param has_mtrr: Does the CPU have MTRRs, and did the firmware turn them on?
    :param pat: Does the CPU have a PAT that the command line doesn't turn off?
    """

    version: Version
    has_mtrr: bool = True
    pat: bool = True


def played(steps: Iterable[Step], board: Board, machine: Machine) -> Scene:
    """The model of a machine after some steps."""

    def of(table: tuple[bool, ...], pfn: int) -> bool:
        return 0 <= pfn - FIRST_PFN < len(table) and table[pfn - FIRST_PFN]

    platform = Platform(
        machine.version,
        is_ram=lambda pfn: of(board.ram, pfn),
        is_write_back=lambda pfn: of(board.write_back, pfn),
        has_mtrr=machine.has_mtrr,
        pat=machine.pat,
    )
    scene = Scene(board, Linux(platform))
    for step in steps:
        scene.take(step)
    return scene
