"""The record of a run: one JSON line for each operation, in the order of the run.

Schema 2. Every line has ``schema``, the guest's ``kernel`` (release), ``kernel_version`` (of its
package), ``system`` (``minimal``, or the distribution that runs in it), ``layout``, ``hardware``,
``accelerator`` and ``accelerator_reason``, ``qemu`` (its version), ``boot`` (how the
guest came to be: ``clone``, ``boot``, or ``boot, because`` and why a clone failed), the
``test`` (pytest's node id), ``tested`` (the exact kernel, ``debian:6.1.0-56-cloud-amd64``), ``case`` (the id
without its kernel, the same for all), the ``guest`` (its number within the test) and ``step`` (from 1
within the guest), and ``operation`` with its ``actor``.

A request for a mapping has ``region`` (``start``, ``pages``), its ``memory`` (``ram`` or
``device``), ``mtrr`` (the type that the layout gives all of it, else null), the ``handle`` and the
``address`` that it got, ``beside`` (what the test had mapped of it already), ``requested``, ``verdict``,
``kernel_answer``, ``granted`` and ``effective`` (null when nothing is mapped, a list when pages
differ; ``effective`` of more than 64 in words, ``"UC 0-99, WB 100-199"``). Everything else has
``arguments`` and ``result``: an errno of what was done, or what was seen of what the test looked at
(``memtype_list`` of a region, ``lookup``, ``page_table``, ``registers``). A mapping that was moved has
``handle`` and ``address`` too. ``log`` holds the kernel's messages.

Schema 1 had neither ``tested`` and ``case`` nor ``mtrr``, ``handle`` and ``address``, and none of the
things looked at.
"""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from pytest_memtype.errors import HostError, UsageError, harmless
from pytest_memtype.host.files import opened

SCHEMA = 2

NONSENSE = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError)
"""Exceptions raised by records that hold something else than they should."""

# Bytes; the suite's records of one kernel take 2 MiB.
_LARGEST = 1 << 28

Record: TypeAlias = dict[str, Any]

_IN_EACH = {
    "kernel": str,
    "kernel_version": str,
    "hardware": dict,
    "test": str,
    "tested": str,
    "case": str,
    "guest": int,
    "step": int,
    "operation": str,
    "actor": str,
}
_OF_A_MAPPING = {"requested": str, "region": dict, "verdict": dict | None}
_OF_ANYTHING_ELSE = {"arguments": dict}
# Where a mapping was asked for at all.
_OF_AN_ANSWER = {
    "kernel_answer": dict,
    "granted": str | list | None,
    "effective": str | list | None,
}


def in_ids(name: str) -> str:
    """A name as it stands in pytest's ids, which are ASCII: ``tree:/home/j\\xf6rg/linux``."""
    return name.encode("unicode_escape").decode("ascii")


def split_id(test: str) -> tuple[str, str | None]:
    """A node id in front of the ids of its parameters, and these without brackets; None where it has none."""
    # Names of folders may have brackets, and parameters colons.
    file, colons, name = test.partition(".py::") if ".py::" in test else ("", "", test)
    name, bracket, parameters = name.partition("[")
    return f"{file}{colons}{name}", parameters.removesuffix("]") if bracket else None


def case_of(test: str, kernel: str) -> str:
    """A test's node id without the id of its kernel, which stands among those of its parameters."""
    name, inner = split_id(test)
    if inner is None:
        return name
    kernel = in_ids(kernel) if in_ids(kernel) in inner else kernel
    if inner == kernel:
        return name
    for shape in (f"{kernel}-", f"-{kernel}"):
        inner = inner.replace(shape, "", 1)
    return f"{name}[{inner}]"


def where_of(record: Record) -> str:
    """The kernel of a record, with the distribution if one runs: ``6.1.0-56-amd64 in debian:bookworm``."""
    # Records of earlier versions name no system: they knew only the minimal one.
    kernel, system = str(record["kernel"]), record.get("system", "minimal")
    return kernel if system == "minimal" else f"{kernel} in {system}"


def tested(record: Record) -> str:
    """The exact kernel of a record."""
    return str(record["tested"])


def host_of(record: Record) -> str:
    """The QEMU and accelerator of a record's guest: ``QEMU 7.2.22, tcg``; earlier versions noted no QEMU."""
    accelerator = str(record.get("accelerator", "unknown"))
    return f"QEMU {record['qemu']}, {accelerator}" if "qemu" in record else accelerator


