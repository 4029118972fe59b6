"""The record of a run: one JSON line for each operation, in the order of the run.

Schema 1. Every line has ``schema``, the run's ``kernel`` (release), ``kernel_version`` (of its
package), ``layout``, ``hardware``, ``accelerator`` and ``accelerator_reason``, ``boot`` (how the
guest came to be: ``clone``, ``boot``, or ``boot, because`` and why a clone failed), the
``test`` (pytest's node id), the ``guest`` (its number within the test) and ``step`` (from 1
within the guest), and ``operation`` with its ``actor`` and ``arguments``.

A request for a mapping also has ``region`` (``start``, ``pages``), its ``memory`` (``ram`` or
``device``), ``beside`` (what the test had mapped of it already), ``requested``, ``verdict``,
``kernel_answer``, ``granted`` and ``effective`` (null when nothing is mapped, a list when pages
differ). Everything else has ``result``. ``log`` holds the kernel's messages.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

from pytest_memtype.errors import UsageError

SCHEMA = 1

Record: TypeAlias = dict[str, Any]


def append(path: Path, records: Iterable[Record]) -> None:
    """Add records to a file, whole lines at a time."""
    lines = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
    if not lines:
        return
    # One write to a file opened for appending: a run that is killed leaves whole lines.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, lines.encode("ascii"))
    finally:
        os.close(descriptor)


def read(path: Path) -> list[Record]:
    """The records of a file.

    :raises UsageError: it isn't a record file, or of a schema this version doesn't know.
    """
    records = []
    try:
        with path.open(encoding="ascii") as lines:
            for number, line in enumerate(lines, start=1):
                record = json.loads(line)
                if not isinstance(record, dict) or record.get("schema") != SCHEMA:
                    raise UsageError(f"{path}:{number}: not a record of schema {SCHEMA}")
                records.append(record)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path}: not a record file: every line of one is JSON") from None
    return records
