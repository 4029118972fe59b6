"""What a sequence is made of. Each operation knows the line of a test that does the same.

A mapping goes by the number of the operation that made it, ``m7``; after a fork the child has it too, by the
same name. Pages are counted within a window: ``bar``, device memory, or ``ram``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from pytest_memtype.x86.memtype import MemType


@dataclass(frozen=True)
class Span:
    """Some pages of a window."""

    window: str
    first: int
    pages: int

    def __str__(self) -> str:
        return f"{self.window}[{self.first}:{self.first + self.pages}]"


@dataclass(frozen=True)
class DriverMap:
    """:param call: The method of the driver."""

    number: int
    call: str
    driver: str
    span: Span
    memtype: MemType

    def code(self) -> str:
        memtype = "" if self.call == "reserve_wc" else f", MemType.{self.memtype.name}"
        call = f'guest.driver("{self.driver}").{self.call}({self.span}{memtype})'
        return f"m{self.number} = {call}.mapping"


@dataclass(frozen=True)
class DriverRelease:
    driver: str
    mapping: int

    def code(self) -> str:
        return f'guest.driver("{self.driver}").release(m{self.mapping})'


@dataclass(frozen=True)
class Start:
    process: str

    def code(self) -> str:
        return f'{self.process} = guest.process("{self.process}")'


@dataclass(frozen=True)
class Mmap:
    """:param more: Further pieces of memory, which the mapping has behind the first."""

    number: int
    process: str
    span: Span
    memtype: MemType
    via: str
    private: bool
    protection: str
    part: tuple[int, int] | None = None
    more: tuple[Span, ...] = ()

    @property
    def pieces(self) -> tuple[Span, ...]:
        return (self.span, *self.more)

    def code(self) -> str:
        memory = f"[{', '.join(map(str, self.pieces))}]" if self.more else str(self.span)
        options = "" if self.via == "driver" else f', via="{self.via}"'
        options += ", private=True" if self.private else ""
        options += "" if self.protection == "rw" else f', protection="{self.protection}"'
        options += "" if self.part is None else f", part={self.part}"
        call = f"{self.process}.mmap({memory}, MemType.{self.memtype.name}{options})"
        return f"m{self.number} = {call}.mapping"


@dataclass(frozen=True)
class Munmap:
    process: str
    mapping: int
    offset: int
    pages: int

    def code(self) -> str:
        return f"{self.process}.munmap(m{self.mapping}, offset={self.offset}, pages={self.pages})"


@dataclass(frozen=True)
class Mremap:
    number: int
    process: str
    mapping: int
    offset: int
    pages: int
    new_pages: int
    move: bool

    def code(self) -> str:
        part = f"offset={self.offset}, pages={self.pages}, new_pages={self.new_pages}"
        move = ", move=True" if self.move else ""
        return f"m{self.number} = {self.process}.mremap(m{self.mapping}, {part}{move})"


@dataclass(frozen=True)
class Mprotect:
    process: str
    mapping: int
    offset: int
    pages: int
    protection: str

    def code(self) -> str:
        part = f"offset={self.offset}, pages={self.pages}"
        return f'{self.process}.mprotect(m{self.mapping}, "{self.protection}", {part})'


@dataclass(frozen=True)
class Access:
    process: str
    mapping: int
    page: int
    write: bool

    def code(self) -> str:
        return f"{self.process}.{'write' if self.write else 'read'}(m{self.mapping}, page={self.page})"


@dataclass(frozen=True)
class Fork:
    process: str
    child: str

    def code(self) -> str:
        return f'{self.child} = {self.process}.fork("{self.child}")'


@dataclass(frozen=True)
class Exit:
    """:param how: ``exit`` or ``kill``."""

    process: str
    how: str = "exit"

    def code(self) -> str:
        return f"{self.process}.{self.how}()"


@dataclass(frozen=True)
class Exec:
    process: str

    def code(self) -> str:
        return f"{self.process}.exec()"


@dataclass(frozen=True)
class Zap:
    span: Span

    def code(self) -> str:
        return f'guest.driver("vfio").zap({self.span})'


@dataclass(frozen=True)
class Verify:
    span: Span
    memtype: MemType
    kind: str

    def code(self) -> str:
        return f'guest.verify({self.span}, MemType.{self.memtype.name}, kind="{self.kind}")'


@dataclass(frozen=True)
class Lookup:
    span: Span

    def code(self) -> str:
        return f"guest.lookup({self.span})"


@dataclass(frozen=True)
class SetPolicy:
    """:param name: ``enforce`` or ``one_ioremap``."""

    name: str
    value: bool

    def code(self) -> str:
        return f"guest.policy.{self.name} = {self.value}"


Operation: TypeAlias = (
    DriverMap
    | DriverRelease
    | Start
    | Mmap
    | Munmap
    | Mremap
    | Mprotect
    | Access
    | Fork
    | Exit
    | Exec
    | Zap
    | Verify
    | Lookup
    | SetPolicy
)
