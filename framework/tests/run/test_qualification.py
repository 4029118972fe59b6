"""KVM held against TCG, with guests. On every host: a second TCG behind a wrapper of QEMU stands for KVM."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from memtype_support.small_files import files_at_most

from pytest_memtype.errors import GuestExited, QualificationError, TemplateError
from pytest_memtype.kernels.bundle import Bundle, bundle
from pytest_memtype.machine import accelerator
from pytest_memtype.machine.accelerator import Choice, Qualification, recall
from pytest_memtype.machine.qemu_command import Accelerator
from pytest_memtype.machine.qemu_versions import QEMU
from pytest_memtype.run import qualification
from pytest_memtype.run.qualification import Programmed, chosen, compared

pytestmark = [
    pytest.mark.timeout(1200),  # The kernel may have to be downloaded first.
    # One process runs the program under TCG, and all compare with that.
    pytest.mark.xdist_group("qualification"),
]

#: Takes what is meant for KVM to TCG. "lie" leaves the boot ROM out, and with it the layout: the MTRRs that
#: were written are not kept.
WRAPPER = """#!/usr/bin/env python3
import os, sys
arguments = sys.argv[1:]
if "-accel" in arguments and arguments[arguments.index("-accel") + 1] == "kvm":
    arguments[arguments.index("-accel") + 1] = "tcg"
    if {lies} and "-option-rom" in arguments:
        at = arguments.index("-option-rom")
        del arguments[at : at + 2]
os.execv({qemu!r}, [{qemu!r}, *arguments])
"""


@dataclass(frozen=True)
class StandIn:
    """A host with a stand-in for KVM that is said to be faster."""

    kernel: Bundle
    cache: Path
    said: list[str]

    def choose(self, wanted: accelerator.Wanted = "auto") -> Choice:
        return chosen(self.kernel, wanted, progress=self.said.append)


@pytest.fixture(scope="module")
def kernel() -> Bundle:
    return bundle("debian:bookworm")


@pytest.fixture(scope="module")
def under_tcg(kernel: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Programmed:
    work = tmp_path_factory.mktemp("tcg")
    return qualification.run_program(kernel, "tcg", work=work, progress=lambda _: None)


@pytest.fixture
def stub(
    request: pytest.FixtureRequest,
    kernel: Bundle,
    under_tcg: Programmed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> StandIn:
    """Parametrized by whether it lies."""
    folder = tmp_path / "bin"
    folder.mkdir()
    wrapper = folder / QEMU
    wrapper.write_text(WRAPPER.format(qemu=shutil.which(QEMU), lies=request.param))
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("MEMTYPE_CACHE", str(cache))
    monkeypatch.setattr(accelerator, "KVM", Path(os.devnull))
    monkeypatch.setattr(accelerator, "race", lambda _: Choice("kvm", "faster", 0.5, 2.5))
    real = qualification.run_program

    def run(made: Bundle, wanted: Accelerator, **places: object) -> Programmed:
        # TCG's part is the same for all of these tests.
        return under_tcg if wanted == "tcg" else real(made, wanted, **places)  # type: ignore[arg-type]

    monkeypatch.setattr(qualification, "run_program", run)
    return StandIn(kernel, cache, [])


@pytest.mark.parametrize("stub", [False], indirect=True, ids=["honest"])
def test_kvm_that_answers_as_tcg_is_taken(stub: StandIn, under_tcg: Programmed) -> None:
    choice = stub.choose()
    assert choice.accelerator == "kvm"
    assert choice.reason == f"faster; {len(under_tcg.records)} records are the same under both"
    assert stub.said[:2] == ["timing a boot under TCG and under KVM", "comparing KVM with TCG"]
    # Neither templates nor logs stay. What QEMU says of itself does, if this process hadn't asked it before.
    assert {path.name for path in stub.cache.iterdir()} - {"qemu"} == {
        "accelerator.json",
        "accelerator.lock",
        "qualification.json",
        "work",
    }
    assert not any((stub.cache / "work" / "qualification" / "partial").iterdir())


@pytest.mark.parametrize("stub", [True], indirect=True, ids=["lies"])
def test_kvm_that_does_not_keep_mtrrs_is_not_taken(stub: StandIn) -> None:
    choice = stub.choose()
    assert choice.accelerator == "tcg"
    assert choice.reason.startswith("KVM is faster, but not to be trusted: record "), choice.reason
    # The default type of the layout is UC, and with the fixed ranges on; the firmware's is WB.
    assert "(MTRRdefType of CPU 0 inside, after the boot): kernel says 0xc00 under TCG, 0xc06 under KVM" in (
        choice.reason
    )
    assert "\n" not in choice.reason
    assert stub.said[-1] == f"TCG it is: {choice.reason}"
    assert recall(stub.cache) == choice
    # What was found holds for whoever asks for KVM all the same.
    asked = stub.choose("kvm")
    assert asked.accelerator == "kvm"
    assert "0xc00 under TCG, 0xc06 under KVM" in asked.reason
    assert stub.said[-1].startswith("--accel=kvm: not to be trusted: record ")


def test_the_program_reaches_all_that_is_to_be_compared(under_tcg: Programmed) -> None:
    done = {record["operation"] for record in under_tcg.records}
    assert {"ioremap", "set_memory", "mmap driver", "mmap sysfs", "mmap devmem", "mmap insert_pfn"} <= done
    assert {"read", "write", "fork", "memtype_list", "page_table", "lookup"} <= done
    assert {"change_registers", "mtrr_add", "mtrr_delete", "registers", "registers_outside"} <= done
    results = {record["operation"]: record.get("result") for record in under_tcg.records}
    for cpu in (0, 1):
        for side in ("inside", "outside"):
            assert f"variable MTRR 7 of CPU {cpu} {side}, changed from outside" in done
    # Each CPU had its own.
    changed = [results[f"variable MTRR 7 of CPU {cpu} inside, changed from outside"] for cpu in (0, 1)]
    assert changed == ["base 0x8700006, mask 0xfffff00000", "base 0x9700006, mask 0xfffff00000"]
    assert results["variable MTRR 4 of CPU 1 inside, added through /proc/mtrr"] == (
        "base 0xfe000005, mask 0xfffff00800"
    )
    assert results["audit without an alias"] == "nothing"
    assert str(results["audit with an alias"]).startswith("conflict ")


def test_a_host_that_forbids_to_read_memory_has_no_audit_to_compare(
    kernel: Bundle, under_tcg: Programmed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Yama's ptrace_scope is the host's own: here, only what it makes of open() can be had."""
    allowed = os.open

    def forbidden(path: Any, *rest: Any, **options: Any) -> int:
        if re.fullmatch(r"/proc/\d+/mem", str(path)):
            raise PermissionError(1, "Operation not permitted")
        return allowed(path, *rest, **options)

    monkeypatch.setattr(os, "open", forbidden)
    found = qualification.run_program(kernel, "tcg", work=tmp_path, progress=lambda _: None)
    without, with_one = (
        str(record["result"]) for record in found.records if record["operation"].startswith("audit with")
    )
    assert without == with_one
    assert without.startswith("not audited: the guest's memory can't be reached from outside")
    assert len(found.records) == len(under_tcg.records)


