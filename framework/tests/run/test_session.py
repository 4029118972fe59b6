"""How the guests of a run come to be, and what is said when a clone can't be had."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from memtype_support.empty_cache import empty_cache

from pytest_memtype.coverage.reading import readings
from pytest_memtype.errors import OptionMissing, WrongClock
from pytest_memtype.guest.guest import Guest
from pytest_memtype.host.checksum import checksum_of
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import bundle, use_bundle
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout_file import load_layout
from pytest_memtype.machine.template import sealed
from pytest_memtype.run import boot
from pytest_memtype.run.counters import CounterCollector
from pytest_memtype.run.session import GuestsOfTest as Guests
from pytest_memtype.run.session import GuestSpec, Session
from pytest_memtype.run.variants import Variant

KIND = GuestSpec("debian:bookworm", load_layout("firmware", []), Hardware(memory="96M"))


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    made = Session(tmp_path, progress=silent, fresh="clone", accelerator="tcg")
    yield made
    made.close()


@pytest.fixture
def no_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, but for the kernels, which take long to build. Its folder for templates."""
    cache = tmp_path / "cache"
    empty_cache(cache)
    monkeypatch.setenv("MEMTYPE_CACHE", str(cache))
    return cache / "templates"


def damage_state(templates: Path) -> None:
    """So that only QEMU can find it."""
    (state,) = templates.glob("*/ready/state")
    state.write_bytes(b"QEVM nonsense" * 1000)
    facts = state.with_name("template.json")
    content = json.loads(facts.read_text())
    facts.write_text(sealed({**content, "sums": {**content["sums"], "state": checksum_of(state)}}))


def test_a_guest_is_a_clone_unless_it_should_be_booted(session: Session, tmp_path: Path) -> None:
    ready = session.start(KIND, logs=tmp_path / "clone")
    with ready.guest.machine:
        assert ready.how == "clone"
    booting = Session(tmp_path, progress=silent, fresh="boot", accelerator="tcg")
    ready = booting.start(KIND, logs=tmp_path / "boot")
    with ready.guest.machine:
        assert ready.how == "boot"
    booting.close()


@pytest.mark.parametrize("fresh", ["clone", "boot"])
def test_a_guest_that_sees_no_mappings_of_others_is_told_of(tmp_path: Path, fresh: str) -> None:
    """No alias of a driver's can fail a test there: without a word that looks like a kernel without any."""
    said: list[str] = []
    session = Session(tmp_path, progress=said.append, fresh=fresh, accelerator="tcg")
    with closing(session):
        # 6.1's ftrace, on whose call sites the probes sit, can be off. Without PAT 5.10 never calls
        # memtype_free.part.0, and nothing is reserved that could be seen.
        for kernel, cmdline in (
            ("debian:bookworm", ""),
            ("debian:bullseye", "nopat"),
            ("debian:bookworm", "sysctl.kernel.ftrace_enabled=0"),
        ):
            for _ in range(2):
                hardware = replace(KIND.hardware, cmdline=cmdline)
                kind = replace(KIND, kernel=kernel, hardware=hardware)
                session.start(kind, logs=tmp_path / "logs").guest.machine.close()
    assert [line for line in said if "unseen" in line] == [
        "guests of debian:bookworm with memory=96M, cmdline=sysctl.kernel.ftrace_enabled=0: mappings of "
        "others go unseen, and their aliases with them (memtype_reserve: attached, but switched off; "
        "memtype_free: attached, but switched off)"
    ]


@pytest.mark.parametrize("fresh", ["clone", "boot"])
def test_a_guest_of_which_nothing_can_be_noted_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: str
) -> None:
    """The disk of the counters is full, say: nobody else would end it before the run does."""
    made = SimpleNamespace(machine=SimpleNamespace(closed=False))
    made.machine.close = lambda: vars(made.machine).update(closed=True)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Session, "plan", lambda *_: None)
    for name in ("cloned", "booted"):
        monkeypatch.setattr(f"pytest_memtype.run.session.{name}", lambda *_, **__: made)
    monkeypatch.setattr("pytest_memtype.run.session.note_boot", lambda *_: None)
    monkeypatch.setattr("pytest_memtype.run.session.note_start", full)
    session = Session(tmp_path, progress=silent, fresh=fresh, accelerator="tcg")
    with pytest.raises(OSError, match="No space"):
        session._make(KIND, tmp_path / "logs")
    assert made.machine.closed


