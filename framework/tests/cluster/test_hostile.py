"""A whole run, some of whose tasks mean ill: each is refused and named, and the rest of the run is right.

Two programs of the workers are hostile: tests, which say what they like to whoever collects their answers,
and a library that a worker loads at its start, which has the worker's own function answer otherwise. The
client, the scheduler and the guests are real.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from memtype_support.dask_cluster import dask_cluster, run_tests

# Loaded by the workers. What a task answers is compressed last.
LIBRARY = """
import os, pickle, zlib

PLACE = {place!r}


class Evil:
    def __reduce__(self):
        return exec, (f"import os; open({place!r} + str(os.getpid()), 'w').close()",)


class EvilError(Exception):
    def __reduce__(self):
        return Evil().__reduce__()


def raise_(error):
    raise error


ANSWERS = {{
    b"test_answers_a_pickle": lambda: pickle.dumps(Evil()),
    b"test_answers_an_object": Evil,
    b"test_answers_2_gib": lambda: bytes(2 << 30),
    b"test_raises_its_own": lambda: raise_(EvilError()),
}}
# Dask loads this twice.
zlib.honest = getattr(zlib, "honest", zlib.compress)


def hostile(data, *more):
    for name, answer in ANSWERS.items():
        if b"::" + name in data:
            return answer()
    return zlib.honest(data, *more)


zlib.compress = hostile
"""

GUESTS = """
import pytest
from pytest_memtype import MemType

pytestmark = pytest.mark.hardware(memory="96M")


def maps(guest):
    bar = guest.mmio(pages=4)
    guest.driver("drm").ioremap(bar, MemType.WC)
    guest.driver("fbdev").ioremap(bar, MemType.UC_MINUS)


@pytest.mark.parametrize("number", range(3))
def test_maps(guest, number):
    maps(guest)


def test_speaks_of_others(guest, request):
    maps(guest)
    import hostile_words

    hostile_words.speak_of("test_plain.py::test_passes[1]")


def test_has_records_of_others(guest, request):
    maps(guest)
    import hostile_words

    hostile_words.record_for("test_plain.py::test_passes[1]", request.node.nodeid)
"""

WORDS = """
import json, os, sys


def write(data):
    # The descriptor of the server that runs tests on a worker.
    answers = int(sys.argv[1])
    while data:
        data = data[os.write(answers, data) :]


def report(nodeid, **more):
    return {
        "$report_type": "TestReport", "nodeid": nodeid, "location": ["x", 0, "x"], "keywords": {},
        "outcome": "failed", "longrepr": "forged", "when": "teardown", "user_properties": [],
        "sections": [], "duration": 0.0, "start": 0.0, "stop": 0.0, **more,
    }


def speak_of(nodeid):
    write(json.dumps({"report": report(nodeid)}).encode() + b"\\n")


def record_for(other, nodeid):
    texts = dict.fromkeys(("kernel", "kernel_version", "tested", "case", "operation", "actor"), "forged")
    record = {**texts, "schema": 2, "hardware": {}, "test": other, "guest": 1, "step": 1, "arguments": {}}
    write(json.dumps({"report": report(nodeid, memtype_records=[record])}).encode() + b"\\n")
"""

PLAIN = """
import os, sys
import pytest
from hostile_words import write


@pytest.mark.parametrize("number", range(4))
def test_passes(number): pass


def test_fails_in_colour():
    print("\\x1b[2Jcleared")
    assert 0, "on purpose"


def test_says_nan(): write(b'{"start": NaN}\\n')


def test_says_control_characters(): write(b'{"start": "\\x1b[2J"}\\n')


def test_says_2_gib():
    while True:
        write(b"x" * (1 << 20))


def test_answers_a_pickle(): pass


def test_answers_an_object(): pass


def test_answers_2_gib(): pass


def test_raises_its_own(): pass
"""

CONFTEST = """
import os, sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
        Path("client").write_text(f"{os.getpid()} {peak.split()[1]}")
