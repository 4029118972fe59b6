"""Answers of a hostile guest: a number that is none, or a truth value, is one error where it comes in."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_memtype import Mapping, MemType, Region
from pytest_memtype.errors import AgentError, GuestError, UsageError
from pytest_memtype.guest import plugged_memory
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.audited import audited
from pytest_memtype.guest.driver import Driver
from pytest_memtype.guest.faults import Faults
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.kernel_functions import KernelFunctions
from pytest_memtype.guest.kexec import load_again
from pytest_memtype.guest.observation import decode_observation, decode_status
from pytest_memtype.guest.outcome import decode_kernel, decode_tracked, decode_verdict
from pytest_memtype.guest.page_table import decode_leaves
from pytest_memtype.guest.pci import find_device
from pytest_memtype.guest.process import Process
from pytest_memtype.guest.registers import decode_registers
from pytest_memtype.machine.hardware import Hardware, RamRange
from pytest_memtype.machine.layout import Layout
from pytest_memtype.machine.machine import Machine
from pytest_memtype.target.dry_run import DryMachine, DryRun
from pytest_memtype.target.permission import TargetConfig
from pytest_memtype.x86.pat import LINUX_PAT

BAR = 0xFD000000
REGION = Region(BAR, 1)
USER = Mapping("user", "P", 7, REGION, 1 << 44)

NONSENSE: tuple[object, ...] = ([1], "\x1b[2J", 4096.0, {}, -1, 1 << 64)

TRACKED = {
    "owner": "drm",
    "start": BAR,
    "pages": 1,
    "memtype": 1,
    "kind": "kernel",
    "pid": 0,
    "address": 0,
    "observed": False,
}
VERDICT = {"accepted": False, "rule": "alias", "errno": 16, "hazards": ["mtrr-mixed"], "conflict": TRACKED}
KERNEL = {"accepted": False, "errno": 22}
TABLE = {"truncated": False, "runs": [[BAR | 0x63, 12, 1]]}
REGISTERS = {
    "cpu": 0,
    "vendor": "AuthenticAMD",
    "physical_bits": 40,
    "has_mtrr": True,
    "has_pat": True,
    "capability": 0x501,
    "default_type": 0xC00,
    "fixed": [0] * 11,
    "variable": [[0, 0]],
    "smrr": [6, 0x800],
    "amd": [1, 2, 3],
    "pat": LINUX_PAT,
    "cr0": 1,
    "cr3": 2,
    "cr4": 3,
}
OBSERVATION = {
    "start": BAR,
    "pages": 1,
    "requested": 1,
    "granted": 1,
    "errno": 0,
    "kind": "user",
    "pid": 7,
    "seeded": False,
    "caller": "probe+0x1/0x2 [toy]",
    "task": "X",
    "handler": "",
    "verdict": VERDICT,
}
STATUS = {
    "probes": [{"function": "memtype_reserve", "errno": 0, "armed": True}],
    "missed": 0,
    "dropped": 0,
}
OUTCOME = {
    "verdict": VERDICT,
    "kernel": {"accepted": True, "errno": 0},
    "handle": 3,
    "address": 0,
    "page_table": TABLE,
    "registers": REGISTERS,
}

#: What may hold any text, and is made harmless by plain().
WORDS = ("owner", "caller", "task", "handler", "function")

DECODERS: dict[str, tuple[Callable[[Any], object], dict[str, Any]]] = {
    "tracked": (decode_tracked, TRACKED),
    "verdict": (decode_verdict, VERDICT),
    "kernel": (lambda content: decode_kernel(content, ()), KERNEL),
    "observation": (decode_observation, OBSERVATION),
    "status": (decode_status, STATUS),
    "registers": (decode_registers, REGISTERS),
    "leaves": (lambda content: decode_leaves(content, LINUX_PAT, pages=1), TABLE),
}


def forged(content: Any) -> Iterator[Any]:
    """The content with each of its values replaced by each of what they can't be."""

    def places(within: Any) -> Iterator[tuple[Any, Any]]:
        for place in within if isinstance(within, dict) else range(len(within)):
            if isinstance(within[place], dict | list):
                yield from places(within[place])
            elif place not in WORDS:
                yield within, place

    changed = copy.deepcopy(content)
    for within, place in places(changed):
        true = within[place]
        # 1 is no truth value, and True no number.
        for value in (*NONSENSE, int(true) if isinstance(true, bool) else True):
            within[place] = value
            yield changed
        within[place] = true


