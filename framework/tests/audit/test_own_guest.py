"""The audit of guests of our own. What it finds in them is in test_guest_audit.py."""

from __future__ import annotations

from memtype_support.system_ram import ram_pages

from pytest_memtype import Guest
from pytest_memtype.audit.own_guest import audit_machine, audit_template


def test_the_roots_that_the_guest_names_are_found_without_it(guest: Guest) -> None:
    process = guest.process("X")
    vouched = {root.frame for root in guest.audit(tracked=False).seen.roots if root.process}
    scanned = {root.frame for root in audit_machine(guest.machine).seen.roots}
    assert len(vouched) >= 2, process
    assert vouched <= scanned


def test_what_the_guest_says_of_a_space_that_is_none_is_not_believed(guest: Guest) -> None:
    nobody = guest.ram(pages=1).start
    found = audit_machine(guest.machine, spaces={nobody: (7, "nobody"), 1 << 50: (8, "nowhere")})
    assert not [root for root in found.seen.roots if root.process]
    # What CR3 says is looked at all the same.
    assert found.figures.pages >= ram_pages(guest)
    assert found.conflicts == ()


def test_the_template_of_a_clone(guest: Guest) -> None:
    found = audit_template(guest.machine)
    if guest.machine.config.ram_file is None:
        assert found is None
        return
    assert found is not None
    assert found.figures.pages >= ram_pages(guest)
    assert found.conflicts == ()
    # It was saved, so nothing stood still.
    assert (found.figures.stop_ms, found.figures.search_ms) == (0, 0)
