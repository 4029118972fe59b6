"""Layouts in files: the named ones, the users', and files that are none."""

import dataclasses
from pathlib import Path

import pytest

from pytest_memtype.errors import LayoutError
from pytest_memtype.machine import layout_file
from pytest_memtype.machine.layout import Layout, validate
from pytest_memtype.machine.layout_file import layout_files, layout_folders, load_layout
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrRange

UC, WC, WT, WB = MemType.UC, MemType.WC, MemType.WT, MemType.WB
RAM = MtrrRange(0, "256M", WB)
FIXED = (0x0606060606060606, 0x0606060606060606, 0, *(0x0505050505050505,) * 8)
NAMED = {
    "all-registers-used",
    "discontinuous-mask",
    "firmware",
    "fixed-ranges-off",
    "inconsistent-cpus",
    "mtrr-disabled",
    "overlap-uc-wins",
    "overlap-undefined",
    "overlap-wt-wb",
    "painful-case",
    "ram-not-covered",
    "uc-default",
    "wb-device",
    "wc-framebuffer",
    "wp-range",
    "wt-ram-range",
}


def names(*folders: Path) -> set[str]:
    return {each.name for each in layout_files(folders)}


def test_named_layouts() -> None:
    assert names() == NAMED
    for name in NAMED:
        layout = load_layout(name)
        assert layout.name == name
        assert layout.description
        # And a comment in the file says for what.
        file = Path(layout_file.__file__).parents[1] / "layouts" / f"{name}.toml"
        assert file.read_text().startswith("# For ")
        validate(layout, physical_bits=40)


def test_named_layout_equals_the_one_written_inline() -> None:
    # The example of the public interface.
    inline = Layout("wc-framebuffer", default=UC, ranges=[RAM, MtrrRange(0xFD000000, "16M", WC)])
    assert load_layout("wc-framebuffer") == inline
    assert hash(load_layout("wc-framebuffer")) == hash(inline)
    assert inline != dataclasses.replace(inline, default=WB)


def test_layouts_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'description = "mine"\ndefault = "WB"\nfixed = ['
        + ", ".join(f'"{value:#x}"' for value in FIXED)
        + ']\n[[ranges]]\nbase = "4G"\nsize = 0x1000\ntype = "wt"\n'
    )
    assert load_layout("mine", [tmp_path]) == Layout(
        "mine", default=WB, ranges=[MtrrRange(1 << 32, 4096, WT)], fixed=FIXED
    )
    assert names(tmp_path, tmp_path / "missing") == NAMED | {"mine"}
    (tmp_path / "firmware.toml").write_text('description = "shadows"\n')
    assert load_layout("firmware", [tmp_path]).description == "shadows"