@pytest.mark.parametrize(
    ("hardware", "option"),
    [(Hardware(cpus=2), "ACPI"), (Hardware(firmware="ovmf"), "EFI"), (Hardware(), "GCOV_KERNEL")],
    ids=["cpus", "uefi", "coverage"],
)
def test_a_guest_that_its_kernel_was_built_without(tmp_path: Path, hardware: Hardware, option: str) -> None:
    """A test may ask for the guest in its body, where no marker says so."""
    without = tmp_path / "config"
    without.write_text("CONFIG_SMP=y\n")
    use_bundle("tree:without", replace(bundle(KIND.kernel), config=without))
    counting = option == "GCOV_KERNEL"
    session = Session(tmp_path, progress=silent, fresh="clone", accelerator="tcg", coverage=counting)
    kind = GuestSpec("tree:without", KIND.layout, hardware)
    with pytest.raises(OptionMissing, match=f"the test needs CONFIG_{option}=y") as caught:
        session.start(kind, logs=tmp_path / "logs")
    assert caught.value.options == (option,)


def test_the_expected_guest_is_started_meanwhile(session: Session, tmp_path: Path) -> None:
    session.expect(KIND, logs=tmp_path / "next")
    ready = session.start(KIND, logs=tmp_path / "next")
    with ready.guest.machine:
        assert ready.how == "clone"
        assert ready.guest.tracked(observed=False) == ()
        assert ready.guest.machine.logs == tmp_path / "next"


def test_closing_ends_the_expected_guest(session: Session, tmp_path: Path) -> None:
    session.expect(KIND, logs=tmp_path / "next")
    session.close()
    assert not (tmp_path / "next").exists()


def test_a_clone_that_can_not_be_had_is_booted_and_the_record_says_why(
    session: Session, tmp_path: Path, no_templates: Path
) -> None:
    session.start(KIND, logs=tmp_path / "first").guest.machine.close()
    damage_state(no_templates)
    guests = Guests(session, tmp_path / "test")
    guest = guests.start(KIND)
    assert guest.shell("echo alive").output == "alive\n"
    (record,) = guests.records("test_it", Variant("debian:bookworm", "debian:bookworm"), since=[])
    guests.end()
    guests.forget(keep_logs=False)
    assert record["boot"].startswith("boot, because a clone failed: QEMU (process ")
    assert "\n" not in record["boot"]
    assert not (tmp_path / "test").exists()


