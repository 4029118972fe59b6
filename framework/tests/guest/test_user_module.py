"""A module of the user's in guests: what it maps is seen with its line; a misbehaving one is one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from memtype_support.driver_page import lines_of_mistake, shown, write_files

from pytest_memtype import MemType
from pytest_memtype.errors import GuestPanicked, ModuleRefusedToLoad, ModuleStays, UsageError
from pytest_memtype.guest.guest import Guest
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.kernels.user_module import UserModule, user_module
from pytest_memtype.plugin.fixtures import GuestFactory

SERIES = ["debian:bullseye", "debian:bookworm", "debian:trixie", "debian:trixie-backports"]
UC_MINUS, WB, WC = MemType.UC_MINUS, MemType.WB, MemType.WC
CALL = "toy_registers = ioremap_wc"


def module(folder: Path, body: str) -> str:
    """A module whose init function has this body; returns its path."""
    file = folder / "small.c"
    file.write_text(
        "#include <linux/io.h>\n#include <linux/module.h>\n"
        f"static int __init small_init(void)\n{{\n{body}\n\treturn 0;\n}}\nmodule_init(small_init);\n"
        'static void __exit small_exit(void) {}\nmodule_exit(small_exit);\nMODULE_LICENSE("GPL");\n'
    )
    return str(file)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """The page's driver, for the device that every guest has, and whose guests are clones."""
    write_files(tmp_path, "toy/Kbuild", "toy/toy.c")
    source = tmp_path / "toy/toy.c"
    source.write_text(source.read_text().replace("0x11e8", "0x1111"))
    return tmp_path / "toy"


@pytest.mark.parametrize("kernel", SERIES)
def test_what_it_maps_is_seen_with_its_lines(guest_factory: GuestFactory, kernel: str, toy: Path) -> None:
    guest: Guest = guest_factory(kernel=kernel)
    before = guest.observed()
    loaded = guest.load(toy)
    bar = guest.pci("1234:1111").bars[0]
    assert guest.pci("1234:1111").driver == "toy"
    assert bar.prefetchable
    assert not bar.bits64

    (mapped,) = guest.observed(module=loaded)
    source = shown("file: toy/toy.c").splitlines()
    (call,) = [number for number, line in enumerate(source, start=1) if CALL in line]
    assert (mapped.region, mapped.requested, mapped.granted) == (bar.region[0:4], WC, WC)
    assert mapped.line == f"toy/toy.c:{call}"
    assert (mapped.kind, mapped.module, mapped.rule) == ("kernel", "toy", None)
    assert loaded.aliases == ()

    outcome = guest.process("X").mmap(bar.region[0:4], WC, via="/dev/toy")
    assert outcome.accepted
    assert outcome.region == bar.region[0:4]
    (alias,) = guest.aliases(loaded)
    assert alias == guest.observed(module=loaded)[-1]
    assert (alias.kind, alias.requested, alias.granted, alias.rule) == ("user", UC_MINUS, WC, "alias")
    assert alias.conflict is not None
    assert alias.conflict.owner == "toy"
    assert alias.handler == "toy_mmap [toy]"
    assert alias.line in lines_of_mistake()
    assert len(guest.observed()) == len(before) + 2
    assert {each.owner for each in guest.tracked(bar.region)} == {"toy", "X"}


def test_records_follow_what_a_node_maps(guest: Guest, toy: Path) -> None:
    """Its vm_pgoff is 0, and not the page frame."""
    guest.load(toy)
    bar = guest.pci("1234:1111").bars[0].region
    process = guest.process("X")
    first = process.mmap(via="/dev/toy", size="16K")
    assert first.region == bar[0:4]
    assert first.granted is WC
    assert first.accepted
    assert first.mapping is not None
    with pytest.raises(UsageError, match="without a region and a type the verifier isn't asked"):
        _ = first.verdict

    def mine() -> list[tuple[str, int, int]]:
        return [(each.owner, each.region.start, each.region.pages) for each in guest.tracked() if each.pid]

    assert mine() == [("X", bar.start, 4)]
    process.munmap(first.mapping, offset=1, pages=1)
    assert mine() == [("X", bar.start, 1), ("X", bar[2].start, 2)]
    child = process.fork("Y")
    assert len(mine()) == 4
    process.mremap(first.mapping, offset=2, pages=2, move=True)
    process.exit()
    assert mine() == [("Y", bar.start, 1), ("Y", bar[2].start, 2)]
    child.exit()
    assert mine() == []
    wrong = guest.process("Z").mmap(bar[4:8], WC, via="/dev/toy")
    assert wrong.verdict.accepted
    assert wrong.region == bar[0:4]
    assert not wrong.accepted
    guest.aliases()


