"""Random sequences of all operations: the verifier in the guest against its specification, Linux and the
page tables against the model of Linux, after every step.

Quick by default; with ``MEMTYPE_TEST_EFFORT=long`` 30,000 operations and more in sequences of up to 200
steps, others each time, for each kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from memtype_support.differential import operations as ops
from memtype_support.differential.example import BAR_PAGES, RAM_PAGES, Disagreement, Example, Facts, facts
from memtype_support.differential.shrink import shrink
from memtype_support.effort import effort

from pytest_memtype import Guest, Hardware, MemType
from pytest_memtype.errors import UsageError
from pytest_memtype.plugin.fixtures import GuestFactory

# For each of the usual guests: sequences are nearly always as long as they may be.
EXAMPLES, STEPS = effort(quick=(20, 50), long=(90, 200))

DRIVERS = 4
PROCESSES = 6
MAPPINGS = 12

TYPES = tuple(MemType)
CALLS = (
    *(("ioremap", memtype) for memtype in TYPES),
    *(("memremap", memtype) for memtype in (MemType.WB, MemType.WT, MemType.WC)),
    ("reserve_wc", MemType.WC),
)
RAM_CALLS = (
    *(("memremap", memtype) for memtype in (MemType.WB, MemType.WT, MemType.WC)),
    *(("set_memory", memtype) for memtype in (MemType.WB, MemType.WC, MemType.UC_MINUS)),
    *(("set_pages_array", memtype) for memtype in (MemType.WB, MemType.WC, MemType.UC_MINUS)),
    *(("vmap", memtype) for memtype in TYPES),
    ("reserve_wc", MemType.WC),
)
WAYS = (
    *(("driver", memtype) for memtype in TYPES),
    *(("insert_pfn", memtype) for memtype in TYPES),
    *(("iomap_memory", memtype) for memtype in TYPES),
    *(("insert_mixed", memtype) for memtype in TYPES),
    # There are no struct pages.
    ("insert_page", MemType.WC),
    ("dma_coherent", MemType.WB),
    ("dma_wc", MemType.WC),
    ("sysfs", MemType.UC_MINUS),
    ("sysfs", MemType.WC),
    ("devmem", MemType.UC_MINUS),
    ("devmem", MemType.WB),
)
RAM_WAYS = (
    *(("driver", memtype) for memtype in TYPES),
    *(("insert_mixed", memtype) for memtype in TYPES),
    *((via, memtype) for via in ("insert_page", "insert_pages", "remap_vmalloc") for memtype in TYPES),
    ("dma_coherent", MemType.WB),
    ("dma_wc", MemType.WC),
)
PROTECTIONS = ("rw", "rw", "r", "w", "", "rx", "x")

POLICY_ON = 1

drivers = st.integers(0, DRIVERS - 1).map(lambda number: f"driver{number}")
spans = st.builds(
    lambda first, pages: ops.Span("bar", first, min(pages, BAR_PAGES - first)),
    st.integers(0, BAR_PAGES - 1),
    st.integers(1, BAR_PAGES),
)
ram_spans = st.builds(
    lambda first, pages: ops.Span("ram", first, min(pages, RAM_PAGES - first)),
    st.integers(0, RAM_PAGES - 1),
    st.integers(1, RAM_PAGES),
)
picks = st.integers(0, 15)
"""Which of those there are, modulo how many there are."""


class Guests:
    """Gives each example a guest as good as new, and counts.

    :ivar operations: How many of each kind were carried out and agreed.
    """

    def __init__(self, start: GuestFactory) -> None:
        self._start = start
        self._guest: Guest | None = None
        self._facts: Facts | None = None
        self.operations: Counter[str] = Counter()

    def example(self) -> Example:
        # What a bug of Linux left reserved stays for good, so each example has pages of its own.
        if self._guest is not None and self._facts is not None and self._guest.machine.alive:
            self._guest.reset()
            # What was done at random is no record of how a kernel behaves.
            self._guest.journal.entries.clear()
            try:
                return self._example(self._guest, self._facts)
            except UsageError:
                self._guest.machine.close()
        self._guest = self._start()
        self._facts = facts(self._guest)
        return self._example(self._guest, self._facts)

    def shortest(self, disagreement: Disagreement) -> Disagreement:
        """The same, or another one, of as few operations as can be."""
        shortest = disagreement

        def disagrees(operations: Sequence[ops.Operation]) -> bool:
            nonlocal shortest
            example = self.example()
            for operation in operations:
                example.add(operation)
            try:
                example.judge()
            except Disagreement as shorter:
                if len(shorter.operations) <= len(shortest.operations):
                    shortest = shorter
                return True
            return False

        shrink(disagreement.operations, disagrees)
        return shortest

    def keep(self, disagreement: Disagreement) -> None:
        """Leave the sequence with the logs of the guest, and say how to get a guest in that state."""
        assert self._guest is not None
        guest = self._guest
        path = guest.machine.logs / "disagreement.py"
        path.write_text(disagreement.test)
        print(
            f"a guest in that state: memtype shell --kernel debian:{guest.release} "
            f"--layout {guest.layout.name} --cpu {guest.hardware.cpu} "
            f"--cmdline '{guest.hardware.cmdline}' --after {path}"
        )

    def _example(self, guest: Guest, guest_facts: Facts) -> Example:
        windows = {"bar": guest.mmio(BAR_PAGES), "ram": guest.ram(RAM_PAGES)}
        return Example(guest, guest_facts, windows)


class Sequences(RuleBasedStateMachine):
    """Makes sequences that make sense: the models tell which mappings and processes there are.

    A sequence is carried out when it is complete, as one batch, and then judged step by step.
    """

    guests: Guests

    def __init__(self) -> None:
        super().__init__()
        self.example = self.guests.example()
        self.names = 0

    def _name(self) -> str:
        self.names += 1
        return f"p{self.names}"

    def _process(self, pick: int) -> str:
        names = list(self.example.predicted.pids)
        return names[pick % len(names)]

    def _mapping(self, pick: int) -> tuple[str, int, int]:
        """A process's mapping, and its pages."""
        mappings = list(self.example.predicted.user.items())
        (process, number), (_, pages) = mappings[pick % len(mappings)]
        return process, number, pages

    def few_kernel_mappings(self) -> bool:
        return len(self.example.predicted.kernel) < MAPPINGS

    def kernel_mappings(self) -> bool:
        return bool(self.example.predicted.kernel)

    def few_processes(self) -> bool:
        return len(self.example.predicted.pids) < PROCESSES

    def processes(self) -> bool:
        return bool(self.example.predicted.pids)

    def may_map(self) -> bool:
        return self.processes() and len(self.example.predicted.user) < MAPPINGS

    def may_fork(self) -> bool:
        return self.processes() and self.few_processes() and len(self.example.predicted.user) < MAPPINGS

    def user_mappings(self) -> bool:
        return bool(self.example.predicted.user)

    @precondition(few_kernel_mappings)
    @rule(driver=drivers, span=spans, call=st.sampled_from(CALLS))
    def map_device(self, driver: str, span: ops.Span, call: tuple[str, MemType]) -> None:
        self.example.add(ops.DriverMap(self.example.number, call[0], driver, span, call[1]))

    @precondition(few_kernel_mappings)
    @rule(driver=drivers, span=ram_spans, call=st.sampled_from(RAM_CALLS))
    def map_ram(self, driver: str, span: ops.Span, call: tuple[str, MemType]) -> None:
        self.example.add(ops.DriverMap(self.example.number, call[0], driver, span, call[1]))

    @precondition(kernel_mappings)
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        mappings = list(self.example.predicted.kernel.items())
        number, driver = mappings[pick % len(mappings)]
        self.example.add(ops.DriverRelease(driver, number))

    @initialize()
    def begin(self) -> None:
        for _ in range(2):
            self.example.add(ops.Start(self._name()))

    @rule(pick=picks, what=st.sampled_from(("start", "exit", "kill", "exec")))
    def come_and_go(self, pick: int, what: str) -> None:
        if self.few_processes() and (what == "start" or not self.processes()):
            self.example.add(ops.Start(self._name()))
        elif what == "exec":
            self.example.add(ops.Exec(self._process(pick)))
        elif what in ("exit", "kill"):
            self.example.add(ops.Exit(self._process(pick), what))

    @precondition(may_map)
    @rule(
        pick=picks,
        span=spans,
        way=st.sampled_from(WAYS),
        private=st.booleans(),
        protection=st.sampled_from(PROTECTIONS),
        part=st.one_of(st.none(), st.none(), st.tuples(picks, picks)),
    )
    def mmap(
        self,
        pick: int,
        span: ops.Span,
        way: tuple[str, MemType],
        private: bool,
        protection: str,
        part: tuple[int, int] | None,
    ) -> None:
        via, memtype = way
        if part is not None:
            first = part[0] % span.pages
            part = (first, part[1] % (span.pages - first) + 1) if via == "driver" else None
        process = self._process(pick)
        self.example.add(
            ops.Mmap(self.example.number, process, span, memtype, via, private, protection, part)
        )

    @precondition(may_map)
    @rule(
        pick=picks,
        span=spans,
        more=st.lists(spans, min_size=1, max_size=2),
        memtype=st.sampled_from(TYPES),
        private=st.sampled_from([False, False, True]),
    )
    def mmap_pieces(
        self, pick: int, span: ops.Span, more: list[ops.Span], memtype: MemType, private: bool
    ) -> None:
        process = self._process(pick)
        pieces = tuple(more)
        self.example.add(
            ops.Mmap(self.example.number, process, span, memtype, "driver", private, "rw", more=pieces)
        )

    @precondition(may_map)
    @rule(
        pick=picks,
        span=ram_spans,
        way=st.sampled_from(RAM_WAYS),
        private=st.booleans(),
        protection=st.sampled_from(PROTECTIONS),
    )
    def mmap_ram(
        self, pick: int, span: ops.Span, way: tuple[str, MemType], private: bool, protection: str
    ) -> None:
        via, memtype = way
        process = self._process(pick)
        self.example.add(ops.Mmap(self.example.number, process, span, memtype, via, private, protection))

    @precondition(user_mappings)
    @rule(pick=picks, offset=picks, pages=picks, whole=st.booleans())
    def munmap(self, pick: int, offset: int, pages: int, whole: bool) -> None:
        process, number, size = self._mapping(pick)
        first = 0 if whole else offset % size
        count = size if whole else pages % (size - first) + 1
        self.example.add(ops.Munmap(process, number, first, count))

    @precondition(user_mappings)
    @rule(pick=picks, offset=picks, pages=picks, new_pages=picks, move=st.booleans())
    def mremap(self, pick: int, offset: int, pages: int, new_pages: int, move: bool) -> None:
        process, number, size = self._mapping(pick)
        first = offset % size
        count = pages % (size - first) + 1
        new = new_pages % (count + 2)
        self.example.add(ops.Mremap(self.example.number, process, number, first, count, new, move))

    @precondition(user_mappings)
    @rule(pick=picks, offset=picks, pages=picks, protection=st.sampled_from(PROTECTIONS))
    def mprotect(self, pick: int, offset: int, pages: int, protection: str) -> None:
        process, number, size = self._mapping(pick)
        first = offset % size
        self.example.add(ops.Mprotect(process, number, first, pages % (size - first) + 1, protection))

    @precondition(user_mappings)
    @rule(pick=picks, page=picks, write=st.booleans())
    def access(self, pick: int, page: int, write: bool) -> None:
        process, number, size = self._mapping(pick)
        self.example.add(ops.Access(process, number, page % size, write))

    @precondition(may_fork)
    @rule(pick=picks)
    def fork(self, pick: int) -> None:
        self.example.add(ops.Fork(self._process(pick), self._name()))

    @precondition(user_mappings)
    @rule(span=st.one_of(spans, spans, spans, ram_spans))
    def zap(self, span: ops.Span) -> None:
        self.example.add(ops.Zap(span))

    @rule(
        span=st.one_of(spans, ram_spans),
        memtype=st.sampled_from(TYPES),
        what=st.sampled_from(("kernel", "user", "lookup")),
    )
    def ask(self, span: ops.Span, memtype: MemType, what: str) -> None:
        self.example.add(ops.Lookup(span) if what == "lookup" else ops.Verify(span, memtype, what))

    @precondition(lambda self: self.example.number % 8 == 0)
    @rule(name=st.sampled_from(("enforce", "one_ioremap")), value=picks)
    def set_policy(self, name: str, value: int) -> None:
        # Mostly off, for what is refused leads nowhere.
        self.example.add(ops.SetPolicy(name, value == POLICY_ON))

    def teardown(self) -> None:
        self.example.judge()
        self.guests.operations.update(type(operation).__name__ for operation in self.example.operations)


