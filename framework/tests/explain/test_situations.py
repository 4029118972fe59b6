"""Situations at random in real guests, each told by its guest's log alone: nothing wrong may be said of them.

``MEMTYPE_TEST_EFFORT=long`` tries 200, on four series; the figures are printed (``pytest -s``).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from memtype_support.effort import effort

from pytest_memtype import Hardware, Layout, MemType
from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import as_json, explain
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.region import Region
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.machine.layout_file import load_layout
from pytest_memtype.run.boot import GuestPlan, booted

UC, WC, WT, WB, UC_MINUS = MemType.UC, MemType.WC, MemType.WT, MemType.WB, MemType.UC_MINUS
TYPES = (UC_MINUS, WC, WT, WB, UC)
LAYOUTS = ("wb-device", "firmware", "wc-framebuffer", "uc-default", "painful-case")
SERIES = ("debian:bookworm", "debian:bullseye", "debian:trixie", "debian:trixie-backports")
WORDS = ("PAT", "ioremap", "memtype", "memremap")


@dataclass
class Told:
    """What the log of a situation has to be explained as; None where nothing is said or asked."""

    span: tuple[int, int] | None = None
    asked: MemType | None = None
    held: tuple[MemType, ...] = ()
    bug: str | None = None


def log_of(guest: Guest) -> list[str]:
    lines = guest.shell("dmesg").output.splitlines()
    return [each for each in lines if any(word in each for word in WORDS) and "module" not in each]


def held_by(guest: Guest, region: Region) -> tuple[MemType, ...]:
    """The types that are reserved there, in the order of the list, before a request."""
    return tuple(dict.fromkeys(each.memtype for each in guest.memtype_list(region)))


def situation(guest: Guest, chosen: random.Random, number: int) -> Told:
    """Two or three requests; what the first that the kernel complains of has to be explained as."""
    if chosen.random() < 0.2:
        return of_ram(guest, chosen, number)
    window = guest.mmio(pages=8)
    told = Told()
    process = guest.process(f"p{number}")
    for turn in range(chosen.choice((2, 3))):
        first = chosen.randrange(0, 5)
        region = window[first : first + chosen.randrange(1, 8 - first)]
        memtype = chosen.choice(TYPES)
        held = held_by(guest, region)
        if chosen.random() < 0.5:
            outcome = guest.driver(f"d{number}{turn}").ioremap(region, memtype)
        else:
            outcome = process.mmap(region, memtype)
        if outcome.kernel.accepted or told.span is not None:
            continue
        # is_new_memtype_allowed() and memtype_check_conflict(), 5.10 to 7.3: a refusal has two reasons.
        told = Told((region.start, region.end - 1), memtype, held)
        told.bug = "mixed-overlap" if len(held) > 1 else "wb-first" if held == (WB,) else "none"
    process.exit()
    return told


def of_ram(guest: Guest, chosen: random.Random, number: int) -> Told:
    ram = guest.ram(pages=4)
    memtype = chosen.choice((WC, UC_MINUS))
    kind = chosen.choice(("mapped", "twice", "changed"))
    span = (ram.start, ram.end - 1)
    driver = guest.driver(f"r{number}")
    if kind == "mapped":
        process = guest.process(f"p{number}")
        process.mmap(ram, memtype)
        process.exit()
        return Told(span, memtype, (WB,), "ram-other-type")
    made = driver.set_memory(ram, memtype)
    again = chosen.choice((WC, UC_MINUS))
    if kind == "twice":
        driver.set_memory(ram, again)
        told = Told(span, again, (memtype,), "ram-not-counted")
    else:
        process = guest.process(f"p{number}")
        process.mmap(ram, WB)
        process.exit()
        told = Told(span, WB, (memtype,), "ram-other-type")
    assert made.mapping
    driver.release(made.mapping)
    return told


def dressed(lines: list[str], banner: str, chosen: random.Random) -> str:
    """The log as somebody pastes it."""
    style = chosen.choice(("plain", "mail", "html", "journal", "bare", "wrapped"))
    whole = [f"[    0.000000] {banner}", *lines]
    bare = [each.split("] ", 1)[-1] for each in whole]
    if style == "mail":
        return "".join(f"> {each}\n" for each in ["Hi, it doesn't work:", *whole])
    if style == "html":
        return (
            "<pre>"
            + "<br>\n".join(each.replace("<", "&lt;").replace(">", "&gt;") for each in whole)
            + "</pre>"
        )
    if style == "journal":
        return "".join(f"Nov 29 10:00:00 box kernel: {each}\n" for each in bare)
    if style == "bare":
        return "".join(f"{each}\n" for each in bare)
    if style == "wrapped":
        out = []
        for each in whole:
            while len(each) > 72 and " " in each[40:72]:
                at = each.rindex(" ", 40, 72)
                out.append(each[:at])
                each = each[at + 1 :]
            out.append(each)
        return "\n".join(out)
    return "\n".join(whole)


def judged(found: dict[str, object], told: Told) -> tuple[str, str]:
    """``right``, ``wrong`` or ``less``, and what is wrong or missing."""
    expected = {
        "range": [f"{told.span[0]:#x}", f"{told.span[1]:#x}"] if told.span else "none",
        "asked": told.asked.name if told.asked is not None else "none",
        "held": [each.name for each in told.held] or "none",
        "known_bug": told.bug or "none",
    }
    less = []
    for key, value in expected.items():
        got = found[key]
        if got == value or (
            isinstance(got, list) and isinstance(value, list) and sorted(got) == sorted(value)
        ):
            continue
        if got != "none":
            return "wrong", f"{key}: {got} for {value}"
        less.append(key)
    return ("less", ", ".join(less)) if less else ("right", "")


@pytest.fixture
def to_be_closed() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kernel", effort(quick=SERIES[:1], long=SERIES))
def test_situations(kernel: str, to_be_closed: ExitStack, tmp_path: Path) -> None:
    bugs = [each.bug for each in catalogue()]
    made = bundle(kernel, progress=silent)
    results: Counter[str] = Counter()
    remarks = []
    for seed in range(effort(quick=1, long=5)):
        chosen = random.Random(f"{kernel} {seed}")
        layout: Layout = load_layout(LAYOUTS[seed])
        guest = booted(
            GuestPlan(made.image, made.initramfs, layout, Hardware(memory="256M")),
            logs=tmp_path / f"guest-{seed}",
        )
        to_be_closed.callback(guest.machine.close)
        banner = guest.shell("cat /proc/version").output.strip()
        before = log_of(guest)
        for number in range(10):
            told = situation(guest, chosen, number)
            after = log_of(guest)
            lines = after[len(before) :]
            before = after
            if not lines:
                # A request that is refused without a word, such as one for no pages, is nobody's report.
                told = Told()
            text = dressed(lines, banner, chosen)
            found = as_json(explain(read(text), bugs))
            result, what = judged(found, told)
            results[result] += 1
            if result != "right":
                remarks.append(f"{kernel} {layout.name} {number}: {result}: {what}\n{text}")
    print(f"{kernel}: {dict(results)}")
    total = sum(results.values())
    assert not results["wrong"], "\n\n".join(remarks)
    assert results["right"] >= 0.95 * total, "\n\n".join(remarks)
