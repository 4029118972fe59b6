from __future__ import annotations

from pytest_memtype.kernels.changelog import about_memory_types, new_series

TEXT = """linux (6.16.3-1) unstable; urgency=medium

  * New upstream stable update:
    https://www.example.org/ChangeLog-6.16.3
    - mm: rewrite pfnmap tracking and remove VM_PAT
    - net: something else, a patch
    - [s390x] Remove ioremap_wt() and pgprot_writethrough()
    - [amd64,arm64] drm: pgprot_writecombine() of it
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
        ("6.16.3-1", "[amd64,arm64] drm: pgprot_writecombine() of it"),
        ("6.16.3-1", "x86/mm/pat: a sentence that goes on in the next line (Closes: #1)"),
        ("6.16.3-1", "[x86] mtrr: Fix it"),
    ]


def test_series_whose_changes_it_does_not_tell() -> None:
    begun = TEXT.replace(
        "New upstream stable update:", "New upstream release: https://example.org/Linux_6.16"
    )
    assert new_series(begun, after="6.12.43-1", upto="6.16.3-1") == ["6.16"]
    assert new_series(TEXT, after="6.12.43-1", upto="6.16.3-1") == []
