"""Twelve typical mistakes; what pytest says of each is kept in mistakes/."""

from __future__ import annotations

import os
import signal

import pytest

from pytest_memtype import Guest, MemType


def test_another_type_than_asked_for(guest: Guest) -> None:
    bar = guest.mmio(pages=4)
    guest.driver("drm").ioremap(bar, MemType.WC)
    second = guest.driver("fbdev").ioremap(bar, MemType.UC_MINUS)
    assert second.accepted


def test_verdict_that_is_none(guest: Guest) -> None:
    first = guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC)
    assert first.verdict.rejected


def test_wrong_rule(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    guest.driver("drm").ioremap(bar, MemType.WC)
    assert guest.driver("fbdev").ioremap(bar, MemType.UC).verdict.rule == "exclusive"


def test_wrong_type_in_the_page_table(guest: Guest) -> None:
    outcome = guest.process("X").mmap(guest.mmio(pages=2), MemType.UC_MINUS, via="devmem")
    assert outcome.granted is MemType.WB


def test_one_of_many(guest: Guest) -> None:
    driver = guest.driver("drm")
    outcomes = []
    for _ in range(30):
        outcomes.append(driver.ioremap(guest.mmio(pages=1), MemType.WC))
        mapping = outcomes[-1].mapping
        assert mapping is not None
        driver.release(mapping)
    assert all(each.granted is MemType.UC for each in outcomes[-2:])


def test_mapping_that_is_gone(guest: Guest) -> None:
    driver = guest.driver("drm")
    mapping = driver.ioremap(guest.mmio(pages=1), MemType.WC).mapping
    assert mapping is not None
    driver.release(mapping)
    driver.release(mapping)


def test_more_ram_than_there_is(guest: Guest) -> None:
    guest.ram(pages=100_000)


def test_region_that_is_no_pages(guest: Guest) -> None:
    guest.region(0xFD000000, 0x1800)


@pytest.mark.expect_oops(match="no such report")
def test_report_that_does_not_come(guest: Guest) -> None:
    guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC)


def test_report_that_nobody_expects(guest: Guest) -> None:
    guest.driver("drm").ioremap(guest.ram(pages=1), MemType.UC_MINUS)


@pytest.mark.expect_alias
def test_alias_that_is_not_there(guest: Guest) -> None:
    guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC)


def test_guest_that_is_killed(guest: Guest) -> None:
    os.kill(guest.machine.process.pid, signal.SIGKILL)
    guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC)
