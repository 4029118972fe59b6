from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from memtype_support.large_run import kernels, write_run

from pytest_memtype.cli import main
from pytest_memtype.errors import UsageError
from pytest_memtype.report.kept import KeptAudit, KeptTest, RunFacts
from pytest_memtype.run import folder
from pytest_memtype.site.build import POLICY, write_site
from pytest_memtype.site.chunks import script
from pytest_memtype.site.run_data import rerun_command


def data(file: Path) -> Any:
    """What a file of the site hands to the page."""
    match = re.fullmatch(r'memtypeData\("[^"]*",(.*)\);\n', file.read_text(encoding="ascii"))
    assert match is not None
    return json.loads(match[1])


def test_two_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "one", tests=4, steps=8, failing=0)
    write_run(tmp_path / "two", tests=4, steps=8, failing=1)
    done = CliRunner().invoke(
        main, ["report", *(str(tmp_path / each) for each in ("one", "two")), "--html", str(tmp_path / "site")]
    )
    assert done.exit_code == 0, done.output
    assert "one: 8 tests, 64 steps\ntwo: 8 tests, 64 steps\nreport: " in done.output
    page = (tmp_path / "site" / "index.html").read_text()
    assert '<a href="one.html">one</a>' in page
    changed = re.findall(r'<td class="">passed</td>\s*<td class="bad">failed</td>', page)
    assert len(changed) == len(kernels(2))
    assert f'content="{POLICY}"'.replace("'", "&#39;") in page


def other_kernel(run: Path) -> None:
    """Have a run of one kernel tested the next build of it."""
    for name in ("records.jsonl", "tests.jsonl"):
        file = run / name
        file.write_text(file.read_text().replace("5.0.0-1", "5.0.0-2"))


def changed(page: str) -> list[list[str]]:
    """The cells of the index's last table, with the name of each row's test."""
    _, _, table = page.partition("Tests with other results")
    rows = re.findall(r"<tr><th[^>]*>([^<]*)</th>\s*((?:<td.*</td>\s*)+)", table)
    return [[name, *re.findall(r">([^<]*)</td>", cells)] for name, cells in rows]


def test_runs_of_two_kernels_are_compared_test_by_test(tmp_path: Path) -> None:
    """The exact kernel, which stands in the ids of tests, is another after each update."""
    write_run(tmp_path / "one", tests=4, steps=8, on=1, failing=0)
    write_run(tmp_path / "two", tests=4, steps=8, on=1, failing=1)
    other_kernel(tmp_path / "two")
    write_site([tmp_path / "one", tmp_path / "two"], tmp_path / "site")
    found = changed((tmp_path / "site" / "index.html").read_text())
    assert found == [["testcases/test_file_0.py::test_number_0", "passed", "failed"]]


