from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_memtype.coverage.counters import layout
from pytest_memtype.coverage.lines import Notes, SourceFile, source_files
from pytest_memtype.coverage.reading import Reading
from pytest_memtype.coverage.total import Total, total
from pytest_memtype.errors import KernelError, UsageError

Counted = Callable[..., Reading]


def lines_of(found: Total, tree: Path, place: Path) -> dict[str, SourceFile]:
    notes = Notes(place, found.layout.names, tree)
    paths = [notes.put(name, data) for name, data in found.layout.files(found.counts)]
    return {file.name: file for file in source_files("gcov", notes, paths)}


def test_a_boot_counts_once_for_all_clones(counted: Counted, build_tree: Path, tmp_path: Path) -> None:
    """A clone starts with its template's counters: -1 of the boot stands in each reading."""
    boot = counted(-1, template="template-1")
    first = counted(5, test="first")  # It read the template, which set its counters to 0.
    second = counted(-1, 200, 5, 5, test="second", template="template-1")

    found = total([boot, first, second])

    files = lines_of(found, build_tree, tmp_path)
    lines = files["arch/small.c"].lines
    assert [lines[number] for number in (3, 4, 5, 6, 7)] == [5, 1, 4, 1, 3]
    assert files["arch/small.c"].functions == {"classify": 5}
    assert files["arch/small.c"].branches == {3: [1, 4], 5: [1, 3]}
    assert files["mm/large.c"].functions == {"never_called": 0}
    assert files["mm/large.c"].lines_run[0] == 0
    assert files["arch/small.c"].branches_taken == (4, 4)
    assert list(found.tests) == ["first", "second"]


def test_a_line_of_a_negative_number_was_not_run() -> None:
    """gcov makes some from others, of which one was read a moment later."""
    file = SourceFile("mm/memory.c", lines={1: 2, 2: -1, 3: 0}, branches={1: [3, -1]}, functions={"f": -1})
    assert (file.lines_run, file.branches_taken, file.functions_called) == ((1, 3), (1, 2), (0, 1))


def test_readings_of_one_test_are_added(counted: Counted, build_tree: Path, tmp_path: Path) -> None:
    """A test may have several guests."""
    found = total([counted(200, test="it"), counted(200, test="it")])
    assert list(found.tests) == ["it"]
    assert lines_of(found, build_tree, tmp_path)["arch/small.c"].lines[6] == 2


def test_a_guest_whose_counters_are_lost(counted: Counted) -> None:
    found = total([Reading("dead", "tree:x", "", lost="the guest is exited"), counted(1, test="it")])
    assert [(each.test, each.reason) for each in found.lost] == [("dead", "the guest is exited")]
    assert list(found.tests) == ["it"]


def test_a_run_of_which_nothing_is_left() -> None:
    with pytest.raises(UsageError, match="no guest has left its counters"):
        total([Reading("dead", "tree:x", "", lost="the guest is exited")])


def test_another_build_is_refused(counted: Counted) -> None:
    one = counted(1, test="it")
    with pytest.raises(UsageError, match="kernels that were built apart"):
        total([one, Reading("other", "tree:y", "", one.names[::-1], one.packed)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:40], "are cut short|are damaged"),
        (lambda text: "!" + text, "are damaged"),
    ],
)
def test_damaged_readings_are_refused(counted: Counted, change: object, message: str) -> None:
    one = counted(1, test="it")
    assert callable(change)
    with pytest.raises(UsageError, match=message):
        total([Reading("it", "tree:x", "", one.names, change(one.packed))])


@pytest.mark.parametrize("name", ["elsewhere", "x" * 300])
def test_a_tree_without_its_notes_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(KernelError, match=rf"{name}\.gcno isn't there; the tree must be as it was built"):
        Notes(tmp_path, [f"{tmp_path}/{name}.gcda"], tmp_path)


def test_a_unit_with_a_dot_in_its_name(tmp_path: Path) -> None:
    """As crypto/asymmetric_keys has of its .asn1 files."""
    tree, place = tmp_path / "tree", tmp_path / "place"
    (tree / "a").mkdir(parents=True)
    (tree / "a" / "x509.asn1.gcno").write_text("notes")
    name = f"{tree}/a/x509.asn1.gcda"
    for copy in ("", "@1"):
        path = Notes(place, [name], tree).put(name, b"", copy=copy)
        assert path == place / "a" / f"x509.asn1{copy}.gcda"
        assert (path.parent / f"x509.asn1{copy}.gcno").read_text() == "notes"


def test_counters_of_another_place_are_refused(build_tree: Path, tmp_path: Path) -> None:
    """Files would be written beside the folder for them."""
    tree, place = tmp_path / "tree", tmp_path / "place"
    tree.mkdir()
    for name in (f"{build_tree}/arch/small.gcda", f"{tree}/../x/y.gcda", "/etc/passwd.gcda"):
        with pytest.raises(KernelError, match=r"coverage: the counters are of .*, which is not in the tree"):
            Notes(place, [name], tree)


@pytest.mark.parametrize("name", ["", "./", "..", "arch/small", "arch/.gcda", "arch/\0.gcda"])
def test_names_of_no_counters_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(KernelError, match="is no name of a file of counters"):
        Notes(tmp_path, [name], tmp_path)


@pytest.mark.parametrize(("version", "size"), [(b"*22B", 4), (b"*21A", 1)])
def test_half_a_counter_is_refused(version: bytes, size: int) -> None:
    head = b"adcg" + version + bytes(8 if version == b"*22B" else 4)
    with pytest.raises(UsageError, match="1 words, and each takes two"):
        layout(("a.gcda",), head + struct.pack("<III", 0x01A10000, size, 7))
