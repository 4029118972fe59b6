"""Random situations in real guests, each told by its guest's log alone, as people paste such a log.

A situation is two or three mappings of the same memory, on a layout that may be random, too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pytest_memtype import Hardware, Layout, MemType, MtrrRange
from pytest_memtype.errors import HostError, TemplateError
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.region import Region
from pytest_memtype.host.progress import silent
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels.bundle import Bundle
from pytest_memtype.machine.layout_file import load_layout
from pytest_memtype.run.boot import GuestPlan, booted, cloned

UC, WC, WT, WP, WB, UC_MINUS = (
    *(MemType.UC, MemType.WC, MemType.WT),
    *(MemType.WP, MemType.WB, MemType.UC_MINUS),
)
TYPES = (UC_MINUS, WC, WT, WB, UC)
LAYOUTS = ("wb-device", "firmware")
"""The layouts of the first seeds; the others have random ones."""
SERIES = ("debian:bookworm", "debian:bullseye", "debian:trixie", "debian:trixie-backports")
WORDS = ("PAT", "ioremap", "memtype", "memremap")

_DEVICE = 0xFD000000
_MIB = 1 << 20

Start: TypeAlias = Callable[[GuestPlan, Path], Guest]
"""Makes the guest of a plan, with its logs in a folder."""


@dataclass
class Told:
    """What the log of a situation has to be explained as; None where nothing is said or asked."""

    span: tuple[int, int] | None = None
    asked: MemType | None = None
    held: tuple[MemType, ...] = ()
    bug: str | None = None


@dataclass(frozen=True)
class Situation:
    """A situation, and what is left of it.

    :param name: The kernel, seed and number by which it can be made again, and its layout.
    :param lines: Its lines in the guest's ``dmesg``; none where nothing was refused aloud.
    :param text: The report: those lines, and the kernel's version, as somebody pastes them.
    :param told: What the report has to be explained as.
    """

    name: str
    lines: tuple[str, ...]
    text: str
    told: Told


def by_clone(plan: GuestPlan, logs: Path) -> Guest:
    """A guest of a template in the user's cache, so that hundreds of reports want few boots."""
    try:
        return cloned(plan, logs=logs, cache=cache_directory() / "templates", progress=silent)
    except (TemplateError, HostError):
        # As a run does where the host had no time for a template.
        return booted(plan, logs=logs / "booted")


def situations(
    made: Bundle, kernel: str, seed: int, *, count: int, logs: Path, start: Start = by_clone
) -> Generator[Situation, None, None]:
    """Situations in one guest, the same for the same kernel and seed.

    :param made: The kernel.
    :param kernel: Its spec.
    :param seed: The number of the guest.
    :param count: The number of situations.
    :param logs: A folder for the guest's logs.
    :param start: Makes the guest.
    """
    chosen = random.Random(f"{kernel} {seed}")
    layout = load_layout(LAYOUTS[seed]) if seed < len(LAYOUTS) else random_layout(chosen)
    guest = start(GuestPlan(made.image, made.initramfs, layout, Hardware(memory="256M")), logs)
    with guest.machine:
        banner = guest.shell("cat /proc/version").output.strip()
        before = _log_of(guest)
        for number in range(count):
            told = _situation(guest, chosen, number)
            after = _log_of(guest)
            lines = after[len(before) :]
            before = after
            if not lines:
                # A request that is refused without a word, such as one for no pages, is nobody's report.
                told = Told()
            name = f"{kernel}, seed {seed} ({layout.name}), situation {number}"
            yield Situation(name, tuple(lines), _dressed(lines, banner, chosen), told)


def random_layout(chosen: random.Random) -> Layout:
    """A layout whose RAM is write-back, and whose device memory has up to four ranges of any type."""
    default = chosen.choice((WB, UC))
    ranges = [] if default is WB else [MtrrRange(0, "256M", WB)]
    for _ in range(chosen.randrange(5)):
        # Below 1 MiB of the BAR, where situations lie; or all of it.
        size = 1 << chosen.choice((12, 13, 15, 16, 18, 20, 24))
        base = _DEVICE + chosen.randrange(max(_MIB // size, 1)) * size
        ranges.append(MtrrRange(base, size, chosen.choice((UC, WC, WT, WP, WB))))
    return Layout("random", default=default, ranges=ranges)


def _log_of(guest: Guest) -> list[str]:
    lines = guest.shell("dmesg").output.splitlines()
    return [each for each in lines if any(word in each for word in WORDS) and "module" not in each]


def _held_by(guest: Guest, region: Region) -> tuple[MemType, ...]:
    """The types that are reserved there, in the order of the list, before a request."""
    return tuple(dict.fromkeys(each.memtype for each in guest.memtype_list(region)))


def _situation(guest: Guest, chosen: random.Random, number: int) -> Told:
    """Two or three requests; what the first that the kernel complains of has to be explained as."""
    if chosen.random() < 0.2:
        return _of_ram(guest, chosen, number)
    window = guest.mmio(pages=8)
    told = Told()
    process = guest.process(f"p{number}")
    for turn in range(chosen.choice((2, 3))):
        first = chosen.randrange(0, 5)
        region = window[first : first + chosen.randrange(1, 8 - first)]
        memtype = chosen.choice(TYPES)
        held = _held_by(guest, region)
        by_driver = chosen.random() < 0.5
        if by_driver:
            outcome = guest.driver(f"d{number}{turn}").ioremap(region, memtype)
        else:
            outcome = process.mmap(region, memtype)
        if outcome.kernel.accepted or told.span is not None:
            continue
        # is_new_memtype_allowed() and memtype_check_conflict(), 5.10 to 7.3: a refusal has two reasons.
        told = Told((region.start, region.end - 1), memtype, held)
        told.bug = "mixed-overlap" if len(held) > 1 else "wb-first" if held == (WB,) else "none"
        if len(held) > 1 and not by_driver and memtype is held[0]:
            # A request that takes no other type has the same line.
            told.bug = "none"
    process.exit()
    return told


def _of_ram(guest: Guest, chosen: random.Random, number: int) -> Told:
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


def _dressed(lines: list[str], banner: str, chosen: random.Random) -> str:
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
