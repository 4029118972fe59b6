"""What fresh texts of lists, trackers and forums were told wrongly, or not at all."""

from __future__ import annotations

from typing import Final

import pytest

from pytest_memtype.dumps.facts import Kind
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import Explanation, explain, sections
from pytest_memtype.explain.story import Story


def explained(text: str) -> Explanation:
    return explain(read(text), [])


def story(text: str) -> Story:
    return explained(text).story


def told(text: str, title: str) -> str:
    found = [each.lines for each in sections(explained(text)) if each.title == title]
    return "\n".join(found[0]) if found else ""


# A test of wimlib's dmesg checker, with a stack of which lines were taken out.
CUT_STACK = """\
WARNING: at arch/x86/mm/ioremap.c:195 __ioremap_caller+0x286/0x370()
Info: mapping multiple BARs. Your kernel is fine.
Call Trace:
 [<ffffffff816350c1>] dump_stack+0x19/0x1b
 [<ffffffff8107b200>] warn_slowpath_common+0x70/0xb0
 [<ffffffff810ed4ae>] {}+0x134e/0x1b50
 [<ffffffff810ede66>] SyS_finit_module+0xa6/0xd0
"""


@pytest.mark.parametrize("function", ["load_module", "do_one_initcall", "SyS_init_module"])
def test_what_prints_a_stack_or_loads_a_module_has_mapped_nothing(function: str) -> None:
    answer = story(CUT_STACK.format(function)).answer
    assert "dump_stack" not in answer
    assert answer.startswith("somebody whom the line doesn't name mapped memory")


def test_the_driver_of_such_a_stack() -> None:
    assert story(CUT_STACK.format("snb_uncore_probe")).answer.startswith("snb_uncore_probe() mapped memory")


# linux-efi, March 2020.
AT_BOOT = """\
[    1.022602] kernel BUG at arch/x86/mm/pat/set_memory.c:348!
[    1.022602] invalid opcode: 0000 [#1] SMP PTI
[    1.022602] CPU: 0 PID: {pid} Comm: {name} Tainted: G        W         5.6.0-rc4-next-20200303 #1
[    1.022602] EIP: change_page_attr_set_clr+0x26c/0x280
[    1.022602] Call Trace:
[    1.022602]  ? memremap+0x1d/0x1b0
[    1.022602]  {function}+0x39/0x40
[    1.022602]  efi_set_executable+0x5a/0x68
"""


@pytest.mark.parametrize("pid", [0, 1])
def test_a_bug_in_a_task_that_linux_needs_is_a_panic(pid: int) -> None:
    found = story(AT_BOOT.format(pid=pid, name="swapper/0", function="set_memory_x"))
    assert f"the kernel panics, as it can't do without the process swapper/0 ({pid})" in found.answer
    assert "killed" not in found.answer
    assert found.danger == "the machine stops"


def test_a_bug_in_another_process_kills_it() -> None:
    found = story(AT_BOOT.format(pid=77, name="modprobe", function="set_memory_x"))
    assert "the kernel killed the process modprobe (77)" in found.answer


@pytest.mark.parametrize(("function", "rights"), [("set_memory_x", True), ("set_memory_uc", False)])
def test_a_bug_of_access_rights_is_none_of_types(function: str, rights: bool) -> None:
    answer = story(AT_BOOT.format(pid=0, name="swapper/0", function=function)).answer
    assert ("about access rights" in answer) == rights


# LKML, May 2023: a series of MTRR patches on 6.4-rc1. Linux prints the new registers only if asked.
CLEANED = """\
[    0.089203] total RAM covered: 16352M
[    0.093023] Found optimal setting for mtrr clean up
[    0.097734]  gran_size: 64K \tchunk_size: 64M \tnum_reg: 8  \tlose cover RAM: 0G
"""
LOSES = """\
[    0.175227] WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing 3840MB of RAM.
[    0.183397] update e820 for mtrr
"""


def test_ram_that_is_lost_behind_a_cleanup_isnt_laid_at_the_firmwares_door() -> None:
    found = story(CLEANED + LOSES)
    assert "those that mtrr_cleanup set (line 2)" in found.answer
    assert not any("firmware should" in each for each in found.advice)
    assert any("firmware should" in each for each in story(LOSES).advice)


