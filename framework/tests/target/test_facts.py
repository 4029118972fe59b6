"""What a target says of itself, as a Debian 12 in QEMU's q35 says it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from memtype_support.target_facts import SAID

from pytest_memtype.errors import SshError
from pytest_memtype.target.facts import _SCRIPT, Bar, Facts, Resource, parse_facts


def facts(said: str = SAID) -> Facts:
    return parse_facts(said, where="ssh://root@lab:22")


def test_what_is_read() -> None:
    found = facts()
    assert (found.release, found.cpus, found.memory, found.physical_bits) == (
        "6.1.0-56-amd64",
        2,
        988540 << 10,
        40,
    )
    assert (found.headers, found.busy) == (False, False)
    assert Resource(1, 0x9800000, 0xA601D31, "Kernel code") in found.iomem
    # The I/O ports of the last line are no memory.
    assert found.bars == (
        Bar("0000:00:02.0", 0, 0xFD000000, 0xFDFFFFFF, prefetchable=True, display=True, driver="bochs-drm"),
        Bar("0000:00:02.0", 2, 0xFEBC1000, 0xFEBC1FFF, prefetchable=False, display=True, driver="bochs-drm"),
    )


def test_headers_and_a_module_that_is_loaded() -> None:
    found = facts(SAID + "headers yes\nmemtype 147456 1 - Live 0x0 (OE)\nbusy yes\n")
    assert (found.headers, found.busy) == (True, True)


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("tools", [("make", "gcc"), ("make",), ("gcc",), ()])
def test_headers_are_of_use_with_make_and_a_compiler(
    tmp_path: Path, shell: str, tools: tuple[str, ...]
) -> None:
    build, programs = tmp_path / "modules" / os.uname().release / "build", tmp_path / "programs"
    for folder in (build, programs):
        folder.mkdir(parents=True)
    (build / "Makefile").touch()
    for tool in tools:
        (programs / tool).symlink_to("/bin/true")
    for tool in ("cat", "getconf", "grep", "head", "id", "readlink", "sed", "uname"):
        (programs / tool).symlink_to(str(shutil.which(tool)))
    command = [str(shutil.which(shell)), "-c", _SCRIPT.replace("/lib/modules", str(tmp_path / "modules"))]
    done = subprocess.run(command, env={"PATH": str(programs)}, capture_output=True, text=True, check=True)
    assert ("headers yes" in done.stdout) == (len(tools) == 2)


def test_a_blank_line_says_nothing() -> None:
    assert facts(SAID.replace("cpus 2", "\ncpus 2\n")) == facts()


def test_a_machine_without_pci() -> None:
    """The very script, with a folder that has nothing for its pattern."""
    script = _SCRIPT.replace("/sys/bus/pci/devices", "/nowhere")
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert "uid " in said
    assert "pci " not in said


@pytest.mark.parametrize(
    ("there", "instead", "why"),
    [
        ("uid 0", "uid 1000", "log in as root"),
        ("machine x86_64", "machine aarch64", "it is aarch64"),
        ("cpus 2", "cpus two", "makes no sense"),
        ("bits 40\n", "", "makes no sense"),
        (" 0x038000 bochs-drm", "", "makes no sense"),
    ],
)
def test_a_target_that_will_not_do(there: str, instead: str, why: str) -> None:
    with pytest.raises(SshError, match=why) as raised:
        facts(SAID.replace(there, instead))
    assert "\n" not in str(raised.value)
