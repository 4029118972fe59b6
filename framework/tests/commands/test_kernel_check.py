"""``memtype kernels check``: what a kernel of one's own lacks, and what is skipped for it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main

FRAGMENT = Path(__file__).parents[3] / "kernels" / "config" / "memtype.config"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with all that the fragment has, but for a few options."""
    text = FRAGMENT.read_text().replace("CONFIG_64BIT=y", "CONFIG_64BIT=y\nCONFIG_X86_64=y")
    for name in ("EFI", "ACPI", "DEVMEM"):
        text = text.replace(f"CONFIG_{name}=y\n", f"# CONFIG_{name} is not set\n")
    path = tmp_path_factory.mktemp("kernel") / "config-6.12"
    path.write_text(text)
    return path


def test_tests_that_will_be_skipped(config: Path) -> None:
    result = CliRunner().invoke(main, ["kernels", "check", "--json", str(config)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert (found["kernel"], found["unfit"]) == (str(config), [])
    assert list(found["lost"]) == ["DEVMEM", "ACPI", "EFI"]
    skipped = {each["test"]: each["options"] for each in found["skipped"]}
    assert skipped["testcases/test_hardware.py::test_uefi"] == ["ACPI", "EFI"]
    assert skipped["testcases/test_mtrr_layouts.py::test_requests[inconsistent-cpus]"] == ["ACPI"]
    assert any("devmem" in test and options == ["DEVMEM"] for test, options in skipped.items())
    assert len(skipped) < found["tests"] / 2
    # It needs the memory types of pages alone.
    assert "testcases/test_lookup.py::test_defaults" not in skipped


def test_a_kernel_that_can_not_be_a_guest(config: Path, tmp_path: Path) -> None:
    text = config.read_text().replace("CONFIG_STACKTRACE=y", "")
    (tmp_path / ".config").write_text(
        text.replace("# CONFIG_MODULE_SIG_FORCE is not set", "CONFIG_MODULE_SIG_FORCE=y")
    )
    result = CliRunner().invoke(main, ["kernels", "check", str(tmp_path)])
    assert result.exit_code == 3
    first, second, third, *_ = result.output.splitlines()
    assert first == f"{tmp_path}: it can not be a guest"
    assert second == "  CONFIG_STACKTRACE=y is missing: the module asks who maps, and doesn't build without"
    assert third == "  CONFIG_MODULE_SIG_FORCE=y makes it refuse the guest's module"


def test_a_tree_that_is_only_configured(config: Path, tmp_path: Path) -> None:
    (tmp_path / ".config").write_text(config.read_text())
    result = CliRunner().invoke(main, ["kernels", "check", str(tmp_path)])
    assert result.exit_code == 3
    assert "build the kernel first (make bzImage)" in result.output
    assert "CONFIG_EFI=y is off, which 2 tests need; lost: guests with UEFI firmware" in result.output


def test_a_compressed_configuration(config: Path, tmp_path: Path) -> None:
    """As the kernel's own in /proc/config.gz."""
    packed = tmp_path / "config.gz"
    packed.write_bytes(gzip.compress(config.read_bytes()))
    results = [
        CliRunner().invoke(main, ["kernels", "check", "--json", str(each)]) for each in (config, packed)
    ]
    plain, unpacked = (json.loads(result.output) for result in results)
    assert unpacked == {**plain, "kernel": str(packed)}


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"# CONFIG_X86_64 is not set\n",
        b"MZ" + bytes(range(256)),
        gzip.compress(b"text"),
    ],
    ids=["nothing", "empty", "comment", "binary", "text"],
)
def test_what_is_no_kernel(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    result = CliRunner().invoke(main, ["kernels", "check", str(path)])
    message = "no configuration of a kernel; name a build tree, or its file .config"
    assert (result.exit_code, result.output) == (2, f"memtype: {path}: {message}\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x1f\x8bnonsense", "damaged: "),
        (gzip.compress(b"CONFIG_X86_64=y\n" * 99)[:-9], "cut short, or larger than"),
        # It would take all memory.
        (gzip.compress(bytes(32 << 20)), "cut short, or larger than"),
    ],
    ids=["damaged", "cut short", "large"],
)
def test_a_damaged_configuration(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "config.gz").write_bytes(content)
    result = CliRunner().invoke(main, ["kernels", "check", str(tmp_path / "config.gz")])
    assert result.exit_code == 2
    assert result.output.startswith(f"memtype: {tmp_path}/config.gz: {said}")
    assert result.output.count("\n") == 1
