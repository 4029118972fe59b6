"""Which kernel a text is of: by the kernel's own lines, and else by what the writer says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pytest_memtype.dumps.banner import BANNER, NUMBER, banner
from pytest_memtype.dumps.kernel_facts import Kernel
from pytest_memtype.dumps.mail_lines import made_by_mailers
from pytest_memtype.dumps.not_shown import ENTRY, is_source
from pytest_memtype.dumps.text import Cursor, Row

_START: Final = r"(?<![\w.-])"


def _any(words: str) -> str:
    """A regular expression of any of some words, which are expressions themselves, separated by spaces."""
    return f"(?:{'|'.join(words.split())})"


# lib/dump_stack.c, dump_stack_print_info(); with brackets around the version until 2.6.29.
_TRACE: Final = re.compile(rf"\b(?:Not tainted|Tainted: [A-Z ]{{1,40}}) \(?{NUMBER}")
_OWN: Final = (
    _TRACE,
    *(
        re.compile(rf"{before}{NUMBER}")
        for before in (
            r"^(?:\$ ?uname -\w+\s+)?Linux \S{1,64} (?=\d+\.\d+\S* #\d)",
            r"\bvermagic[:=]\s*",
        )
    ),
)
#: The process of a WARNING, and of the line below it that names the kernel.
_PROCESS: Final = re.compile(r"\b(?:PID: |CPU#\d{1,5}: .{1,15}/)(\d{1,10})\b")
#: Where the kernel was built, in the path that a WARNING or a BUG names: "/build/buildd/linux-2.6.27/arch/".
_BUILT: Final = re.compile(rf"\b(?:WARNING|BUG)\b.*?/linux(?:-[a-z]{{2,20}}){{0,2}}-{NUMBER}/")
_AFTER_KERNEL: Final = _any(
    "kernel image version release is -r -a at series stable vanilla mainline lts a guest"
)
#: "latest (5.4) custom kernel".
_KIND_OF_KERNEL: Final = _any(
    "custom own self-?built self-?compiled patched stock distro distribution default"
)
_BEFORE_NAME: Final = _any(
    "kernel debian ubuntu fedora suse opensuse arch gentoo rhel centos alma rocky linux proxmox yocto "
    "buildroot "
    "vanilla mainline stable lts"
)
_SAID: Final = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        rf"\b(?:linux|kernel|uname)(?:[- ]{_AFTER_KERNEL}){{0,3}}[:= ]{{1,3}}v?{NUMBER}",
        rf"\b(?:linux|kernel)-(?:image-)?{NUMBER}",
        rf"{_START}v?{NUMBER}(?=\)? ?\(?(?:{_KIND_OF_KERNEL} )?{_BEFORE_NAME}\b)",
    )
)
# "6.8.0-45", "5.10.218-1", "6.1.0-18-amd64", "2.6.31-git7" (of the seventh day behind 2.6.31): a release by
# its form alone.
_BARE: Final = re.compile(
    rf"{_START}(?P<release>(?P<major>[2-9])\.(?P<minor>\d{{1,2}})\.(?P<patch>\d{{1,3}})(?:\."
    rf"(?P<fourth>\d{{1,3}}))?"
    r"(?P<rest>-(?:(?:rc|git)\d{1,2}|\d{1,4})(?:[-.+~][\w.+~-]{1,50})?|\+deb\d\S{0,40}"
    r"|-(?:generic|amd64|cloud|arch|zen|lts|azure|aws|gcp|oem|lowlatency|pve|gentoo|default|desktop|pae"
    r"|xanmod|liquorix|hardened|manjaro|tuxonice)[\w.+-]{0,40}))"
)

#: "5.13-rc1": candidates of other products are told by their names in front.
_CANDIDATE: Final = re.compile(rf"{_START}v?(?=\d\.\d{{1,2}}-rc\d){NUMBER}")

_BEFORE: Final = _any("on with in since under running after to is of for using boots? booted")
# "on 6.1.76", "since v6.17.8": any three numbers where a kernel may be meant.
_WEAK: Final = re.compile(
    rf"(?:\b{_BEFORE}\s+(?:a |an |the |version )?v?"
    rf"|(?<![\w.-])v|(?:^|[,;(])\s*)(?=\d\.\d{{1,2}}\.\d){NUMBER}",
    re.I,
)

#: "With the 5.10", which is a kernel where another is named by that word.
_SERIES: Final = re.compile(
    rf"\b{_BEFORE}\s+(?:a |an |the |version )?v?(?=\d\.\d{{1,2}}(?![\w-]|\.\d)){NUMBER}", re.I
)
#: Said with the word "kernel", or in its form.
_SURE: Final = 3

#: "Between v5.15 and v5.16-rc the following errors are appearing": the first doesn't have them.
_BETWEEN: Final = re.compile(
    r"\bbetween\s+(?:(?:linux|kernels?)\s+)?v?(?P<good>\d\.\d{1,2}\S{0,40})\s+and\s+"
    rf"(?:(?:linux|kernel)\s+)?v?{NUMBER}",
    re.I,
)
_CHANGES: Final = re.compile(r"\b(?:appear|start|beg[ia]n|br[eo]ke?|regress|stop|chang|differ|show)", re.I)

_UNAME: Final = re.compile(r"\buname -r\s*$")
#: A heading of a form: "### Kernel version", "2. What is the Version-Release number of the kernel:".
_HEADING: Final = re.compile(
    r"^(?=.{4,90}$)[^\w(]{0,8}(?:\d\. )?(?P<words>(?:[\w/&,' -]{1,60}\b)?kernel"
    r"(?: (?:version|release|number))?)(?: \([^)]{1,40}\))?\W{0,6}$",
    re.I,
)
#: What stands below it: the release first, with what the writer has to say of it behind.
_BELOW_HEADING: Final = re.compile(
    rf"^\W{{0,4}}(?:linux (?:kernel )?|kernel |version )?v?{NUMBER}(?![\w.])", re.I
)
_RELEASE: Final = re.compile(NUMBER)

_PRODUCTS: Final = (
    r"gcc clang llvm binutils glibc libc qemu(?:-\w+)? kvm seabios ovmf edk2 bios uefi firmware xorg x\.?org "
    r"xserver server mesa libdrm drivers? nvidia dpdk vfio xen hyperv virtualbox vmware esxi libvirt systemd "
    r"python rust go openssl coreboot chipsec fwts ethtool pcimem lspci git acpi smbios dmi pcie? usb opengl "
    r"vulkan ffmpeg wine revision rev stepping "
    r"ruby perl php java node puppet curl docker mysql postgres\w* apache nginx"
)
_SYSTEMS: Final = "ubuntu debian fedora rhel centos suse release android chromeos proxmox pve"
#: Products whose versions look like a kernel's, right in front of the number.
_OTHERS: Final = re.compile(
    _any(rf"{_PRODUCTS} {_SYSTEMS} ver(?:sion)?\.?") + r"[\s/:=(v-]{0,3}$",
    re.I,
)
#: A version that needn't be of another product's, by the words in front of it.
_VERSION: Final = re.compile(rf"(?:\b(?P<of_any>{_BEFORE}|found:) )?\bversion:? v?$", re.I)
_SUBJECT: Final = r"(?:\W+(?:is|was|has|been|now|got|updated|upgraded|flashed|in|at)){0,3}\W*$"
_OF_PRODUCT: Final = re.compile(rf"\b{_any(_PRODUCTS)}\b{_SUBJECT}", re.I)
_OF_SYSTEM: Final = re.compile(rf"\b{_any(_SYSTEMS)}\b{_SUBJECT}", re.I)
_OF_ANOTHER: Final = re.compile(r"^ of \w", re.I)
_OF_THE_KERNEL: Final = re.compile(
    r"^ of (?:[\w']{1,30} ){0,2}(?:linux|kernel)\b(?! (?:module|driver))", re.I
)
#: A kernel's release ends so, and so do Fedora's other packages.
_RELEASE_FORM: Final = re.compile(r"-\d{1,4}-(?:cloud-)?(?:amd64|generic)\b|\.(?:fc|el)\d")
#: Debian's reports and rpm's queries: the package stands in the line above.
_PACKAGE: Final = re.compile(
    r"^(?:Package|Source|Name) *: *(?:src:)?(?:linux|kernel)"
    r"(?:-(?:image|signed|headers|modules|core|hwe|cloud|rt|aws|azure|gcp|oem|lowlatency)\S*)?\s*(?:\(.*)?$",
    re.I,
)
_VERSION_OF_PACKAGE: Final = re.compile(rf"^Version *: *{NUMBER}", re.I)
#: Words that say of a kernel that all was well with it, or that the text isn't of it.
_ELSEWHERE: Final = re.compile(
    r"\b(?:not (?:seen|there|present|happen\w*|with|on|in)|no (?:problem|trouble|message|line)\w*|up to"
    r"|(?:went|gone|go|going|boot\w*|stepped) back|back (?:to|on)|revert(?:ed|ing)? to|used to|"
    + _any(
        r"work(?:s|ed|ing)? fine good okay ok before until till older earlier fixed "
        # "From dmesg of ..." is the report itself.
        r"from(?!\s+(?:\w+\s+)?(?:dmesg|logs?|journal|syslog|console)\b) "
        r"unlike downgrad\w+ "
        r"previous(?:ly)? never introduced backport\w* upstream"
    )
    + r")\b[^.,;\n]{0,40}$",
    re.I,
)
#: In front of "working with 6.1.20": it doesn't.
_IN_VAIN: Final = re.compile(
    r"(?:n't|\b(?:not|never|no (?:longer|more)|stop\w*|fail\w*|ceas\w*|quit))(?:\s+[\w'-]+){0,4}\s+$", re.I
)
_ELSEWHERE_BEHIND: Final = re.compile(
    r"^[^.;,\n]{0,25}\b(?:work(?:s|ed)|(?:is |was )?fine|(?:is|was) (?:well|ok)|good|not affected|doesn't"
    r"|does not"
    r"|didn't"
    r"|is (?:silent|clean)|has it fixed|and (?:newer|later|older|earlier|onwards?|up(?:wards?)?"
    r"|above|below))\b",
    re.I,
)
#: "With this commit reverted on top of 6.1.3 all is well": 6.1.3 as it is has the problem.
_ON_TOP: Final = re.compile(r"\bon top of\s+(?:an? |the )?(?:linux |kernel |version )?v?$", re.I)
#: "I didn't get the problem with openSUSE 11.0 and kernel 2.6.25.20"; and a kernel that something else wants.
_ELSEWHERE_FURTHER: Final = re.compile(
    r"\b(?:(?:didn't|don't|did not|do not|never) (?:get|see|have|notice|encounter)\b"
    r"|(?:require[sd]?|requiring)\b|needs? to be\b|fail\w* to (?:build|compile)\b)"
    r"(?:(?!\bto (?!be)|\bwork|\brun)(?:[^.,;\n]|(?<=\d)\.(?=\d))){0,60}$",
    re.I,
)
#: net/socket.c of 2.4 and 2.5, which say so both.
_CONSTANT: Final = re.compile(r"\bNET4\.0 for Linux $")
#: "Last working kernel", above a release in a form.
_OTHER_HEADING: Final = re.compile(
    r"\b(?:work(?:s|ed|ing)?|good|last|previous|old|unaffected|without|tested|supported|minimum|required)\b",
    re.I,
)
#: "At which point I rebooted to 2.6.7": the one before, if that stands below the message.
_GONE_TO: Final = re.compile(
    r"\b(?:re-?boot\w*|return\w*|switch\w*|change[sd]?|moved?|update[sd]?|updating|upgrad\w+)\s+(?:\w+\s+){0,2}"
    r"(?:to|into|with|on)\s+[^.,;\n]{0,30}$",
    re.I,
)

_DISTRIBUTIONS: Final = (
    (
        "Debian",
        re.compile(
            r"\bdebian\b|\+deb\d|~bpo|\bbookworm\b|\bbullseye\b|\btrixie\b|\bbuster\b|-cloud-amd64"
            r"|-\d+-amd64(?!-[a-z])",
            re.I,
        ),
    ),
    (
        "Ubuntu",
        re.compile(
            r"\bubuntu\b|-generic\b|-lowlatency\b|-\d{4}-(?:gcp|aws|azure|oracle|kvm|oem)\b|@lcy\d", re.I
        ),
    ),
    ("Fedora", re.compile(r"\bfedora\b|\.fc\d\d\b", re.I)),
    ("Red Hat", re.compile(r"\bred hat\b|\brhel\b|\.el\d|\bcentos\b|\balmalinux\b|\brocky linux\b", re.I)),
    ("SUSE", re.compile(r"\bopensuse\b|\bsuse\b|\bsles\b|-default\b", re.I)),
    ("Arch", re.compile(r"\barch linux\b|-arch\d|archlinux", re.I)),
    ("Gentoo", re.compile(r"\bgentoo\b", re.I)),
    ("Proxmox", re.compile(r"\bproxmox\b|-pve\b", re.I)),
)

#: In a banner: "(gcc (Debian 12.2.0-14) 12.2.0, GNU ld ...) #3". Kernels of one's own are built with it, too.
_COMPILER: Final = re.compile(r"\([\w.-]{0,40}(?:gcc|clang)\b[^#]{0,300}(?=#)")

# In a banner: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)".
_OF_DEBIAN: Final = re.compile(r"#\d+ .*\bDebian (\d+)\.(\d+)\.(\d+)-")
# "#107-Ubuntu"; /proc/version_signature has "Ubuntu 5.15.0-97.107-generic 5.15.136".
_OF_UBUNTU: Final = re.compile(r"\bUbuntu (\d+\.\d+)\.\d+-\S+ (\d+)\.(\d+)\.(\d+)\b")

#: How syslog and the journal begin each line, whoever has said it.
_DATED: Final = re.compile(
    r"(?:[^\W\d_]{3,9}\.? +\d{1,2} (?:\d{4} )?|\d{4}-\d\d-\d\d[T ])\d{1,2}:\d\d:\d\d\b"
)

#: So many of a boot's own lines, and of the writer's words, are looked at.
_MOST_OWN: Final = 16
_MOST_SAID: Final = 64
#: So far below its message a trace names the kernel: a list of modules stands between, and may be wrapped.
_MOST_BELOW: Final = 40


@dataclass(frozen=True)
class _Said:
    """A kernel of somebody's words.

    :param kernel: The kernel.
    :param score: How sure it is one; the higher, the surer.
    :param elsewhere: Whether all was well with it.
    :param gone_to: Whether somebody went to it: below a message it isn't the message's.
    """

    kernel: Kernel
    score: int
    elsewhere: bool = False
    gone_to: bool = False


def kernels(parts: Sequence[Cursor], here: int, line: int | None) -> tuple[Kernel | None, tuple[Kernel, ...]]:
    """The kernel that a text is of, None if the text doesn't say; and all that it names, that one first.

    :param parts: The boots of the text.
    :param here: The index of the boot that counts.
    :param line: The number of the line that counts; None where there is none.
    """
    own: list[Kernel] = []
    said: list[_Said] = []
    mine: list[Kernel] = []
    for number, part in enumerate(parts):
        if len(own) >= _MOST_OWN and number != here:
            continue
        theirs, others = _named(part)
        own += theirs
        said += others[: _MOST_SAID - len(said)]
        mine = theirs if number == here else mine
    # What stands above all boots may have none of its own.
    apart = line is not None and (bool(mine) or _is_of_an_earlier_boot(parts, here, line))
    counts = mine if apart else own
    kernel = _of_own(counts, line, parts[here]) if own else _of_said(said, line)
    first = [] if kernel is None else [kernel]
    return kernel, _distinct([*first, *own[:_MOST_OWN], *(each.kernel for each in said)])


def _is_of_an_earlier_boot(parts: Sequence[Cursor], here: int, line: int) -> bool:
    """Whether a line stands in one log with the boot below: each line up to its banner has a date in front.

    What somebody quotes above a log is that log's, as a rule.

    :param parts: The boots of the text.
    :param here: The index of the one that has the line.
    :param line: The number of the line.
    """
    if here + 1 >= len(parts) or not parts[here + 1].rows:
        return False
    between = [row for row in parts[here].rows if row.number >= line and row.text.strip()]
    return all(_DATED.match(row.text) for row in (*between, parts[here + 1].rows[0]))


def _of_own(own: Sequence[Kernel], line: int | None, part: Cursor) -> Kernel | None:
    """The kernel of a boot: that of the last banner above a line, else the only one that is named.

    A banner without a prefix may be ``/proc/version`` of another boot, where the line's own trace says so.
    """
    above = [each for each in own if line is not None and each.line <= line and BANNER.search(each.banner)]
    if not above:
        return own[0] if len({each.series for each in own}) == 1 else _of_trace(own, line, part)
    last = above[-1]
    bare = any(row.number == last.line and not row.prefixed for row in part.rows)
    below = next((each for each in own if line is not None and line < each.line <= line + _MOST_BELOW), None)
    # Of the same release the banner says more.
    if bare and below is not None and below.release != last.release and _TRACE.search(below.banner):
        return below
    return last


def _of_trace(own: Sequence[Kernel], line: int | None, part: Cursor) -> Kernel | None:
    """The kernel that the trace of a WARNING or a BUG names, if it is of the same process."""
    process = next((_PROCESS.search(row.message) for row in part.rows if row.number == line), None)
    if process is None or line is None:
        return None
    below = next((each for each in own if line < each.line <= line + _MOST_BELOW), None)
    traced = None if below is None else _PROCESS.search(below.banner)
    return below if traced is not None and traced[1] == process[1] else None


def _of_said(said: Sequence[_Said], line: int | None) -> Kernel | None:
    affected = [
        each
        for each in said
        if not each.elsewhere and not (each.gone_to and line is not None and each.kernel.line > line)
    ]
    best = max((each.score for each in affected), default=0)
    first = [each.kernel for each in affected if each.score == best]
    # Two kernels, and neither is said to be the good one: then the text doesn't say which it is of.
    if len({each.series for each in first}) != 1:
        return None
    if line is not None and any(_is_nearer(each.kernel, first, line) for each in affected):
        return None
    return max(first, key=lambda each: len(each.release))


def _is_nearer(rival: Kernel, first: Sequence[Kernel], line: int) -> bool:
    """Whether another kernel is named between a line and those that the text may be of, or beside them.

    :param rival: A kernel, be it named in a way that says less.
    :param first: The kernels that are named in the way that says most, of one series.
    :param line: The number of the line.
    """
    if rival.series == first[0].series:
        return False
    return all(abs(rival.line - line) <= abs(each.line - line) for each in first)


def _named(cursor: Cursor) -> tuple[list[Kernel], list[_Said]]:
    """The kernels of the kernel's own lines, and those of the writer's words, as ``_mentioned`` has them."""
    own: list[Kernel] = []
    said: list[_Said] = []
    mailers = made_by_mailers(cursor.rows)
    for index, row in enumerate(cursor.rows):
        if len(own) >= _MOST_OWN or not any(each.isdigit() for each in row.text[:400]):
            continue
        ours = banner(row) or next(filter(None, (each.search(row.message) for each in _OWN)), None)
        if ours is not None:
            if is_source(row):
                continue
            words = row.message.strip()
            # The end of a wrapped banner may name Debian's version.
            for text, count in cursor.pieces(index):
                if _OF_DEBIAN.search(text):
                    words = text.strip()
                    cursor.use(index, count)
                    break
            cursor.use(index)
            own.append(_kernel(ours, words, row.number, own=True))
            continue
        built = _BUILT.search(row.message) if "/linux-" in row.message else None
        if built is not None and len(said) < _MOST_SAID:
            # Less than the release, which a trace names below, and more than anybody's words.
            said.append(_Said(_kernel(built, row.message, row.number), 4))
        elif not row.prefixed and len(said) < _MOST_SAID and index not in mailers:
            told = (
                index > 0
                and _UNAME.search(cursor.rows[index - 1].text)
                and _RELEASE.fullmatch(row.text.strip())
            )
            if told:
                own.append(_kernel(told, row.text, row.number, own=True))
                cursor.use(index)
            else:
                above = cursor.rows[index - 1].text if index > 0 else ""
                below = cursor.rows[index + 1].text if index + 1 < len(cursor.rows) else ""
                said += _under_heading(cursor.rows, index) or _mentioned(row.text, row.number, above, below)
    return own, said


def _under_heading(rows: Sequence[Row], index: int) -> list[_Said]:
    """The kernel that stands below a heading of a form which asks for it; none elsewhere."""
    match = _BELOW_HEADING.match(rows[index].text)
    above = next((each.text for each in rows[max(0, index - 2) : index][::-1] if each.text.strip()), "")
    heading = _HEADING.match(above) if match is not None else None
    if match is None or heading is None or not _is_a_series(match) or _is_an_address(match):
        return []
    elsewhere = _OTHER_HEADING.search(heading["words"]) is not None
    return [_Said(_kernel(match, rows[index].text, rows[index].number), 3, elsewhere)]


def _between(text: str, number: int, below: str) -> list[_Said]:
    """Two kernels between which something changed: the first is the one without it."""
    match = _BETWEEN.search(text)
    if match is None or not _CHANGES.search(f"{text[match.end() :]} {below}"):
        return []
    good = _RELEASE.match(match["good"])
    if good is None or not _is_a_series(match):
        return []
    found = [_Said(_kernel(good, text, number), 3, elsewhere=True), _Said(_kernel(match, text, number), 3)]
    # Others may be named behind, as in "(also under 2.6.13)".
    return found + [_Said(_kernel(each, text, number), 1) for each in _WEAK.finditer(text, match.end())]


def _mentioned(text: str, number: int, above: str, below: str = "") -> list[_Said]:
    """The kernels that a line of somebody's words names."""
    of_package = _VERSION_OF_PACKAGE.match(text) if _PACKAGE.match(above) else None
    if of_package is not None:
        return [_Said(_kernel(of_package, text, number), 3)]
    if ENTRY.match(text):
        return []
    between = _between(text, number, below)
    if between:
        return between
    found: list[_Said] = []
    taken: list[tuple[int, int]] = []
    for score, pattern in [*((3, each) for each in _SAID), (2, _BARE), (2, _CANDIDATE), (1, _WEAK)]:
        for match in pattern.finditer(text):
            start, end = match.span("release")
            if any(start < other_end and other_start < end for other_start, other_end in taken):
                continue
            # Far more than any of the expressions takes; a line may be the whole of the text.
            ahead = text[max(0, start - 160) : start]
            if _OTHERS.search(ahead) and not _is_the_kernels(ahead, match["release"], text[end:]):
                continue
            if _is_an_address(match) or not _is_a_series(match) or _CONSTANT.search(ahead):
                continue
            if score == 1 and text.strip() == match[0].strip():
                # A number alone may be anything's.
                continue
            taken.append((start, end))
            # "2.4.7+" of somebody's words is that and all later ones.
            later = match["rest"] == "+" and match["patch"] != "0"
            elsewhere = later or _is_elsewhere(ahead) or _ELSEWHERE_BEHIND.match(text[end:]) is not None
            elsewhere = elsewhere and _ON_TOP.search(f"{above[-40:]} {ahead}") is None
            gone_to = _GONE_TO.search(ahead) is not None
            found.append(_Said(_kernel(match, text, number), score, elsewhere, gone_to))
    if any(each.score >= _SURE for each in found):
        # Beside "the 5.7 kernel" a 5.10 is one as well.
        for match in _SERIES.finditer(text):
            start, end = match.span("release")
            if not any(start < taken_end and taken_start < end for taken_start, taken_end in taken):
                ahead = text[max(0, start - 160) : start]
                other = not _OTHERS.search(ahead) and _is_a_series(match)
                elsewhere = _is_elsewhere(ahead) or _ELSEWHERE_BEHIND.match(text[end:]) is not None
                if other:
                    found.append(_Said(_kernel(match, text, number), 1, elsewhere))
    return found