def test_a_heading_of_the_map_is_understood() -> None:
    assert not read(LOSES).unread


BEFORE = """\
[    0.000000] MTRR variable ranges enabled:
[    0.000000]   0 base 000000000 mask C00000000 write-back
[    0.000000]   1 base 0E0000000 mask FE0000000 uncachable
[    0.000000]   2 base 0DC000000 mask FFC000000 uncachable
[    0.000000]   3 disabled
[    0.000000] original variable MTRRs
[    0.000000] reg 0, base: 0GB, range: 16GB, type WB
[    0.000000] reg 1, base: 3584MB, range: 512MB, type UC
{}[    0.000000] Found optimal setting for mtrr clean up
[    0.000000]  gran_size: 64K \tchunk_size: 128M \tnum_reg: 9  \tlose cover RAM: 0G
"""


def test_two_listings_that_differ_say_no_number() -> None:
    last = "[    0.000000] reg 2, base: 3520MB, range: 64MB, type UC\n"
    assert "9 are in use now, and were 3 before" in story(BEFORE.format(last)).answer
    assert "before" not in story(BEFORE.format("")).answer


# LKML, July 2005: before 2.6.24 an Oops has no "BUG: ".
OOPS = """\
mtrr: base(0xe8020000) is not aligned on a size(0x3c0000) boundary
{}
 printing eip:
c01abbf9
Oops: 0002 [#1]
EIP is at sysfs_release+0x49/0xb0
"""


@pytest.mark.parametrize(
    "line",
    [
        "Unable to handle kernel paging request at virtual address 5f78735f",
        "[   48.1] Unable to handle kernel NULL pointer dereference at virtual address 00000010",
        "BUG: unable to handle page fault for address: ffffc90000000000\nOops: 0002 [#1]",
    ],
)
def test_an_oops_of_old_and_without_prefixes(line: str) -> None:
    assert "The Oops in line" in story(OOPS.format(line)).answer
    assert "sysfs_release()" in told(OOPS.format(line), "Besides")


def test_a_sentence_about_an_oops_is_none() -> None:
    text = OOPS.format("Unable to handle kernel paging request at boot, said my friend")
    assert "The Oops in line 5" in story(text).answer


PANIC = """\
[    0.1] WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing 447MB of RAM.
[    1.204113] Kernel panic - not syncing: VFS: Unable to mount root fs on
{}
"""


def test_the_rest_of_a_panics_reason_is_in_the_next_line() -> None:
    assert "(VFS: Unable to mount root fs on unknown-block(0,0))" in told(
        PANIC.format("unknown-block(0,0)"), "Besides"
    )


@pytest.mark.parametrize("line", ["[    1.214113] CPU: 0 PID: 1", ""])
def test_what_follows_a_panic_is_not_always_of_it(line: str) -> None:
    assert "Unable to mount root fs on)" in told(PANIC.format(line), "Besides")


def test_a_sentence_below_a_short_line_is_not_of_a_panic() -> None:
    text = PANIC.replace(": VFS: Unable to mount root fs on", ": No init found.").format(
        "That was all I saw."
    )
    assert "(No init found.)" in told(text, "Besides")


def test_a_device_that_reads_past_the_caches_may_read_old_data() -> None:
    danger = story(
        "x86/PAT: Xwayland:683 map pfn RAM range req write-combining for [mem 0x23883000-0x23883fff], got "
        "write-back\n"
    ).danger
    assert danger.startswith("not by two types")
    assert "may read old data" in danger


# linux-media, January 2009, and Ubuntu's forum.
@pytest.mark.parametrize(
    ("other", "pages"),
    [("0xddcfb000 0xddcfb7ff 0000:01:02.0", True), ("0xddcfa000 0xddcfafff pnp 00:0b", False)],
)
def test_a_resource_that_is_smaller_than_a_page(other: str, pages: bool) -> None:
    found = story(f"<4>resource map sanity check conflict  0xddcfb000 0xddcfbfff {other}\n")
    assert ("only as mappings are of whole pages" in found.answer) == pages
    assert found.danger.startswith("no:") == pages


