"""Texts that say of a message that it is no more: changelogs, and commits of git's."""

from __future__ import annotations

from typing import Final

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import as_json, explain, sections

# Fedora's kernel.spec, April 2009.
_RPM = """\
* Tue Apr 21 2009 Dave Airlie <airlied@redhat.com> 2.6.29.1-103
- radeon kms: fix lcd edid detection + fix legacy crtc setup

* Sun Apr 19 2009 Mark McLoughlin <markmc@redhat.com> - 2.6.29.1-101
- Fix xen boot on machines without NX support (#492523)

* Sat Apr 18 2009 Kyle McMartin <kyle@redhat.com> 2.6.29.1-100
- pat-remove-page-granularity-tracking-for-vm_insert_pfn_maps.patch:
   Fix the spew of "Xorg:3254 freeing invalid memtype" messages.
"""
# The form of Debian's, with such words.
_DEB = """\
linux (6.12.25-1) unstable; urgency=medium

  * New upstream stable update:
    - x86/mm/pat: silence "test:178 freeing invalid memtype" of mremap()

 -- A Maintainer <maintainer@example.org>  Sat, 26 Apr 2025 13:09:21 +0200
"""
_GIT = """\
    This change resolves the problem of too many single page entries
    in pat_memtype_list and "freeing invalid memtype" errors with i915,
    reported here:
"""


# Items with a whole line of the kernel's.
_WHOLE: Final = """\
* Tue Jun 14 2011 A Maintainer <maintainer@example.org> - 2.6.38.8-33
- x86, pat: "X:1234 freeing invalid memtype d8000000-d8010000" comes no more (#709)
- mtrr: no more MTRRs available: don't say so twice
"""
_IN_WORDS: Final = 'The patch fixes "X:1234 freeing invalid memtype d8000000-d8010000" of mremap().\n'


@pytest.mark.parametrize("text", [_RPM, _DEB, _GIT, _WHOLE, _IN_WORDS])
def test_a_message_that_is_mended_is_no_report(text: str) -> None:
    found = explain(read(text), [])
    assert found.about.main is None
    assert "names a message of the kernel's about memory types, and the text shows none" in found.story.answer
    assert as_json(found)["kernel"] == "none"
    assert as_json(found)["cut"] == []
    titles = [each.title for each in sections(found)]
    assert "Is that dangerous?" not in titles
    assert "Known bugs" not in titles


def test_words_below_a_changelog_are_none_of_it() -> None:
    text = (
        f"{_WHOLE}\nBut I still have\nx86/PAT: test:178 freeing invalid memtype [mem 0xfd000000-0xfd001fff]\n"
    )
    assert explain(read(text), []).about.span is not None


@pytest.mark.parametrize(
    "text",
    [
        'dmesg is full of "Xorg:3254 freeing invalid memtype" messages\n',
        "[  1.0] Xorg:3254 freeing invalid memtype\n",
        "This fixes:\n\n x86/PAT: test:178 freeing invalid memtype [mem 0xfd000000-0xfd001fff]\n",
        'Fixed: "test:178 freeing invalid memtype [mem 0xfd000000-0xfd001fff]"\n',
    ],
)
def test_a_line_that_is_shown_is_one(text: str) -> None:
    assert explain(read(text), []).about.main is not None