def apart(records: Iterable[Record], name: Callable[[Record], str]) -> dict[str, list[Record]]:
    """Records by a name; where hosts differed in QEMU or accelerator, by name and host: they aren't mixed.

    :param records: The records, in the order of the run.
    :param name: The name of a record, such as its kernel's.
    """
    split: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        split.setdefault(name(record), {}).setdefault(host_of(record), []).append(record)
    names = names_apart((each, host) for each, hosts in split.items() for host in hosts)
    return {names[each, host]: found for each, hosts in split.items() for host, found in hosts.items()}


def names_apart(found: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A heading for each pair of a kernel's name and a host: the name, with the host if there are several.

    :param found: The pairs, each once or more.
    """
    pairs = list(dict.fromkeys(found))
    hosts = Counter(name for name, _ in pairs)
    return {(name, host): name if hosts[name] == 1 else f"{name} ({host})" for name, host in pairs}


def _of_schema_1(record: Record) -> Record:
    tested = f"debian:{record['kernel']}"
    return {**record, "tested": tested, "case": case_of(str(record["test"]), tested)}


def append(path: Path, records: Iterable[Record]) -> None:
    """Add records to a file, as :func:`append_lines` does; without any nothing is made.

    :param path: The file.
    :param records: The records, in their order.
    :raises HostError: they can't be written.
    """
    lines = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
    if lines:
        append_lines(path, lines.encode("ascii"))


def append_lines(path: Path, lines: bytes) -> None:
    """Add whole lines to a file of a run: all of them, or none.

    Nothing else may add to the file meanwhile.

    :param path: The file, which is made if it isn't there.
    :param lines: The lines.
    :raises HostError: they can't be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            _append_all(descriptor, lines)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HostError(
            f"{path}: the record can't be written ({error.strerror}); make room, or name another folder with "
            "--memtype-dir"
        ) from None


def read(path: Path) -> list[Record]:
    """The records of a file.

    :param path: The file.
    :raises UsageError: it isn't a record file, or of a schema this version doesn't know.
    """
    return list(each_of(path, most=_LARGEST))


def each_of(path: Path, *, most: int) -> Iterator[Record]:
    """The records of a file, one after the other: as objects all take several times the file's size.

    :param path: The file.
    :param most: The most bytes that it may have.
    :raises UsageError: it isn't a record file, or of a schema this version doesn't know.
    """
    try:
        with opened(path, most=most) as file, io.TextIOWrapper(file, encoding="ascii") as lines:
            for number, line in enumerate(lines, start=1):
                record = plain(json.loads(line))
                schema = record.get("schema") if isinstance(record, dict) else None
                if schema not in (1, SCHEMA):
                    raise UsageError(f"{path}:{number}: not a record of schema 1 to {SCHEMA}")
                if schema == 1 and {"kernel", "test"} <= record.keys():
                    record = _of_schema_1(record)
                wrong = lacking(record)
                if wrong:
                    raise UsageError(f"{path}:{number}: not a record: it lacks {', '.join(wrong)}")
                yield record
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: not a record file: every line of one is JSON") from None


def plain(value: Any, text: Callable[[str], str] = harmless) -> Any:
    """JSON whose texts can go to any terminal, even those of a hostile file.

    :param value: The JSON, decoded.
    :param text: What becomes of a text in it.
    """
    match value:
        case str():
            return text(value)
        case list():
            return [plain(each, text) for each in value]
        case dict():
            return {harmless(key): plain(each, text) for key, each in value.items()}
    return value


def _are_types(value: Any) -> bool:
    """Whether a value can stand for the types of a mapping's pages."""
    return not isinstance(value, list) or all(isinstance(each, str | None) for each in value)


def lacking(record: Record) -> list[str]:
    """The keys that a record has to have, and that it lacks or has with a value of another type."""
    needed = _IN_EACH | (_OF_A_MAPPING if "requested" in record else _OF_ANYTHING_ELSE)
    if "kernel_answer" in record:
        needed |= _OF_AN_ANSWER
    wrong = [key for key, kind in needed.items() if not isinstance(record.get(key, ...), kind)]
    wrong += [key for key in ("granted", "effective") if not _are_types(record.get(key))]
    return wrong


def _append_all(descriptor: int, data: bytes) -> None:
    size = os.fstat(descriptor).st_size
    left = memoryview(data)
    try:
        # As a rule one write: a run that is killed leaves whole lines. A full disk takes a part first.
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        # What is added next would join half a line.
        os.ftruncate(descriptor, size)
        raise