@pytest.mark.parametrize(
    "line",
    [
        "resource map sanity check conflict: 0x0 0x7fffff 0xa0000 0xbffff PCI Bus 0000:00\n",
        "ioremap on RAM at 0x0000000000000000 - 0x0000000000ffffff\n",
    ],
)
def test_an_address_of_0_is_what_a_driver_has_that_got_none(line: str) -> None:
    assert any("BAR" in each and "0" in each for each in story(line).advice)
    assert not any("BAR" in each for each in story(line.replace("0x0", "0x1", 1)).advice)


@pytest.mark.parametrize(
    "text",
    [
        # LKML, September 2000, and 2.5.40.
        "mtrr: v1.35a (19990819) Richard Gooch (rgooch@example.org)\n",
        "mtrr: v2.0 (20020519)\n",
        "Jan 21 19:29:00 quad kernel: [    0.069178] mtrr: probably your BIOS \ndoes not setup all CPUs.\n",
    ],
)
def test_lines_that_say_nothing_are_understood(text: str) -> None:
    dump = read(text + "[ 1.0] mtrr: your CPUs had inconsistent variable MTRR settings\n")
    assert dump.of(Kind.MTRR_INCONSISTENT)
    assert not dump.unread


@pytest.mark.parametrize(
    "words",
    [
        "suppress the {} spew of i915",
        "drop the {} message, which is harmless",
        "the kernel no longer prints {} when a mapping is split",
        "stops {} on mremap()",
    ],
)
def test_a_message_that_a_change_takes_away_is_no_report(words: str) -> None:
    assert explained("- " + words.format('"X:3254 freeing invalid memtype"') + "\n").about.main is None


@pytest.mark.parametrize("words", ["How do I stop {}?", "Please fix {}", "I can't get rid of {} in the log"])
def test_a_message_that_somebody_wants_to_be_rid_of_is_one(words: str) -> None:
    text = words.format('the "X:3254 freeing invalid memtype" messages') + "\n"
    assert explained(text).about.main is not None


AMD = """\
[    0.000000] Linux version {} (buildd@box) (gcc version 4.4.5) #33-Ubuntu SMP
[    0.000000] MTRR variable ranges enabled:
[    0.000000]   0 base 000000000000 mask FFFF80000000 write-back
[    0.000000]   1 base 000080000000 mask FFFFC0000000 write-back
[    0.000000]   2 disabled
{}[    0.000000] WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing 13040MB of RAM.
[    0.120000] CPU0: {} stepping 02
"""
FX = "AMD FX(tm)-8120 Eight-Core Processor"


@pytest.mark.parametrize(
    ("release", "tom2", "cpu", "may_be"),
    [
        ("2.6.35-22-generic", "", FX, True),
        ("2.6.38-8-generic", "", FX, False),
        ("2.6.35-22-generic", "", "Intel(R) Core(TM) i7 CPU", False),
        # It looks at the bit, and has found it.
        ("2.6.35-22-generic", "[    0.000000] TOM2: 000000023f000000 aka 9200M\n", FX, False),
    ],
)
def test_an_old_kernel_doesnt_look_at_what_makes_ram_above_4g_cached(
    release: str, tom2: str, cpu: str, may_be: bool
) -> None:
    """amd_special_default_mtrr() of 2.6.25 to 2.6.35 goes back where the family is above 11h."""
    found = story(AMD.format(release, tom2, cpu))
    assert ("Tom2ForceMemTypeWB" in found.answer) == may_be
    assert any("2.6.37" in each for each in found.advice) == may_be


# linux-coco, January 2024; Ubuntu's forum has it since 2009.
MODIFIABLE = """\
[92589.366822] [Firmware Warn]: MTRR: CPU 0: SYSCFG[MtrrFixDramModEn] not cleared by BIOS, clearing this bit
[92589.376582] smpboot: Booting Node 0 Processor 63 APIC 0x3f
[92589.378070] [Firmware Warn]: MTRR: CPU 63: SYSCFG[MtrrFixDramModEn] not cleared by BIOS, clearing this bit
"""


