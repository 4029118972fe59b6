"""Trials are real: both accelerators as this host has them, and the default kernel from the user's cache."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from memtype_support import broken_qemu

from pytest_memtype.commands.doctor import checks
from pytest_memtype.errors import GuestError, GuestExited, GuestHung, HostError
from pytest_memtype.host.progress import Remark
from pytest_memtype.kernels.bundle import Bundle, bundle
from pytest_memtype.machine import accelerator, qemu_command, qemu_versions
from pytest_memtype.machine.accelerator import (
    MILESTONES,
    Choice,
    Milestone,
    Qualification,
    choose,
    kvm_problem,
    race,
    recall,
    trusted,
)
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.qemu_command import Accelerator, QemuConfig
from pytest_memtype.machine.qemu_versions import QEMU

FILE = "accelerator.json"

SAME = Qualification(7, None)
OTHERWISE = Qualification(7, "record 3 (variable MTRR 0): kernel says base 0x6 under TCG, base 0x0 under KVM")

needs_kvm = pytest.mark.skipif(kvm_problem() is not None, reason=str(kvm_problem()))

pytestmark = pytest.mark.timeout(1200)  # The kernel may have to be downloaded first.


@dataclass(frozen=True)
class Host:
    """A cache folder, and a QEMU that leaves a line for each time it is started."""

    cache: Path
    starts: Path
    kernel: Bundle

    def started(self) -> list[str]:
        return self.starts.read_text().split() if self.starts.exists() else []

    def choose(self, **arguments: Any) -> Choice:
        return choose(
            self.kernel.image,
            self.kernel.initramfs,
            cache=self.cache,
            **{"progress": lambda _: None, "qualify": lambda: SAME, **arguments},
        )

    @property
    def file(self) -> Path:
        return self.cache / FILE


@pytest.fixture(scope="module")
def qemu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a QEMU in front of the real one writes down the accelerators it is started with."""
    folder = tmp_path_factory.mktemp("qemu")
    starts = folder / "starts"
    wrapper = folder / QEMU
    wrapper.write_text(f"""#!/bin/sh
for argument; do
    [ "$previous" = -accel ] && echo "$argument" >>'{starts}'
    previous=$argument
done
exec '{shutil.which(QEMU)}' "$@"
""")
    wrapper.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder), prepend=os.pathsep)
        yield starts


@pytest.fixture
def host(qemu: Path, tmp_path: Path) -> Host:
    """A host on which nothing was tried yet."""
    qemu.unlink(missing_ok=True)
    cache = tmp_path / "cache"
    cache.mkdir()
    return Host(cache, qemu, bundle("debian:bookworm"))