def test_the_logs_of_a_template_that_can_not_be_made_stay(
    session: Session, tmp_path: Path, no_templates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No guest's clock is as slow as that.
    monkeypatch.setattr(boot, "_FASTEST", 0.001)
    guests = Guests(session, tmp_path / "test")
    guests.start(KIND).shell("true")
    (record,) = guests.records("test_it", Variant("debian:bookworm", "debian:bookworm"), since=[])
    guests.end()
    guests.forget(keep_logs=False)
    assert record["boot"].startswith("boot, because a clone failed: the guest's clock counts ")
    assert record["boot"].endswith("; logs in test/guest-1/template")
    assert "Linux version" in (tmp_path / "test" / "guest-1" / "template" / "console.log").read_text()
    assert not list(no_templates.glob("*/ready"))


@pytest.mark.usefixtures("no_templates")
def test_a_template_whose_clock_is_wrong_is_made_once_more(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a host does that has no time for QEMU for a moment, while Linux measures the TSC."""
    limits = iter([0.001, boot._FASTEST])
    check = boot._check_clock

    def checked(*readings: boot._Reading, since: float) -> None:
        monkeypatch.setattr(boot, "_FASTEST", next(limits))
        check(*readings, since=since)

    monkeypatch.setattr(boot, "_check_clock", checked)
    guests = Guests(session, tmp_path / "test")
    guests.start(KIND).shell("true")
    (record,) = guests.records("test_it", Variant("debian:bookworm", "debian:bookworm"), since=[])
    left = list((tmp_path / "test").rglob("template"))
    guests.end()
    guests.forget(keep_logs=False)
    assert record["boot"] == "clone"
    assert left == []
    assert next(limits, None) is None


@pytest.mark.parametrize(
    ("first", "last", "right"),
    [
        # The firmware took half a minute.
        ((35.0, 1.0, 35.1), (36.0, 2.0, 36.1), True),
        ((2.0, 1.0, 2.1), (3.0, 7.0, 3.1), False),
        ((2.0, 0.3, 2.1), (3.0, 0.5, 3.1), False),
        # Each of these answers may be of any moment in 2 seconds.
        ((2.0, 1.0, 4.0), (4.1, 1.3, 6.1), True),
        # Too near to tell.
        ((2.0, 1.0, 2.1), (2.2, 1.0, 2.3), True),
    ],
    ids=["late", "fast", "slow", "busy", "near"],
)
def test_a_clock_that_counts_wrong(
    first: tuple[float, float, float], last: tuple[float, float, float], right: bool
) -> None:
    """The guest was started at 0; its clock says the middle number between the outer two."""
    readings = boot._Reading(*first), boot._Reading(*last)
    if right:
        boot._check_clock(*readings, since=0)
    else:
        with pytest.raises(WrongClock, match="this host was too busy"):
            boot._check_clock(*readings, since=0)


def test_a_guest_that_hangs_is_shared_no_longer(session: Session, tmp_path: Path) -> None:
    guests = Guests(session, tmp_path / "module")
    one = guests.shared(KIND)
    one._agent.timeout = 1
    one.qmp.execute("stop")
    guests.reset()
    assert not one.machine.alive
    assert guests.shared(KIND).shell("echo hello").output == "hello\n"
    guests.end()


def test_a_guest_is_shared_while_it_lives(session: Session, tmp_path: Path) -> None:
    guests = Guests(session, tmp_path / "module")
    one = guests.shared(KIND)
    assert guests.shared(KIND) is one
    one.machine.close()
    two = guests.shared(KIND)
    assert two is not one
    assert two.machine.alive
    guests.end()
    guests.forget(keep_logs=True)
    assert not two.machine.alive
    assert sorted(path.name for path in (tmp_path / "module").iterdir()) == ["guest-1", "guest-2"]


def test_counters_over_a_kexec(session: Session, tmp_path: Path) -> None:
    """The test has what it ran before and after, and what the new kernel ran as it booted is a boot's."""
    put = (
        "mount -t tmpfs counters /sys/kernel/debug && mkdir -p /sys/kernel/debug/gcov/linux && "
        "printf {} > /sys/kernel/debug/gcov/linux/mm.gcda"
    )
    guests = Guests(session, tmp_path / "test")
    # Two kernels at once take more than 96 MiB.
    guest = guests.start(replace(KIND, hardware=Hardware()))
    session._counters = CounterCollector(tmp_path)

    def before(guest: Guest) -> None:
        assert guests.end_kernel(guest, test="test_it", audited=False) == []

    def after(guest: Guest) -> None:
        assert guest.shell(put.format("adcgboot")).status == 0
        guests.begin_again(guest)
        assert guest.shell(put.format("adcgnew1")).status == 0

    guest.before_kexec, guest.after_kexec = before, after
    assert guest.shell(put.format("adcgold1")).status == 0
    guest.kexec()
    guests.count("test_it")
    guests.end()
    guests.forget(keep_logs=False)
    found = {each.data: each for each in readings(tmp_path)}
    assert {data: each.test for data, each in found.items()} == {
        b"adcgold1": "test_it",
        b"adcgboot": "",
        b"adcgnew1": "test_it",
    }
    assert found[b"adcgboot"].template.startswith("boot-")
    assert found[b"adcgnew1"].template == ""