"""

# Else pytest leaves out why a test has failed.
WIDE = {"COLUMNS": "300"}

REFUSED = {
    "test_speaks_of_others": r"it has a report of another test, test_plain\.py::test_passes\[1\]",
    "test_has_records_of_others": r"it has a record of another test, test_plain\.py::test_passes\[1\]",
    "test_says_nan": "it isn't JSON: NaN is no number",
    "test_says_control_characters": "it isn't JSON: Invalid control character",
    "test_says_2_gib": "it answered more than 96 MiB",
    "test_answers_a_pickle": "it isn't compressed as ours are",
    "test_answers_an_object": "it is no bytes",
    "test_answers_2_gib": "it has 2048 MiB; 64 are allowed",
    "test_raises_its_own": "its task ended with an exception",
}


def _records(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    found: dict[str, list[tuple[object, ...]]] = {}
    for line in (folder / ".memtype/latest/records.jsonl").read_text().splitlines():
        each = json.loads(line)
        answer = (each["operation"], each["verdict"], each["kernel_answer"], each["granted"])
        found.setdefault(each["test"], []).append(answer)
    return found


def _failures(report: Path) -> Iterator[tuple[str, str]]:
    for case in Xml.parse(report).iter("testcase"):
        for failure in case.iter("failure"):
            yield case.attrib["name"].partition("[")[0], f"{failure.attrib['message']}\n{failure.text or ''}"


def _without_parameters(nodeid: str) -> str:
    return nodeid.partition("::")[2].partition("[")[0]


@pytest.mark.timeout(1200)
def test_hostile_answers_are_refused_and_the_rest_of_the_run_is_right(tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    files = {"test_guests": GUESTS, "test_plain": PLAIN, "hostile_words": WORDS, "conftest": CONFTEST}
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    innocent = "maps or passes or in_colour"
    undisturbed = run_tests(folder, "-n", "0", "-k", innocent, seconds=900)
    assert "1 failed, 7 passed" in undisturbed.stdout, undisturbed.stdout + undisturbed.stderr
    records = _records(folder)

    library = tmp_path / "library.py"
    place = str(tmp_path / "unpickled-by-")
    library.write_text(LIBRARY.format(place=place))
    with dask_cluster(tmp_path, []) as cluster:
        for worker in ("one", "two"):
            preload = {"DASK_DISTRIBUTED__WORKER__PRELOAD": json.dumps([str(library)])}
            cluster.worker(worker, environment=preload)
        done = run_tests(
            folder,
            f"--scheduler={cluster.file}",
            "-rA",
            "--junitxml=report.xml",
            seconds=900,
            environment=WIDE,
        )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert f"{len(REFUSED) + 1} failed, 7 passed" in said

    # Each is refused, and named with the reason. (In its summary pytest shows that from 9 on.)
    failures = dict(_failures(folder / "report.xml"))
    assert failures.keys() == REFUSED.keys() | {"test_fails_in_colour"}
    for name, reason in REFUSED.items():
        why = failures[name]
        assert re.search(reason, why), (name, why)
        # It names the fault as what it is.
        killed = name == "test_says_2_gib"
        assert f"memtype: {'killed 3 workers' if killed else 'its answer was refused 3 times'}: " in why
        assert re.search(reason, done.stdout)

    # The others are as they were without them.
    assert _records(folder) == records
    journal = (folder / ".memtype/latest/cluster.jsonl").read_text().splitlines()
    names = sorted(_without_parameters(json.loads(line)["test"]) for line in journal)
    assert names == ["test_fails_in_colour", *["test_maps"] * 3, *["test_passes"] * 4]
    assert "\x1b" not in said
    assert "\\x1b[2Jcleared" in done.stdout

    # Nothing was unpickled in the client, nor 2 GiB received; and the trap is one.
    client, peak = map(int, (folder / "client").read_text().split())
    assert not Path(f"{place}{client}").exists()
    assert peak < 1 << 20, f"{peak} KiB"
    namespace: dict[str, type] = {}
    exec(library.read_text().partition("def raise_")[0], namespace)
    pickle.loads(pickle.dumps(namespace["Evil"]()))
    assert Path(f"{place}{os.getpid()}").exists()