@pytest.fixture(scope="module")
def kept(qemu: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a trial leaves in the cache."""
    cache = tmp_path_factory.mktemp("cache")
    Host(cache, qemu, bundle("debian:bookworm")).choose()
    return (cache / FILE).read_bytes()


@pytest.fixture
def tried(kept: bytes, host: Host) -> Host:
    """A host that has been tried before."""
    host.file.write_bytes(kept)
    return host


@needs_kvm
def test_a_trial_is_kept_and_the_faster_one_wins(host: Host) -> None:
    stages: list[str] = []
    choice = host.choose(progress=stages.append)
    assert len(stages) == 1
    assert host.started() in (["tcg", "kvm"], ["tcg", "kvm", "tcg", "kvm"])
    assert choice.tcg_seconds is not None
    assert f"{choice.tcg_seconds:.2f} s under TCG" in choice.reason
    faster = choice.kvm_seconds is not None and choice.kvm_seconds < choice.tcg_seconds
    assert choice.accelerator == ("kvm" if faster else "tcg")
    assert {path.name for path in host.cache.iterdir()} - {"qualification.json"} == {FILE, "accelerator.lock"}
    assert host.choose(progress=stages.append) == choice
    assert len(stages) == 1
    assert len(host.started()) <= 4


@needs_kvm
def test_the_second_call_starts_no_qemu(tried: Host) -> None:
    choice = tried.choose()
    assert choice.tcg_seconds is not None
    assert choice == recall(tried.cache)
    assert tried.started() == []


CHOOSES = """
import sys
from pathlib import Path
from pytest_memtype.machine.accelerator import Qualification, choose
image, initramfs, cache = map(Path, sys.argv[1:])
print("ready", flush=True)
sys.stdin.readline()
print(choose(image, initramfs, cache=cache, progress=print, qualify=lambda: Qualification(7, None)))
"""


@needs_kvm
def test_two_processes_at_once_try_once(host: Host) -> None:
    command = [sys.executable, "-c", CHOOSES]
    command += map(str, (host.kernel.image, host.kernel.initramfs, host.cache))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    runs = [subprocess.Popen(command, text=True, env=environment, stdin=pipe, stdout=pipe) for _ in range(2)]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("\n")
        run.stdin.flush()
    answers = [run.communicate()[0].splitlines() for run in runs]
    assert answers[0][-1] == answers[1][-1] == str(host.choose())
    # One of them says that it times a boot.
    assert sorted(len(answer) for answer in answers) == [1, 2]
    assert host.started() in (["tcg", "kvm"], ["tcg", "kvm", "tcg", "kvm"])


def change(path: tuple[str, ...], value: object) -> Callable[[bytes], bytes]:
    def changed(kept: bytes) -> bytes:
        content = json.loads(kept)
        inner = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        return json.dumps(content).encode()

    return changed


@needs_kvm
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda kept: kept[: len(kept) // 2], id="half"),
        pytest.param(lambda _: b"\xff\xfe\0", id="not text"),
        pytest.param(lambda _: b"[]", id="a list"),
        pytest.param(lambda _: b"{}", id="nothing in it"),
        pytest.param(lambda _: b"[" * 100_000, id="too deep"),
        pytest.param(change(("choice",), None), id="no choice"),
        pytest.param(change(("choice", "accelerator"), "hvf"), id="unknown accelerator"),
        pytest.param(change(("choice", "reason"), 1), id="no reason"),
        pytest.param(change(("choice", "tcg_seconds"), "1"), id="text for seconds"),
        pytest.param(change(("choice", "tcg_seconds"), -1.0), id="negative seconds"),
        pytest.param(change(("choice", "new"), 1), id="unknown field"),
        pytest.param(change(("host", "boot_id"), "another"), id="host booted again"),
        pytest.param(change(("host", "qemu"), "another"), id="another QEMU"),
        pytest.param(change(("host", "kvm"), {"kvm_amd": {"npt": "N"}}), id="another KVM"),
    ],
)
def test_a_file_that_is_damaged_or_out_of_date_is_ignored(
    kept: bytes, host: Host, damage: Callable[[bytes], bytes]
) -> None:
    host.file.write_bytes(damage(kept))
    assert recall(host.cache) is None


@needs_kvm
def test_a_changed_boot_id_is_a_new_trial(kept: bytes, host: Host) -> None:
    host.file.write_bytes(change(("host", "boot_id"), "another")(kept))
    choice = host.choose()
    assert host.started()[:2] == ["tcg", "kvm"]
    assert recall(host.cache) == choice


@needs_kvm
def test_a_choice_that_can_not_be_kept_is_a_choice(host: Host) -> None:
    host.file.mkdir()
    assert host.choose().tcg_seconds is not None
    assert recall(host.cache) is None


@needs_kvm
def test_a_kernel_that_does_not_boot_says_nothing_about_kvm(host: Host, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"no kernel")
    choice = choose(
        broken, host.kernel.initramfs, cache=host.cache, progress=lambda _: None, qualify=lambda: SAME
    )
    assert choice.accelerator == "tcg"
    assert "doesn't boot under TCG" in choice.reason
    assert host.started() == ["tcg"]
    assert recall(host.cache) is None


def test_no_trial_where_kvm_can_not_be_opened(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "KVM", host.cache / "kvm")
    assert host.choose() == Choice("tcg", f"{host.cache / 'kvm'} is not there")
    assert list(host.cache.iterdir()) == []
    with pytest.raises(HostError) as caught:
        host.choose(wanted="kvm")
    assert str(caught.value).startswith(f"--accel=kvm: {host.cache / 'kvm'} is not there; ")
    assert "\n" not in str(caught.value)
    assert host.started() == []


def test_why_kvm_can_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Files of sysctl that are read-only are so for root, too (Linux, fs/proc/proc_sysctl.c, test_perm).
    monkeypatch.setattr(accelerator, "KVM", Path("/proc/sys/kernel/osrelease"))
    assert kvm_problem() == "/proc/sys/kernel/osrelease is not open to this user"
    monkeypatch.setattr(accelerator, "KVM", tmp_path)
    assert kvm_problem() == f"{tmp_path} can't be opened (Is a directory)"


def test_tcg_that_is_asked_for_is_not_tried(host: Host) -> None:
    assert host.choose(wanted="tcg") == Choice("tcg", "asked for")
    assert host.started() == []
    assert list(host.cache.iterdir()) == []


# What is compared is told by a stand-in here; test_qualification.py compares guests.


@dataclass
class Compared:
    """Stands for comparing KVM with TCG.

    :ivar times: How often that was done.
    """

    found: Qualification | GuestError
    times: int = 0

    def __call__(self) -> Qualification:
        self.times += 1
        if isinstance(self.found, GuestError):
            raise self.found
        return self.found


@pytest.fixture
def fast(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose KVM can be opened, and wins each race."""
    monkeypatch.setattr(accelerator, "KVM", Path(os.devnull))
    monkeypatch.setattr(accelerator, "race", lambda _: Choice("kvm", "faster", 0.5, 2.5))
    return host


def test_kvm_is_taken_when_its_records_are_the_same(fast: Host) -> None:
    compared = Compared(SAME)
    choice = fast.choose(qualify=compared)
    assert choice == Choice("kvm", "faster; 7 records are the same under both", 0.5, 2.5)
    assert fast.choose(qualify=compared) == choice == recall(fast.cache)
    assert compared.times == 1


def test_kvm_is_not_taken_when_a_record_differs(fast: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    compared = Compared(OTHERWISE)
    choice = fast.choose(qualify=compared, progress=said.append)
    assert choice.accelerator == "tcg"
    assert choice.reason == f"KVM is faster, but not to be trusted: {OTHERWISE.difference}"
    assert said[-1] == f"TCG it is: {choice.reason}"
    assert isinstance(said[-1], Remark)
    assert fast.choose(qualify=compared) == choice
    assert compared.times == 1
    monkeypatch.setenv("MEMTYPE_CACHE", str(fast.cache))
    shown = {check.name: check.found for check in checks()}
    assert shown["accelerator"] == f"TCG: {choice.reason}"


def test_kvm_that_is_asked_for_is_taken_and_warned_of(fast: Host) -> None:
    said: list[str] = []
    compared = Compared(OTHERWISE)
    choice = fast.choose(wanted="kvm", qualify=compared, progress=said.append)
    assert choice.accelerator == "kvm"
    assert said == [f"--accel=kvm: not to be trusted: {OTHERWISE.difference}"]
    assert isinstance(said[0], Remark)
    assert OTHERWISE.difference is not None
    assert OTHERWISE.difference in choice.reason
    # Each run is warned; one compares.
    assert fast.choose(wanted="kvm", qualify=compared, progress=said.append) == choice
    assert len(said) == 2
    # And auto need not do it again.
    assert fast.choose(qualify=compared).accelerator == "tcg"
    assert compared.times == 1


def test_kvm_that_is_asked_for_and_the_same_is_no_news(fast: Host) -> None:
    said: list[str] = []
    assert fast.choose(wanted="kvm", progress=said.append) == Choice("kvm", "asked for")
    assert said == []


def test_nothing_is_kept_when_tcg_fails(fast: Host) -> None:
    compared = Compared(GuestError("kernel x has no module"))
    assert fast.choose(qualify=compared) == Choice(
        "tcg", "KVM was not compared with TCG: kernel x has no module"
    )
    assert fast.choose(wanted="kvm", qualify=compared).reason.startswith("asked for; not compared with TCG")
    assert compared.times == 2
    assert recall(fast.cache) is None
    assert not (fast.cache / "qualification.json").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"[" * 100_000,
        change(("qualification",), None),
        change(("qualification", "difference"), 1),
        change(("qualification", "records"), "7"),
        change(("host", "boot_id"), "another"),
        change(("host", "kvm"), {"kvm_amd": {"npt": "N"}}),
    ],
    ids=["empty", "too deep", "none", "number for text", "text for number", "booted again", "another KVM"],
)
def test_a_qualification_that_is_damaged_or_out_of_date_is_ignored(
    fast: Host, damage: Callable[[bytes], bytes]
) -> None:
    compared = Compared(SAME)
    fast.choose(wanted="kvm", qualify=compared)
    file = fast.cache / "qualification.json"
    file.write_bytes(damage(file.read_bytes()))
    fast.choose(wanted="kvm", qualify=compared)
    assert compared.times == 2