@pytest.mark.parametrize("text", [MODIFIABLE, MODIFIABLE.splitlines()[0].partition("] ")[2] + "\n"])
def test_a_bit_of_amds_that_firmware_left_on(text: str) -> None:
    found = explained(text)
    assert found.about.main is not None
    assert found.about.main.kind is Kind.MTRR_MODIFIABLE
    assert found.story.danger.startswith("no:")
    assert "k8_check_syscfg_dram_mod_en()" in found.story.rule
    assert not found.dump.unread


def test_xens_line_alone_is_xens() -> None:
    line = "mtrr: your CPUs had inconsistent fixed MTRR settings\n"
    assert "Xen copied the boot CPU's" in story(f"(XEN) {line}").answer
    assert "Linux copied the boot CPU's" in story(f"[    0.1] {line}").answer


@pytest.mark.parametrize(
    "text",
    [
        # LLVM's form of arch/x86/kernel/cpu/mtrr/cleanup.c, and C.
        "@.str.1 = private constant [81 x i8] c\"\\014WARNING: BIOS bug: CPU MTRRs don't cover all of "
        'memory, losing %lluMB of RAM.\\0A\\00", align 1\n',
        '@.str = constant [45 x i8] c"\\016CPU MTRRs all blank - virtualized system.\\0A\\00", align 1\n',
        'pr_info("mtrr: no more MTRRs available\\n");\n',
        'printk(KERN_INFO "%s:%d conflicting memory types %Lx-%Lx %s<->%s\\n", current->comm,\n',
    ],
)
def test_a_program_that_prints_messages_is_no_report(text: str) -> None:
    assert explained(text).about.main is None


def test_a_line_with_a_percent_sign_is_one() -> None:
    text = "CPU at 100%, and mtrr: no more MTRRs available\n"
    assert explained(text).about.main is not None


def test_the_second_command_line_is_the_first_ones() -> None:
    line = "ommand line: ro mtrr_gran_size=32M\n"
    dump = read(f"[    0.000000] C{line}[    0.000000] Kernel c{line}")
    assert dump.command_line == "ro mtrr_gran_size=32M"
    assert not dump.unread


def test_a_line_that_calls_itself_a_warning_is_one() -> None:
    text = "WARNING (at boot): CPU MTRRs don't cover all of memory, losing 447MB of RAM.\n"
    assert explained(text).about.main is not None


# Ubuntu's forum, March 2009, and Fedora's list, October 2008: validate_pat_support() of 2.6.26 and later.
@pytest.mark.parametrize(
    "line",
    [
        "[    0.000000] PAT WC disabled due to known CPU erratum.",
        "PAT disabled. Not yet verified on this CPU type.",
    ],
)
def test_a_cpu_that_old_kernels_dont_trust_with_a_pat(line: str) -> None:
    found = explained(f"Linux version 2.6.29-1-netbook (root@box) #0array1 SMP\n{line}\n")
    assert found.about.main is not None
    assert found.about.main.kind is Kind.PAT_DISABLED
    assert found.story.answer.startswith("the PAT isn't used: PAT ")
    assert "validate_pat_support()" in found.story.rule
    assert not found.dump.unread


def test_a_reason_that_was_wrapped_between_marks_of_quoting() -> None:
    """A thread on a kernel without CONFIG_X86_PAT, of which each answer has one mark more."""
    text = (
        ">      > > [    0.011025] x86/PAT: PAT support disabled because\n"
        ">      > CONFIG_X86_PAT is\n"
        ">      > > disabled         in the kernel.\n"
    )
    found = story(text)
    assert "because CONFIG_X86_PAT is disabled in the kernel" in found.answer
    assert "pat_bp_init" in found.rule


# A program that sorts lines of logs, and has each as a comment beside its expression.
_SORTED: Final = (
    r"    1089:r'^\[kernel\] : \[\s+?[0-9]+?\.[0-9]+?\] CPU MTRRs all blank - virtualized system\.$',"
    "   # [kernel] : [    0.000000] CPU MTRRs all blank - virtualized system.\n"
)


@pytest.mark.parametrize(
    "text",
    [
        _SORTED,
        r'_FULL = re.compile(r"mtrr: no more MTRRs available(?: for \w+)?")' "\n",
        'grep -E "mtrr: no more MTRRs available.*" /var/log/kern.log\n',
    ],
)
def test_an_expression_that_finds_messages_is_no_report(text: str) -> None:
    assert explained(text).about.main is None
    assert story(text).answer.startswith("line 1 names a message")