@pytest.fixture
def profile() -> settings:
    return settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        # The quick ones are the same for everybody, every time; the long ones go and look for more.
        derandomize=effort(quick=True, long=False),
        # A guest is no pure function of its input in time, only in what it answers.
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
        # The first disagreement is shrunk, in fewer guests than hypothesis would take.
        report_multiple_bugs=False,
        database=None,
        print_blob=False,
    )


KINDS = {
    "firmware": ("firmware", Hardware(), 1),
    "wb-device": ("wb-device", Hardware(), 1),
    # Rows of the table of versions that only such a guest shows.
    "nopat": ("wb-device", Hardware(cmdline="nopat"), 4),
    "no-mtrr": ("firmware", Hardware(cpu="qemu64,-mtrr"), 4),
}
"""Layout, hardware, and by how much fewer sequences there are."""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_random_sequences(guest_factory: GuestFactory, profile: settings, kind: str) -> None:
    """No step of any sequence ends otherwise than the models say."""
    layout, hardware, fewer = KINDS[kind]
    guests = Guests(lambda: guest_factory(layout=layout, hardware=hardware))
    profile = settings(profile, max_examples=profile.max_examples // fewer)
    machine = type("Sequences", (Sequences,), {"guests": guests})

    try:
        run_state_machine_as_test(machine, settings=profile)
    except Disagreement as first:
        shortest = guests.shortest(first)
        guests.keep(shortest)
        raise shortest from None

    # The audit that follows a test would find what the last sequence left, which is aliases as like as not.
    guests.example()
    assert guests.operations
    kinds = ", ".join(f"{count} {name}" for name, count in guests.operations.most_common())
    print(f"{guests.operations.total()} operations agreed, {kind}: {kinds}")


def test_a_disagreement_is_shown_as_a_test(guest_factory: GuestFactory) -> None:
    """A model that is wrong is found out, and the report can be pasted into a file."""
    example = Guests(guest_factory).example()
    example.add(ops.DriverMap(1, "ioremap", "driver0", ops.Span("bar", 0, 2), MemType.WC))
    example.add(ops.DriverMap(2, "ioremap", "driver1", ops.Span("bar", 1, 1), MemType.UC_MINUS))
    example.facts.platform.__dict__["is_ram"] = lambda _pfn: True

    with pytest.raises(Disagreement) as failure:
        example.judge()

    text = str(failure.value)
    assert "Linux: model ENOMEM, guest 0" in text
    assert '    guest.driver("driver0").ioremap(bar[0:2], MemType.WC)\n' in text
    assert failure.value.test in text
    compile(failure.value.test, "pasted", "exec")
