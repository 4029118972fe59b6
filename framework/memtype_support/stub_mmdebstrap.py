"""A mmdebstrap that fetches nothing and writes down that it was called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

#: As apt 2.6 prints it with the network unplugged.
UNREACHABLE = "echo \"  Temporary failure resolving 'mirror.invalid'\"; exit 1"
#: As a mirror behind which packets vanish: nothing comes, for ever.
SILENT = "exec sleep 3600"
_RECEIVED = """
for target; do [ "$target" = "${target#/}" ] || lists=$target/var/lib/apt/lists/partial; done
mkdir -p "$lists"; echo Origin: Debian > "$lists/InRelease"
"""
#: As apt prints it for a suite that the mirror hasn't, behind what it has received.
NO_SUITE = f"{_RECEIVED}echo \"E: The repository 'x Release' does not have a Release file.\"; exit 1"
#: As apt prints it for a version that the mirror has no more.
NO_VERSION = f"{_RECEIVED}echo \"E: Version '6.1.192-1' for 'linux-headers-x' was not found\"; exit 1"


class StubMmdebstrap:
    """The stub, at the front of the PATH.

    :param folder: A new folder for it.
    :param script: Shell lines that it runs.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, script: str = UNREACHABLE) -> None:
        folder.mkdir()
        self._calls = folder / "calls"
        program = folder / "mmdebstrap"
        program.write_text(f'#!/bin/sh\necho "$$" >> "{self._calls}"\n{script}\n')
        program.chmod(0o755)
        # Without one a host that has no network wouldn't try. The stub doesn't look at it.
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    @property
    def calls(self) -> list[int]:
        """The processes that it was started as."""
        return [int(line) for line in self._calls.read_text().split()] if self._calls.exists() else []