@pytest.mark.parametrize("name", ["nothing", "", "../layouts/firmware", "firmware.toml"])
def test_unknown_name(name: str) -> None:
    with pytest.raises(LayoutError, match=r"no layout is called .*known are all-registers-used, ") as refusal:
        load_layout(name)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_no_layout_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    (tmp_path / "mine.toml").write_text('description = "mine"\n')
    with pytest.raises(LayoutError, match=r"firmware.* mine, ") as refusal:
        load_layout("nope", [tmp_path])
    assert "pyproject" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("default = ", "Invalid value"),
        ("", "description is missing"),
        ("description = 1", "description = 1 has the wrong type"),
        (
            'description = ""\ncolour = 1',
            "unknown key 'colour'; known are description, default, enabled",
        ),
        ('description = ""\ndefault = "pink"', "unknown memory type 'pink'"),
        ('description = ""\nfixed = [true, 1.5]', "True isn't a number of bytes"),
        ('description = ""\nranges = [1]', "range 1: isn't a table"),
        ('description = ""\n[[ranges]]\nbase = 0\nsize = "4K"', "range 1: type is missing"),
        ('description = ""\n[[ranges]]\nbase = 0\nsize = "4Q"\ntype = "WB"', "range 1: '4Q' isn't a number"),
        (
            'description = ""\n[[ranges]]\nbase = 0\nsize = 1.5\ntype = "WB"',
            "range 1: size = 1.5 has the wrong",
        ),
        ('description = ""\nenabled = 1', "enabled = 1 has the wrong type"),
        ('description = "a\\nb"', "description isn't one line"),
        (
            'description = ""\n[[ranges]]\nbase = true\nsize = 1\ntype = "WB"',
            "range 1: base = True has the wrong",
        ),
        (
            'description = ""\n[[ranges]]\nbase = 0\nsize = 1\ntype = "WB"\nregister = "0"',
            "range 1: register = '0' has",
        ),
        (
            'description = ""\n[[ranges]]\nbase = 0\nsize = 1\ntype = "WB"\nmusk = 0',
            "range 1: unknown key 'musk'; did you mean 'mask'",
        ),
        (
            'description = ""\n[[ranges]]\nbase = 0\nsize = 1\ntype = "WB"\nmask = 4096',
            "range 1: has both mask and size",
        ),
        (
            'description = ""\n[[ranges]]\nbase = 0\ntype = "WB"\nmask = 2048',
            "range 1: a mask without an address bit",
        ),
        ('description = ""\n[other_cpus]\n', "other_cpus: default is missing"),
        (
            'description = ""\n[other_cpus]\ndefault = "UC"\n[[other_cpus.ranges]]\n',
            "other_cpus: range 1: base is missing",
        ),
        ("x = " + "[" * 5000, "nested too deeply"),
        ("\udcff", "no text in UTF-8"),
    ],
)
def test_file_that_is_no_layout(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(LayoutError, match=message) as refusal:
        load_layout("broken", [tmp_path])
    assert str(refusal.value).startswith(f"{file}: ")
    assert "\n" not in str(refusal.value)


def test_every_key(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'description = ""\ndefault = "UC"\nenabled = false\nfixed_enabled = false\n'
        '[[ranges]]\nbase = 0\nsize = "4K"\ntype = "WB"\nignored_bits = "0x4000"\nregister = 7\n'
        '[other_cpus]\ndefault = "WB"\n[[other_cpus.ranges]]\nbase = "1M"\nsize = "4K"\ntype = "WT"\n'
    )
    assert load_layout("mine", [tmp_path]) == Layout(
        "mine",
        default=UC,
        enabled=False,
        fixed_enabled=False,
        ranges=[MtrrRange(0, "4K", WB, ignored_bits=0x4000, register=7)],
        other_cpus=Layout("mine", default=WB, ranges=[MtrrRange("1M", "4K", WT)]),
    )


def test_files_that_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "layouts"
    folder.mkdir()
    (folder / "mine.toml").write_text('description = "mine"\n')
    (folder / "broken.toml").write_text("default = 1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "firmware.toml").write_text('description = "shadows"\n')
    listed = {each.name: each for each in layout_files([folder, tmp_path])}
    assert listed.keys() == NAMED | {"mine", "broken"}
    assert listed["mine"].where == str(folder / "mine.toml")
    assert listed["firmware"].where == str(tmp_path / "firmware.toml")
    assert listed["uc-default"].where == "built in"
    assert str(listed["broken"].layout).startswith(f"{folder / 'broken.toml'}: default = 1 has")


def test_what_real_machines_have_beside_the_mtrrs(tmp_path: Path) -> None:
    (tmp_path / "amd.toml").write_text(
        'description = "a laptop"\ndefault = "UC"\ntom2 = "9200M"\ntom2_write_back = true\n'
        '[smrr]\nbase = "2040M"\nsize = "8M"\ntype = "WB"\n'
    )
    assert load_layout("amd", [tmp_path]) == Layout(
        "amd", default=UC, tom2=9200 << 20, tom2_write_back=True, smrr=MtrrRange(2040 << 20, 8 << 20, WB)
    )
    (tmp_path / "amd.toml").write_text('description = "a laptop"\ndefault = "UC"\n[smrr]\nbase = 0\n')
    with pytest.raises(LayoutError, match="smrr: size is missing"):
        load_layout("amd", [tmp_path])


# As /proc/mtrr and "mtrr=debug" of a CPU with 39 bits print them.
def test_what_machines_print(tmp_path: Path) -> None:
    (tmp_path / "printed.toml").write_text(
        'description = "printed"\ndefault = "uncachable"\n'
        '[[ranges]]\nbase = "0x000000000"\nsize = "2048MB"\ntype = "write-back"\n'
        '[[ranges]]\nbase = "0x0C0000000"\nmask = "0x7FC0000000"\ntype = "uncachable"\n'
        '[[ranges]]\nbase = "0x0FD000000"\nmask = "0x7FFE000800"\ntype = "write-combining"\nregister = 5\n'
        '[[ranges]]\nbase = "0x100000000"\nmask = "0x70F0000000"\ntype = "WT"\n'
    )
    layout = load_layout("printed", [tmp_path])
    assert layout.default is UC
    assert layout.ranges == (
        MtrrRange(0, "2G", WB),
        MtrrRange(0xC0000000, "1G", UC),
        MtrrRange(0xFC000000, "32M", WC, register=5),
        # The mask leaves bits 32 to 35 out, so the base's bit 32 doesn't count.
        MtrrRange(0, "256M", WT, ignored_bits=0xF00000000),
    )


def test_layouts_lie_beside_what_a_project_calls_its_tests(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = check_*.py\n")
    for folder, file in (("mine", "check_it.py"), ("others", "test_it.py"), ("rest", "conftest.py")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).touch()
    found = layout_folders(start=tmp_path)
    assert {tmp_path / "mine", tmp_path / "rest"} < set(found)
    assert tmp_path / "others" not in found