def test_parameters_of_kvm_are_part_of_what_is_kept(
    fast: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator, "_MODULES", tmp_path)
    parameters = tmp_path / "kvm_amd" / "parameters"
    parameters.mkdir(parents=True)
    (parameters / "npt").write_text("Y\n")
    assert fast.choose().accelerator == "kvm"
    assert recall(fast.cache) is not None
    (parameters / "npt").write_text("N\n")
    assert recall(fast.cache) is None


def test_what_was_compared_and_how_it_was_started_are_part_of_what_is_kept(
    fast: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fast.choose().accelerator == "kvm"
    compared = Compared(OTHERWISE)
    assert fast.choose(wanted="kvm", qualify=compared) == Choice("kvm", "asked for")
    with monkeypatch.context() as patch:
        patch.setattr(accelerator, "PROGRAM", accelerator.PROGRAM + 1)
        assert recall(fast.cache) is None
        assert "not to be trusted" in fast.choose(wanted="kvm", qualify=compared).reason
    with monkeypatch.context() as patch:
        # As fill-mtrr-mask=off came to it.
        patch.setattr(qemu_command, "_cpu", lambda _: "qemu64,kvm=off")
        assert recall(fast.cache) is None


def test_a_script_in_front_of_another_qemu_is_another(
    fast: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = broken_qemu.make(tmp_path / "inner", "newer")
    folder = tmp_path / "outer"
    folder.mkdir()
    (folder / QEMU).write_text(f'#!/bin/sh\nexec {inner} "$@"\n')
    (folder / QEMU).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    assert fast.choose().accelerator == "kvm"
    assert recall(fast.cache) is not None
    inner.write_text(inner.read_text().replace("99", "98"))
    # As in the next process.
    qemu_versions._asked.cache_clear()
    assert recall(fast.cache) is None


def test_trust_needs_no_difference() -> None:
    faster = Choice("kvm", "faster", 0.5, 2.5)
    assert trusted(faster, SAME).accelerator == "kvm"
    assert trusted(faster, OTHERWISE).accelerator == "tcg"
    assert trusted(faster, OTHERWISE).kvm_seconds == 0.5


@needs_kvm
def test_the_doctor_shows_the_figures(tried: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tried.cache))
    choice = tried.choose()
    shown = {check.name: check.found for check in checks()}
    assert shown["accelerator"] == f"{choice.accelerator.upper()}: {choice.reason}"
    tried.file.unlink()
    shown = {check.name: check.found for check in checks()}
    assert shown["accelerator"].startswith("not tried yet")


# The decision itself, for what this host can't show: figures in, choice out.

KERNEL, AGENT = (milestone.name for milestone in MILESTONES)


def raced(figures: dict[tuple[Accelerator, str], float | GuestError]) -> tuple[Choice, list[float]]:
    """The choice, and how long KVM was given at each milestone."""
    given = []

    def trial(accelerator: Accelerator, milestone: Milestone, timeout: float) -> float:
        if accelerator == "kvm":
            given.append(timeout)
        figure = figures[accelerator, milestone.name]
        if isinstance(figure, GuestError):
            raise figure
        return figure

    return race(trial), given


def test_kvm_wins_if_it_is_first_everywhere() -> None:
    figures: dict[tuple[Accelerator, str], float | GuestError] = {
        ("tcg", KERNEL): 0.75,
        ("kvm", KERNEL): 0.25,
        ("tcg", AGENT): 2.5,
        ("kvm", AGENT): 0.5,
    }
    choice, given = raced(figures)
    assert choice == Choice("kvm", f"{AGENT} came after 2.50 s under TCG, 0.50 s under KVM", 0.5, 2.5)
    assert given == [0.75, 2.5]


@pytest.mark.parametrize("kvm", [2.5, 3.0])
def test_kvm_loses_if_it_is_late_at_the_end(kvm: float) -> None:
    choice, _ = raced(
        {("tcg", KERNEL): 0.75, ("kvm", KERNEL): 0.25, ("tcg", AGENT): 2.5, ("kvm", AGENT): kvm}
    )
    assert (choice.accelerator, choice.kvm_seconds, choice.tcg_seconds) == ("tcg", kvm, 2.5)


def test_kvm_that_crawls_is_given_up_early() -> None:
    choice, given = raced({("tcg", KERNEL): 0.75, ("kvm", KERNEL): GuestHung("late")})
    assert choice == Choice("tcg", f"{KERNEL} came after 0.75 s under TCG, not as soon under KVM", None, 0.75)
    assert given == [0.75]


def test_kvm_that_ends_the_guest_says_why() -> None:
    choice, _ = raced({("tcg", KERNEL): 0.75, ("kvm", KERNEL): GuestExited("QEMU ended", details=("more",))})
    assert choice.accelerator == "tcg"
    assert choice.reason.endswith("under KVM, QEMU ended")


def test_tcg_that_fails_is_no_choice() -> None:
    with pytest.raises(GuestExited):
        raced({("tcg", KERNEL): GuestExited("no kernel")})


def cpu_shown(accelerator: Accelerator, cpu: str, logs: Path) -> dict[str, Any]:
    """What QEMU says of the first CPU of a guest."""
    properties = ("vendor", "family", "model", "stepping", "phys-bits", "mtrr", "pat", "pge", "x2apic")
    with Machine.start(QemuConfig(Hardware(cpu=cpu), accelerator=accelerator), logs=logs) as machine:
        path = machine.qmp.execute("query-cpus-fast")[0]["qom-path"]
        return {name: machine.qmp.execute("qom-get", {"path": path, "property": name}) for name in properties}


@needs_kvm
@pytest.mark.parametrize("cpu", ["qemu64", "qemu64,-mtrr", "core2duo", "EPYC-v1", "Dhyana-v1"])
def test_guests_see_the_same_cpu(cpu: str, tmp_path: Path) -> None:
    shown = cpu_shown("kvm", cpu, tmp_path)
    assert shown == cpu_shown("tcg", cpu, tmp_path)
    assert shown["phys-bits"] == Hardware(cpu=cpu).physical_bits


@needs_kvm
def test_physical_addresses_are_as_wide_where_the_cpu_is_the_host_s(tmp_path: Path) -> None:
    # QEMU 7.2 aborts on hosts that show arch-capabilities and then refuse to set its register.
    cpu = "max,arch-capabilities=off"
    assert cpu_shown("kvm", cpu, tmp_path)["phys-bits"] == Hardware(cpu=cpu).physical_bits
