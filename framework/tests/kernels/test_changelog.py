from __future__ import annotations

from pytest_memtype.kernels.changelog import about_memory_types

TEXT = """linux (6.16.3-1) unstable; urgency=medium

  * New upstream stable update:
    https://www.example.org/ChangeLog-6.16.3
    - mm: rewrite pfnmap tracking and remove VM_PAT
    - net: something else, a patch
    - x86/mm/pat: a sentence that goes on
      in the next line (Closes: #1)

  [ Somebody ]
  * [x86] mtrr: Fix it <https://bugs.example.org/2>

 -- Somebody <somebody@example.org>  Mon, 25 Aug 2025 10:00:00 +0000

linux (6.12.43-1) unstable; urgency=medium

  * x86/mtrr: of the older package

 -- Somebody <somebody@example.org>  Mon, 25 Aug 2025 09:00:00 +0000
"""


def test_entries_about_memory_types() -> None:
    assert about_memory_types(TEXT, after="6.12.43-1", upto="6.16.3-1~bpo13+1") == []
    assert about_memory_types(TEXT, after="6.12.43-1", upto="6.16.3-1") == [
        ("6.16.3-1", "mm: rewrite pfnmap tracking and remove VM_PAT"),
        ("6.16.3-1", "x86/mm/pat: a sentence that goes on in the next line (Closes: #1)"),
        ("6.16.3-1", "[x86] mtrr: Fix it"),
    ]