def _is_elsewhere(ahead: str) -> bool:
    """Whether the words in front of a kernel say that all was well with it, or that it is another's."""
    if _ELSEWHERE_FURTHER.search(ahead):
        return True
    found = _ELSEWHERE.search(ahead)
    while (
        found is not None and found[0].lower().startswith("work") and _IN_VAIN.search(ahead[: found.start()])
    ):
        found = _ELSEWHERE.search(ahead, found.start() + 1)
    return found is not None


def _is_the_kernels(ahead: str, release: str, behind: str) -> bool:
    """Whether a version is a kernel's although another product's name, or "version", is in front of it."""
    if re.search(r"\b(?:linux|kernel)\b[^,;]{0,12}$", ahead, re.I):
        return True
    version = _VERSION.search(ahead)
    if version is None:
        return False
    if _OF_THE_KERNEL.match(behind):
        return True
    before = ahead[: version.start()]
    if _OF_PRODUCT.search(before) or _OF_ANOTHER.match(behind):
        return False
    said = version["of_any"] is not None and not _OF_SYSTEM.search(before)
    return said or _RELEASE_FORM.search(release) is not None


def _is_an_address(match: re.Match[str]) -> bool:
    """Four numbers, which Linux only had in 2.6, are more likely somebody's address or a driver's version."""
    return match["fourth"] is not None and match["major"] != "2"