def test_what_a_node_refuses(guest: Guest, toy: Path) -> None:
    guest.load(toy)
    bar = guest.pci("1234:1111").bars[0].region
    assert guest.process("U", uid=1000).mmap(bar[0], WC, via="/dev/toy").kernel.errno == 13
    process = guest.process("X")
    assert process.mmap(bar[0], WC, via="/dev/nosuch").kernel.errno == 2
    # /dev/null has an mmap() of nothing; /dev/zero one of RAM, which no record is kept of.
    assert process.mmap(via="/dev/null", size=4096).kernel.errno == 19
    zero = process.mmap(via="/dev/zero", size=4096)
    assert zero.kernel.accepted
    assert zero.region.start == 0
    assert guest.tracked(observed=False) == ()
    for wrong in (
        {"size": 4095},
        {"offset": 1, "size": 4096},
        {},
        {"size": "lots"},
        {"part": (0, 1), "size": 4096},
    ):
        with pytest.raises(UsageError, match="via '/dev/toy'"):
            process.mmap(via="/dev/toy", **wrong)


def test_an_alias_that_nobody_asked_for_fails_the_test(pytester: pytest.Pytester, toy: Path) -> None:
    toy.rename(pytester.path / "toy")
    pytester.makepyfile("""
        import pytest
        from pytest_memtype import MemType
        pytestmark = pytest.mark.module("toy")

        def test_a(guest):
            guest.process("X").mmap(guest.pci("1234:1111").bars[0].region[0:4], MemType.WC, via="/dev/toy")

        def test_b(guest):
            assert guest.modules["toy"].aliases == ()
    """)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--kernel", "debian:bookworm")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.re_match_lines([r"an alias of somebody else's: toy/toy.c:\d+: .*\[toy\], X:\d+: UC- -> WC"])
    assert "ran on a boot" not in result.stdout.str()


