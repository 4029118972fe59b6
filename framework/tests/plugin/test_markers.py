"""Markers of tests, and the layouts that markers and --layout name."""

from __future__ import annotations

import pytest
from memtype_support.inner_pytest import run


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("layout('nowhere')", "marker layout: no layout is called 'nowhere'; known are .*firmware"),
        ("layout('wb-devise')", "marker layout: no layout is called 'wb-devise'; did you mean 'wb-device'"),
        ("layout(17)", "marker layout: 17 is neither a name nor a Layout"),
        ("layout()", "the marker layout takes one argument"),
        ("hardware(cpu='')", "hardware: cpu '' is not a QEMU CPU"),
        ("hardware(colour='red')", "marker hardware: nothing is called 'colour'; known are cpu, memory, "),
        ("hardware(mem='1G')", "marker hardware: nothing is called 'mem'; did you mean .*'memory'"),
        ("hardware('qemu64', cpu='max')", "marker hardware: give each by its name, once"),
        ("distribution('debian:bookwurm')", "not known; did you mean 'debian:bookworm'"),
        ("expect_oops('(')", "expect_oops wants match=, a regular expression"),
        ("expect_alias(before=6)", "expect_alias takes before=, a kernel version"),
        ("needs_config('CONFIG_EFI')", "needs_config takes names of options without CONFIG_, such as 'EFI'"),
        ("needs_config(17)", "needs_config takes names of options"),
        ("hardware(memory='2T')", "goes beyond the 40 bits of the CPU's physical addresses"),
    ],
)
def test_a_bad_marker_is_one_line(pytester: pytest.Pytester, marker: str, message: str) -> None:
    pytester.makepyfile(f"import pytest\n\n@pytest.mark.{marker}\ndef test_it(guest): pass\n")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    # The file and the line of the marker.
    result.stdout.re_match_lines([rf"test_a_bad_marker_is_one_line\.py:3: test_it\S*: .*({message})"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_bad_marker_of_a_parameter_and_of_a_module(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_parameter="""
        import pytest
        @pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.layout("nosuch"))])
        def test_it(guest, x): pass
        """,
        test_module="""
        import pytest
        pytestmark = pytest.mark.layout("nosuch")
        class TestIt:
            def test_it(self, guest): pass
        """,
        test_others_own="""
        import pytest
        @pytest.mark.layout("of another plugin", colour=1)
        def test_it(): pass
        """,
    )
    result = run(pytester)
    result.assert_outcomes(errors=2)
    for name in ("test_parameter", "test_module"):
        result.stdout.re_match_lines([rf"{name}\.py:\d: .*no layout is called 'nosuch'"])


def test_a_layout_of_the_users_own(pytester: pytest.Pytester) -> None:
    (pytester.path / "layouts").mkdir()
    (pytester.path / "layouts" / "mine.toml").write_text(
        'description = "of the test"\ndefault = "uncached"\n'
        '[[ranges]]\nbase = "0"\nsize = "256M"\ntype = "write-back"\n'
    )
    pytester.makepyfile(
        """
        def test_it(guest):
            assert guest.layout.description == "of the test"
            assert "size=  256MB, count=1: write-back" in guest.shell("cat /proc/mtrr").output
        """
    )
    run(pytester, "--layout", "mine").assert_outcomes(passed=1)


def test_a_layout_of_the_users_own_is_known_below_its_folder(pytester: pytest.Pytester) -> None:
    """For a marker in the folders up to pytest's root; for --layout beside any test of the run."""
    toml = 'description = "{}"\ndefault = "write-back"\n'
    for folder, name in (("layouts", "at-the-root"), ("two/layouts", "beside-another")):
        (pytester.path / folder).mkdir(parents=True)
        (pytester.path / folder / f"{name}.toml").write_text(toml.format(name))
    (pytester.path / "one" / "deep").mkdir(parents=True)
    (pytester.path / "one" / "deep" / "test_one.py").write_text(
        "import pytest\n\n@pytest.mark.layout('at-the-root')\n"
        "def test_marked(guest):\n    assert guest.layout.name == 'at-the-root'\n\n"
        "def test_not_marked(guest):\n    assert guest.layout.name == 'beside-another'\n"
    )
    run(pytester, "--layout", "beside-another").assert_outcomes(passed=2)