#: Behind the last of a series there is none: 2.6 was followed by 3.0, 3.19 by 4.0, 4.20 by 5.0.
_LAST: Final = {2: 6, 3: 19, 4: 20, 5: 19, 6: 19}
_LAST_OF_OTHERS: Final = 20


def _is_a_series(match: re.Match[str]) -> bool:
    """Whether there is such a series of Linux'; git's 2.45 is none."""
    return int(match["minor"]) <= _LAST.get(int(match["major"]), _LAST_OF_OTHERS)


#: The end of a release that is an upstream version and nothing else.
_UPSTREAM: Final = re.compile(r"(?:-rc\d.*|-dirty)?")


def _kernel(match: re.Match[str], banner: str, line: int, *, own: bool = False) -> Kernel:
    # "5.10+" of somebody's words are all later ones.
    release = match["release"].rstrip(".,;:)-~" if own else ".,;:)-+~")
    major, minor = int(match["major"]), int(match["minor"])
    patch = int(match["patch"]) if match["patch"] else None
    rest = match["rest"] or ""
    series = f"{major}.{minor}"
    version, exact = (major, minor, patch or 0), patch is not None
    if (major, minor) == (2, 6):
        series = f"2.6.{patch}" if patch is not None else "2.6"
        exact = patch is not None
    elif patch in (0, None):
        # A distribution's 6.1.0-18 and Ubuntu's 5.15.0-97 are of any update of that series; uname's 4.20.0 is
        # that, and somebody's 4.20.0 may be any.
        exact = rest.startswith("-rc") or (patch == 0 and own and _UPSTREAM.fullmatch(rest) is not None)
    debian, ubuntu = _OF_DEBIAN.search(banner), _OF_UBUNTU.search(banner)
    if debian is not None and int(debian[1]) == major and int(debian[2]) == minor:
        version, exact = (major, minor, int(debian[3])), True
    elif ubuntu is not None and ubuntu[1] == series:
        version, exact = (int(ubuntu[2]), int(ubuntu[3]), int(ubuntu[4])), True
    told = _COMPILER.sub("", banner)
    distribution = next((name for name, pattern in _DISTRIBUTIONS if pattern.search(told)), None)
    return Kernel(release, series, version, exact, distribution, banner[:400], line, own)


def _distinct(found: list[Kernel]) -> tuple[Kernel, ...]:
    seen: dict[str, Kernel] = {}
    for each in found:
        seen.setdefault(each.release, each)
    return tuple(seen.values())
