"""Texts in which others have a hand: Linux itself, Xen, a mailer, a compiler, Ruby."""

from __future__ import annotations

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import Explanation, as_json, explain, sections


def explained(text: str) -> Explanation:
    return explain(read(text), [])


# By lee bruce, August 2024, on linux-mm: the places of syzkaller's frames are doubled, and wrapped.
_WRAPPED = """\
> WARNING: CPU: 2 PID: 12458 at arch/x86/mm/pat/memtype.c:1002
> get_pat_info+0x4b6/0x5c0 arch/x86/mm/pat/memtype.c:1002
> arch/x86/mm/pat/memtype.c:1002
> Call Trace:
> <TASK>
> untrack_pfn+0x338/0x660 arch/x86/mm/pat/memtype.c:1104
> arch/x86/mm/pat/memtype.c:1104
> unmap_single_vma+0x20c/0x2c0 mm/memory.c:1819 mm/memory.c:1819
> exit_mmap+0x279/0xce0 mm/mmap.c:3341
> mm/mmap.c:3341
> copy_process+0x1cc7/0x3f70 kernel/fork.c:2373 kernel/fork.c:2373
> </TASK>
"""


def test_a_place_on_a_line_of_its_own_ends_no_stack() -> None:
    (warning,) = read(_WRAPPED).complaints
    assert warning.trace == ("untrack_pfn", "unmap_single_vma", "exit_mmap", "copy_process")


_LOST = """\
[    0.000000] original variable MTRRs
[    0.000000] reg 0, base: 0GB, range: 8GB, type WB
[    0.000000] reg 1, base: 8896MB, range: 64MB, type UC
[    0.000000] total RAM covered: 8064M
[    0.000000]  gran_size: 32M chunk_size: 32M num_reg: 1 lose cover RAM: 64M
"""
_NEW = "[    0.000000] New variable MTRRs\n[    0.000000] reg 0, base: 0GB, range: 4GB, type WB\n"
_LOSES = "[    0.000000] WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing 64MB of RAM.\n"


def test_ram_that_linux_itself_has_uncovered_is_not_the_firmwares_doing() -> None:
    story = explained(_LOST + _NEW + _LOSES).story
    assert "mtrr_cleanup set (line 6)" in story.answer
    assert not any("firmware should be mended" in each for each in story.advice)
    assert any(each.startswith("disable_mtrr_cleanup") for each in story.advice)
    # It only looked at the others.
    assert any("firmware should be mended" in each for each in explained(_LOST + _LOSES).story.advice)


def test_the_pat_of_xen_tells_of_xen() -> None:
    """A log of dom0 without its line "Hypervisor detected"."""
    story = explained(
        "x86/PAT: MTRRs disabled, skipping PAT initialization too.\n"
        "x86/PAT: Configuration [0-7]: WB  WT  UC- UC  WC  WP  UC  UC  \n"
    ).story
    assert story.answer.startswith("Xen has the MTRRs")
    assert not story.advice


def test_a_compiler_of_debians_makes_no_kernel_of_debians() -> None:
    banner = (
        "[    0.000000] Linux version 6.14.0 (cnk2@box) (gcc (Debian 12.2.0-14) 12.2.0, GNU ld 2.40) {}\n"
    )
    own = read(banner.format("#3 SMP PREEMPT_DYNAMIC")).kernel
    theirs = read(banner.format("#1 SMP Debian 6.14.0-1")).kernel
    assert own is not None
    assert own.distribution is None
    assert theirs is not None
    assert theirs.distribution == "Debian"


def test_rubys_version_is_no_kernels() -> None:
    text = (
        "This release also updates the vendored Ruby to version 2.4.2.\n"
        "Program dmidecode tried to access /dev/mem between f0000->100000.\n"
    )
    assert as_json(explained(text))["kernel"] == "none"


def test_a_kernel_that_was_built_without_the_pat() -> None:
    """pat_bp_init() since 6.2, pat_init() before."""
    line = "x86/PAT: PAT support disabled because CONFIG_X86_PAT is disabled in the kernel.\n"
    for release, function in (("6.2.0", "pat_bp_init"), ("6.1.20", "pat_init")):
        text = f"[    0.000000] Linux version {release} (x@y) (gcc 12)\n[    0.000000] {line}"
        assert f"{function}()" in explained(text).story.rule
    assert "pat_disable()" in explained("x86/PAT: PAT support disabled via boot option.\n").story.rule


def test_the_caller_of_a_check_that_a_mailer_wrapped() -> None:
    text = (
        "resource sanity check: requesting [mem 0xffffffff-0x100001ffe], which spans more than Reserved "
        "[mem 0xfdfff000-0xffffffff]\ncaller memremap+0xeb/0x1c0 mapping\nmultiple BARs\n"
    )
    found = explained(text)
    assert "memremap()" in found.story.answer
    assert not [each for each in sections(found) if each.title == "Not understood"]