def test_runs_that_have_no_test_in_common(tmp_path: Path) -> None:
    for name, number in (("one", 1), ("two", 2)):
        write_run(tmp_path / name, tests=1, steps=1, on=1)
        file = tmp_path / name / "tests.jsonl"
        file.write_text(file.read_text().replace("test_number_0", f"test_of_{number}"))
        (tmp_path / name / "records.jsonl").unlink()
    write_site([tmp_path / "one", tmp_path / "two"], tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text()
    assert "No test has a known result in two of these runs." in page
    assert "None: " not in page


def test_a_result_that_nobody_knows_is_not_compared(tmp_path: Path) -> None:
    """A run by an earlier version has records alone."""
    write_run(tmp_path / "one", tests=2, steps=4)
    write_run(tmp_path / "two", tests=2, steps=4)
    (tmp_path / "two" / "tests.jsonl").unlink()
    write_site([tmp_path / "one", tmp_path / "two"], tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text()
    assert changed(page) == []
    assert "No test has a known result in two of these runs." in page
    assert len(re.findall(r'<td class="number">not known</td>', page)) == 2


def test_a_kernel_as_the_user_wrote_it_is_no_part_of_a_tests_name(tmp_path: Path) -> None:
    """Of a test that was skipped there is no record."""
    for name, status in (("one", "passed"), ("two", "skipped")):
        write_run(tmp_path / name, tests=1, steps=1, on=1)
        (tmp_path / name / "records.jsonl").unlink()
        kept = KeptTest(
            "t.py::test[debian:bookworm]", tested="debian:6.1.0-5", case="t.py::test", status=status
        )
        (tmp_path / name / "tests.jsonl").write_bytes(msgspec.json.encode(kept) + b"\n")
    write_site([tmp_path / "one", tmp_path / "two"], tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text()
    assert changed(page) == [["t.py::test", "passed", "skipped"]]
    index = data(tmp_path / "site" / "one" / "index.js")
    assert index["tests"]["cases"] == ["t.py::test"]


def test_what_the_index_counts(tmp_path: Path) -> None:
    write_run(tmp_path / "run", tests=5, steps=8, on=3)
    (summary,) = write_site([tmp_path / "run"], tmp_path / "site")
    # Of eight steps two look, and two are aliases, which the first kernel refuses.
    assert summary.kinds == {"accepted": 5 * 3 * 4, "refused": 5 * 2, "≠ mapped": 5 * 2 * 2}
    assert summary.disagreements == 20
    assert summary.statuses == {"failed": 9, "passed": 6}
    index = data(tmp_path / "site" / "run" / "index.js")
    assert sum(row[10] for row in index["rows"]) == 5 * 3 * 6
    assert index["kernels"] == kernels(3)
    assert len(index["tests"]["case"]) == 15
    (change,) = {tuple(each["answers"]) for each in index["differences"]["changes"]}
    assert change == ("EINVAL", "WC", "WC")


def test_the_worst_alias_of_a_test_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "run", tests=1, steps=1, on=1)
    dangers = ("nonsense", "WARNING", ["FATAL"], "FATAL", "ERROR")
    audits = [KeptAudit(1, [{"danger": each}]) for each in dangers]
    kept = KeptTest("t.py::test", "debian:5.0", audits=[*audits, KeptAudit(2, left=3)])
    (tmp_path / "run" / "tests.jsonl").write_bytes(msgspec.json.encode(kept) + b"\n")
    write_site([tmp_path / "run"], tmp_path / "site")
    index = data(tmp_path / "site" / "run" / "index.js")
    assert index["strings"][index["tests"]["worst"][-1]] == "fatal"
    assert index["tests"]["findings"][-1] == len(dangers) + 3
    assert "3 more aliases, none of them worse" in (tmp_path / "site" / "run" / "audits-0.js").read_text()


def test_evidence_that_is_not_in_the_tests_own_folder(tmp_path: Path) -> None:
    """Of guests that tests share, and of a target."""
    run, own = tmp_path / "run", "t.py::test[k]"
    logs = {
        folder.test_folder(run, own) / "records.jsonl": "{}",
        run / "t.py-gw0-1234" / "guest-1" / "console.log": "of the guest",
        run / "target-1" / "console.log": "of the target",
        tmp_path / "private" / "console.log": "somebody else's",
    }
    for file, text in logs.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (run / "link").symlink_to(tmp_path / "private")
    others = ["../private", str(tmp_path / "private"), "link", "..", ".", "\0"]
    kept = KeptTest(own, "k", status="failed", folders=["t.py-gw0-1234", "target-1", *others])
    (run / "tests.jsonl").write_bytes(msgspec.json.encode(kept) + b"\n")
    write_site([run], tmp_path / "site")
    ((_, failure),) = data(tmp_path / "site" / "run" / "failures-0.js")
    assert [name for name, _ in failure["links"]] == [
        "records.jsonl",
        "t.py-gw0-1234/guest-1/console.log",
        "target-1/console.log",
    ]
    assert failure["consoles"] == [
        ["t.py-gw0-1234/guest-1", "of the guest"],
        ["target-1", "of the target"],
    ]
    assert "somebody" not in (tmp_path / "site" / "run" / "failures-0.js").read_text()


def test_records_alone_will_do(tmp_path: Path) -> None:
    write_run(tmp_path / "run", tests=2, steps=4)
    for name in ("tests.jsonl", "layouts.jsonl", "bugs.jsonl", "run.json"):
        (tmp_path / "run" / name).unlink()
    (summary,) = write_site([tmp_path / "run" / "records.jsonl"], tmp_path / "site")
    assert summary.name == "run"
    assert summary.statuses == {"unknown": 4}


def test_a_test_whose_records_are_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "run", tests=2, steps=4, on=1)
    records = tmp_path / "run" / "records.jsonl"
    lines = records.read_text().splitlines(keepends=True)
    records.write_text("".join(lines[::2] + lines[1::2]))
    write_site([tmp_path / "run"], tmp_path / "site")
    index = data(tmp_path / "site" / "run" / "index.js")
    assert index["tests"]["steps"] == [4, 4]
    found = [
        step[1]
        for key, (_, steps) in data(tmp_path / "site" / "run" / "steps-0.js")
        if key == 0
        for step in steps
    ]
    assert sorted(found) == [1, 2, 3, 4]


def test_runs_of_one_name(tmp_path: Path) -> None:
    for place in ("a/latest", "b/latest", "c/in dex", "c/index"):
        write_run(tmp_path / place, tests=1, steps=1, on=1)
    runs = [tmp_path / each for each in ("a/latest", "b/latest", "c/in dex", "c/index")]
    assert [each.name for each in write_site(runs, tmp_path / "site")] == [
        "latest",
        "latest-2",
        "in-dex",
        "index-2",
    ]


def test_data_can_end_neither_a_script_nor_a_line() -> None:
    text = script("name", {"key": "</script>\u2028<!--é"})
    assert "<" not in text
    assert text.isascii()
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("records.jsonl", "{}\n", "records.jsonl:1: not a record"),
        ("tests.jsonl", "{}\n", "tests.jsonl:1: is no line of such a file"),
        ("tests.jsonl", "[" * 100_000, "tests.jsonl:1: is no line of such a file"),
        ("layouts.jsonl", '{"layout": 1}\n', "layouts.jsonl:1: is no line of such a file"),
        ("run.json", "[]", "run.json: doesn't hold a run's facts"),
        ("bugs.jsonl", "nothing\n", "bugs.jsonl: doesn't hold results of reproducers"),
    ],
)
def test_a_damaged_file_is_told_in_a_line(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    write_run(tmp_path / "run", tests=1, steps=1, on=1)
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(UsageError, match=re.escape(complaint)):
        write_site([tmp_path / "run"], tmp_path / "site")
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["report"], "where is the report to go? Name a folder with --html DIR"),
        (["report", "--html", "site"], "which runs? Name folders such as .memtype/latest"),
        (["report", "nothing", "--html", "site"], "nothing: there is no such run"),
        (["report", ".", "--html", "site"], "has neither records nor results of a run"),
    ],
)
def test_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert complaint in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("test", "options", "command"),
    [
        (
            KeptTest("t.py::test[debian:6.1.0-5]", tested="debian:6.1.0-5", kernel="set:lts"),
            ["--kernel", "set:lts", "--layout", "wb-device", "--no-audit"],
            "memtype run --kernel debian:6.1.0-5 --layout wb-device 't.py::test[debian:6.1.0-5]'",
        ),
        (
            KeptTest("t.py::test", "debian:6.1.0-5@trixie", "debian:6.1", "debian:trixie"),
            ["--shared-guest"],
            "memtype run --kernel debian:6.1.0-5 --guest debian:trixie --shared-guest t.py::test",
        ),
        (KeptTest("t.py::test", "tree:/k", "tree:/k"), [], "memtype run --kernel tree:/k t.py::test"),
        (
            KeptTest("t.py::test[target:6.1.0-5]", "target:6.1.0-5", "target:6.1.0-5"),
            ["--target", "ssh://root@lab", "--target-config", "lab.toml"],
            "memtype run --target ssh://root@lab --target-config lab.toml 't.py::test[target:6.1.0-5]'",
        ),
        (KeptTest("t.py::test[;reboot]"), [], "memtype run 't.py::test[;reboot]'"),
        (KeptTest("::test[a::b]", path="/suite/t.py"), [], "memtype run '/suite/t.py::test[a::b]'"),
    ],
)
def test_the_command_that_runs_a_test_again(test: KeptTest, options: list[str], command: str) -> None:
    assert rerun_command(test, RunFacts(options=options)) == command