@pytest.mark.parametrize("stub", [False], indirect=True, ids=["honest"])
@pytest.mark.parametrize("wanted", ["auto", "kvm"])
def test_a_store_that_is_full_says_nothing_about_kvm(stub: StandIn, wanted: accelerator.Wanted) -> None:
    """As soon as there is room, it is compared."""
    with files_at_most(64 << 20):
        choice = stub.choose(wanted)
    assert "not compared with TCG: the program doesn't run to its end under KVM: " in choice.reason
    assert choice.accelerator == ("kvm" if wanted == "kvm" else "tcg")
    assert choice.reason in stub.said[-1] or "not compared with TCG" in stub.said[-1]
    assert recall(stub.cache) is None
    assert not (stub.cache / "qualification.json").exists()


def one(**fields: object) -> Programmed:
    """A program of one step."""
    record = {"case": "qualification", "guest": 1, "step": 1, "operation": "x", "arguments": {}, **fields}
    return Programmed("tcg", (record,))


def test_what_differs_is_told_with_both_values() -> None:
    both: dict[Accelerator, Programmed] = {"tcg": one(result="1"), "kvm": one(result="2")}
    found = compared(both.__getitem__)
    assert found == Qualification(1, "record 1 (x): kernel says 1 under TCG, 2 under KVM")


def test_addresses_and_messages_are_not_compared() -> None:
    elsewhere = {"log": ["[ 1.0] x"], "address": 1}
    assert compared(lambda each: one(result="1", **(elsewhere if each == "kvm" else {}))).difference is None


def test_a_missing_record_differs() -> None:
    two = Programmed("tcg", (*one(result="1").records, {**one(result="1").records[0], "step": 2}))
    assert compared({"tcg": two, "kvm": one(result="1")}.__getitem__).difference == (
        "record 2 (the test goes on otherwise): kernel says x under TCG, ends under KVM"
    )


@pytest.mark.parametrize("error", [GuestExited("QEMU ended\nmore"), TemplateError("QEMU ended\nmore")])
@pytest.mark.parametrize("failing", ["tcg", "kvm"])
def test_a_program_that_does_not_end_says_nothing(error: Exception, failing: Accelerator) -> None:
    """It may be the host's fault, and pass."""

    def fails(under: Accelerator) -> Programmed:
        if under == failing:
            raise error
        return one(result="1")

    with pytest.raises(QualificationError) as caught:
        compared(fails)
    assert str(caught.value) == f"the program doesn't run to its end under {failing.upper()}: QEMU ended"