def test_markdowns_escapes_are_no_expression() -> None:
    text = r"I get \[    1.490830\] mtrr: no more MTRRs available\." "\n"
    assert explained(text).about.main is not None


# edk2's Cpuid.h, and a mail of LKML, May 2020.
@pytest.mark.parametrize(
    "text",
    [
        "  /// [Bit 27] Self Snoop.  The processor supports the management of\n"
        "  /// conflicting memory types by performing a snoop of its own cache\n",
        "Subject: Re: Possibility of conflicting memory types in lazier TLB mode?\n",
    ],
)
def test_words_that_a_message_begins_with_are_none(text: str) -> None:
    assert story(text).answer == "nothing here is about memory types"


# A laptop's /var/log/syslog of December 2007, which begins with the end of a boot.
_TAIL: Final = """\
Dec 24 00:47:22 box kernel: [   36.272000] mtrr: no more MTRRs available
Dec 24 00:47:22 box last message repeated 3 times
Dec 24 00:47:42 box exiting on signal 15
"""
_NEXT: Final = """\
Dec 24 16:04:49 box syslogd 1.4.1#21ubuntu3: restart.
Dec 24 16:04:49 box kernel: [    0.000000] Linux version 2.6.22-14-generic (buildd@host) #1 SMP Tue Dec 18
"""


def test_the_end_of_a_boot_in_a_log_isnt_the_next_ones() -> None:
    assert told(_TAIL + _NEXT, "The kernel") == (
        "The text names Linux 2.6.22-14-generic (line 5), and doesn't say that it is of that kernel."
    )
    again = _TAIL.replace("Dec 24", "Dec 26")
    assert told(_NEXT + again, "The kernel").startswith("Linux 2.6.22-14-generic")


def test_a_line_that_is_quoted_above_a_log_is_that_logs() -> None:
    assert told(f"{_TAIL}\nThe log of the boot:\n\n{_NEXT}", "The kernel").startswith("Linux 2.6.22-14")


def test_a_program_says_of_no_kernel_that_it_is_the_texts() -> None:
    line = r"1087:r'^CPU: 0 PID: 0 Comm: swapper Not tainted .+?$', # [kernel] : CPU: 0 PID: 0 Comm: swapper "
    assert told(f"{line}Not tainted 4.4.0-24-generic #43\n{_SORTED}", "The kernel") == ""


# intel-gfx, May 2022, on Qubes.
def test_a_kernel_that_a_commit_was_reverted_on_top_of_has_the_trouble() -> None:
    text = (
        "and indeed with this commit reverted on top of\n{}5.17.5 everything works fine.\n\n"
        "[    0.000949] x86/PAT: MTRRs disabled, skipping PAT initialization too.\n"
    )
    assert "hardly" not in told(text.format(""), "The kernel")
    one = text.format("").replace("on top of\n", "on top of ")
    assert told(one, "The kernel").startswith("Linux 5.17.5")
    assert "hardly" in told(one.replace("on top of ", "for good, "), "The kernel")


# A driver's page of 2019, with the message as one sentence.
@pytest.mark.parametrize("between", ["\n", " "])
def test_the_caller_of_a_check_stands_behind_it_in_its_line(between: str) -> None:
    text = (
        "Resource sanity check: requesting [mem 0xfed10000-0xfed1ffff], which spans more than reserved"
        f"{between}[mem 0xfed10000-0xfed17fff] caller dnv_rd_reg+0xc8/0x240 [pnd2_edac] mapping multiple "
        "BARs.\n"
    )
    assert story(text).answer.startswith("the function dnv_rd_reg() mapped")


def test_a_caller_in_front_of_a_check_is_another_ones() -> None:
    text = (
        "caller one+0x1/0x2 mapping multiple BARs resource sanity check: requesting "
        "[mem 0xfed10000-0xfed1ffff], which spans more than reserved [mem 0xfed10000-0xfed17fff]\n"
        "caller two+0x1/0x2 mapping multiple BARs\n"
    )
    assert story(text).answer.startswith("the function two() mapped")