def test_compiler_errors_are_shown_once(pytester: pytest.Pytester) -> None:
    module(pytester.path, "\treturn nothing;")
    pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.module("small.c")

        def test_a(guest):
            pass

        def test_b(guest):
            pass

        def test_c(guest):
            pass
    """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--kernel", "debian:bookworm")
    result.assert_outcomes(errors=3)
    text = result.stdout.str()
    where = re.escape(str(pytester.path / "small.c"))
    assert len(re.findall(rf"^E? *{where}:5:16: error:", text, re.MULTILINE)) == 1
    first = rf"ModuleBroken: module 'small.c' doesn't build for 6\.1\.\S+: {where}:5:16: error: .nothing."
    assert len(re.findall(first, text)) >= 3


@pytest.mark.expect_oops("small_init")
def test_one_that_oopses(guest_factory: GuestFactory, tmp_path: Path) -> None:
    guest: Guest = guest_factory()
    source = module(tmp_path, "\t*(volatile int *)8 = 1;")
    with pytest.raises(GuestPanicked) as caught:
        guest.load(source)
    assert re.fullmatch(
        rf"module '{source}': the guest's kernel died as it was loaded: "
        r"NULL pointer dereference in small_init, small\.c:5",
        caught.value.message,
    )
    # The next guest knows nothing of it.
    other: Guest = guest_factory()
    assert other.shell("lsmod").output.count("small") == 0
    assert other.reports() == ()


@pytest.mark.expect_oops("small_init")
def test_a_warning_is_its_modules(guest: Guest, tmp_path: Path) -> None:
    loaded = guest.load(module(tmp_path, '\tWARN(1, "on purpose");'))
    (report,) = loaded.reports
    assert "small_init" in report.title
    # The kernel has freed small_init() when it was through.
    assert "small_exit" in loaded.symbols
    loaded.unload()


def test_one_that_is_unloaded_while_it_is_in_use(guest: Guest, toy: Path) -> None:
    loaded = guest.load(toy)
    process = guest.process("X")
    assert process.mmap(via="/dev/toy", size=4096).accepted
    with pytest.raises(ModuleStays, match=r"^module '.*toy' can't be unloaded: 1 still use it .*$"):
        loaded.unload()
    process.exit()
    loaded.unload()
    assert not loaded.loaded
    assert not [each for each in guest.tracked() if each.owner in ("toy", "X")]
    guest.aliases()


def test_a_function_goes_with_the_module_that_a_shell_takes_out(guest: Guest, tmp_path: Path) -> None:
    file = tmp_path / "small.c"
    file.write_text(
        "#include <linux/module.h>\nint small_answer(void);\n"
        "noinline int small_answer(void)\n{\n\treturn 42;\n}\n"
        "static int __init small_init(void) { return 0; }\nmodule_init(small_init);\n"
        'static void __exit small_exit(void) {}\nmodule_exit(small_exit);\nMODULE_LICENSE("GPL");\n'
    )
    guest.load(str(file))
    assert guest.kernel.call("small_answer").returned == 42
    assert guest.shell("rmmod small").status == 0
    # Its address is anybody's now.
    assert not guest.kernel.has("small_answer")


def test_one_that_leaves_a_mapping(guest: Guest, tmp_path: Path) -> None:
    bar = guest.mmio(pages=1)
    loaded = guest.load(module(tmp_path, f"\tif (!ioremap_wc({bar.start:#x}, 4096))\n\t\treturn -12;"))
    with pytest.raises(ModuleStays) as caught:
        loaded.unload()
    assert caught.value.message.endswith(f"is unloaded, and has left mapped: WC {bar} by small.c:5")


def test_one_for_another_kernel(guest_factory: GuestFactory, tmp_path: Path) -> None:
    other: Guest = guest_factory(kernel="debian:bullseye")
    other.load(module(tmp_path, ""))
    (built,) = {other.modules["small"].built.files[-1]}
    file = tmp_path / "old.ko"
    file.write_bytes(built.read_bytes())
    guest: Guest = guest_factory()
    with pytest.raises(UsageError) as caught:
        guest.load(file)
    assert re.fullmatch(
        rf"module '{file}': it is built for 5\.10\.\S+, and the guest's kernel is "
        rf"{re.escape(guest.release)}; bring its source, which is built for each kernel",
        caught.value.message,
    )
    # One for this kernel is taken as it is.
    other.load(file)


def test_one_that_the_kernel_refuses(guest: Guest, tmp_path: Path) -> None:
    source = module(tmp_path, "\treturn -16;")
    with pytest.raises(ModuleRefusedToLoad, match="can't be loaded: Device or resource busy"):
        guest.load(source)
    with pytest.raises(UsageError, match="'no name' is no name of a module's parameter"):
        guest.load(source, parameters={"no name": 1})
    with pytest.raises(UsageError, match=r"there is no /.*smalll\.c; did you mean 'small\.c'"):
        guest.load(tmp_path / "smalll.c")


def test_a_failure_over_what_nothing_was_expected_of(pytester: pytest.Pytester, toy: Path) -> None:
    toy.rename(pytester.path / "toy")
    pytester.makepyfile("""
        import pytest
        from pytest_memtype import MemType
        pytestmark = pytest.mark.module("toy")

        def test_a(guest):
            first = guest.process("X").mmap(via="/dev/toy", size="16K")
            assert first.granted is MemType.WB
    """)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--kernel", "debian:bookworm")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["    3 X mmap /dev/toy(*"])
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_a_built_file_is_known_by_what_is_in_it(tmp_path: Path, memtype_kernel: str) -> None:
    """Guests and templates know files by their paths: one that was built anew has another."""
    made = bundle(memtype_kernel, progress=silent)

    def built(body: str, place: Path) -> UserModule:
        place.mkdir(exist_ok=True)
        file = place / "small.ko"
        file.write_bytes(user_module(module(tmp_path, body), tmp_path, made).file.read_bytes())
        return user_module(str(file), tmp_path, made)

    first = built('\tpr_info("one");', tmp_path / "a b")
    content = first.file.read_bytes()
    anew = built('\tpr_info("two");', tmp_path / "a b")
    assert anew.file != first.file
    assert (first.file.read_bytes(), anew.file.read_bytes() != content) == (content, True)
    # The same content is the same file, wherever it lies.
    assert built('\tpr_info("one");', tmp_path / "c").file == first.file


def test_a_folder_is_built_under_its_own_name(tmp_path: Path, memtype_kernel: str) -> None:
    made = bundle(memtype_kernel, progress=silent)
    folder = tmp_path / "drv"
    (folder / "tests").mkdir(parents=True)
    module(folder, "")
    (folder / "Kbuild").write_text("obj-m := small.o\n")
    assert user_module("..", folder / "tests", made).folder == "drv"
    folder.rename(tmp_path / "d; r")
    with pytest.raises(UsageError, match="make can't build what is called 'd; r'"):
        user_module("d; r", tmp_path, made)


def test_files(guest: Guest, tmp_path: Path) -> None:
    file = tmp_path / "large"
    # Longer than the mailbox. The path is the guest's own; its folders are made.
    content = bytes(range(256)) * 4096 * 2 + b"end"
    file.write_bytes(content)
    assert guest.put(file, to="/tmp/a/b/large") == "/tmp/a/b/large"
    assert guest.get("/tmp/a/b/large") == content
    file.write_bytes(b"")
    assert guest.get(guest.put(file)) == b""
    assert b"System RAM" in guest.get("/proc/iomem")
    with pytest.raises(Exception, match="/nosuch: No such file or directory"):
        guest.get("/nosuch")
    with pytest.raises(Exception, match="/dev/ttyS0"):
        guest.get("/dev/ttyS0")