def refusal(call: Callable[..., object], *arguments: Any) -> str:
    """The message of the error."""
    try:
        call(*arguments)
    except AgentError as error:
        return error.message
    return "taken"


@pytest.mark.parametrize("name", DECODERS)
def test_each_value_is_checked(name: str) -> None:
    decoder, content = DECODERS[name]
    Reply("x", content, ()).decode(decoder)
    for each in forged(content):
        said = refusal(Reply("x", each, ()).decode, decoder)
        assert "makes no sense" in said, each
        assert said.isprintable()


def a_guest(agent: Agent) -> Guest:
    greeting = Reply("greeting", {"release": "6.1.0"}, ())
    return Guest(agent, greeting, layout=Layout("firmware"), memory=Region(BAR, 16))


def kexec(agent: Agent) -> object:
    """Have an agent load a kernel that is some file."""
    config = SimpleNamespace(kernel=Path(__file__), initrd=Path(__file__), network=False)
    machine = SimpleNamespace(config=config, plugged={})
    vars(agent)["mailbox"] = SimpleNamespace(size=1 << 20, write=lambda _message: {})
    return load_again(agent, Journal(), cast(Machine, machine), before=lambda: None)


CALLS: dict[str, tuple[Callable[[Agent], object], Any]] = {
    "ioremap": (lambda agent: Driver("drm", agent, Journal()).ioremap(REGION, MemType.WC), OUTCOME),
    "mmap of a node": (
        lambda agent: Process("P", 7, agent, Journal()).mmap(REGION, MemType.WC, via="/dev/x"),
        {"outcome": OUTCOME, "mapped": BAR},
    ),
    "munmap": (lambda agent: Process("P", 7, agent, Journal()).munmap(USER), {"errno": 0}),
    "mremap": (
        lambda agent: Process("P", 7, agent, Journal()).mremap(USER),
        {"errno": 0, "handle": 8, "address": 1 << 44},
    ),
    "read": (lambda agent: Process("P", 7, agent, Journal()).read(USER, 0), {"signal": 0, "value": 1}),
    "fork": (lambda agent: Process("P", 7, agent, Journal()).fork(), {"pid": 8}),
    "exec": (lambda agent: Process("P", 7, agent, Journal()).exec(), {"errno": 0}),
    "lookup": (lambda agent: a_guest(agent).lookup(REGION), {"errno": 0, "memtype": 1, "in_use": True}),
    "ram": (lambda agent: a_guest(agent).ram(1), {"start": 1 << 20}),
    "process": (lambda agent: a_guest(agent).process("P"), {"pid": 8}),
    "kept pages": (lambda agent: a_guest(agent).kept_pages(), {"kept_pages": 0}),
    "fault": (lambda agent: Faults(agent, Journal()).fail("f"), {"errno": 0, "handle": 1}),
    "kexec": (kexec, {"errno": 0}),
    "kernel call": (
        lambda agent: KernelFunctions(agent, Journal(), Faults(agent, Journal())).call("f"),
        {"errno": 0, "address": 1, "returned": 1, "memory": [1]},
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_answer_is_checked(name: str, tmp_path: Path) -> None:
    """The journal, which a report is made of, gets nothing that isn't."""
    call, content = CALLS[name]
    honest = DryRun(TargetConfig(memory=(), lease=60, shell=True), lambda _line: None)

    def agent(answer: Any) -> Agent:
        def stub(verb: str, fields: dict[str, str | int]) -> Reply:
            # A guest of somebody's reads them as it begins.
            return honest.answer(verb, fields) if verb == "registers" else Reply(verb, answer, ())

        return Agent(DryMachine(tmp_path, Hardware()), stub=stub)

    call(agent(content))
    for each in forged(content):
        said = refusal(call, agent(each))
        assert "makes no sense" in said, each
        assert said.isprintable()


@pytest.mark.parametrize("asked", ["block_size_bytes", "state"])
def test_the_blocks_of_plugged_memory_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """Their size, of which there is a least one, and what each is."""
    monkeypatch.setattr(plugged_memory, "plug", lambda _machine, size: RamRange(1 << 32, size, 0))
    machine, journal = DryMachine(tmp_path, Hardware()), Journal()
    honest: dict[str, dict[str, Any]] = {
        "block_size_bytes": {"status": 0, "output": "8000000\n"},
        "state": {"output": "online\n"},
    }

    def plug(content: dict[str, Any]) -> object:
        def stub(verb: str, fields: dict[str, str | int]) -> Reply:
            (place,) = (each for each in honest if str(each) in str(fields["command"]))
            return Reply(verb, content if place == asked else honest[place], ())

        agent = Agent(machine, stub=stub)
        return plugged_memory.plug_memory(agent, journal, cast(Machine, machine), "128M")

    plug(honest[asked])
    # Blocks may be larger than all that is plugged in.
    refused = "makes no sense|not whole blocks|not all of it is online"
    for each in itertools.chain(forged(honest[asked]), [{**honest[asked], "output": "1000"}]):
        with pytest.raises((GuestError, UsageError), match=refused):
            plug(each)
    assert journal.ram == [Region(1 << 32, 1 << 15)]


@pytest.mark.parametrize("root", [*NONSENSE, True, 0x1001])
def test_the_roots_of_address_spaces_are_checked(tmp_path: Path, root: object) -> None:
    """An audit takes them for the addresses of tables."""

    def stub(verb: str, _fields: dict[str, str | int]) -> Reply:
        return Reply(verb, {"mm_list": [[root, 1, "init"]]}, ())

    machine = DryMachine(tmp_path, Hardware())
    with pytest.raises(AgentError, match="the agent's answer to 'mm_list' makes no sense"):
        audited(cast(Machine, machine), Agent(machine, stub=stub), scan=False, listed=None, recorded=tuple)


def test_the_areas_of_a_process_are_harmless(tmp_path: Path) -> None:
    text = "100000000000-100000001000 rw-s fd000000 00:06 1 /sys/\x1b[2J/resource0\n"

    def stub(verb: str, _fields: dict[str, str | int]) -> Reply:
        return Reply(verb, {"text": text}, ())

    (area,) = Process("P", 7, Agent(DryMachine(tmp_path, Hardware()), stub=stub), Journal()).vmas()
    assert area.path == r"/sys/\x1b[2J/resource0"


PCI = "0000:00:01.0 0x1234 0x1111 bochs-drm\n" + "0x00000000fd000000 0x00000000fdffffff 0x0000000000042208\n"


@pytest.mark.parametrize(
    "output",
    [
        PCI.replace("0x0000000000042208", ""),
        PCI.replace("0x00000000fdffffff", "0xz"),
        PCI.replace("fdffffff", "fcfffffe"),
        PCI.replace("0x1111", ""),
        PCI.replace("0000:00:01.0", "*"),
        PCI.partition("\n")[2],
        "\n",
    ],
    ids=[
        "two words",
        "no number",
        "ends before it begins",
        "no id",
        "no place",
        "of no device",
        "empty line",
    ],
)
def test_the_list_of_pci_devices_is_checked(tmp_path: Path, output: str) -> None:
    """That of a PCI device that came later, too: each question is asked anew."""
    answers = [PCI, PCI, PCI, output]

    def stub(verb: str, _fields: dict[str, str | int]) -> Reply:
        return Reply(verb, {"output": answers.pop(0)}, ())

    agent = Agent(DryMachine(tmp_path, Hardware()), stub=stub)
    device = find_device(agent, "1234:1111")
    assert device.driver == "bochs-drm"
    assert [each.region for each in device.bars] == [Region(BAR, 4096)]
    with pytest.raises(AgentError, match="makes no sense"):
        assert device.bars


def test_a_guest_without_pci_devices(tmp_path: Path) -> None:
    agent = Agent(
        DryMachine(tmp_path, Hardware()), stub=lambda verb, _fields: Reply(verb, {"output": ""}, ())
    )
    with pytest.raises(UsageError, match="no device 1234:1111; it has none"):
        find_device(agent, "1234:1111")
