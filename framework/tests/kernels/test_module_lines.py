"""Lines of a user's module, whose bytes are those of whoever made it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from pytest_memtype.host.store import build_dir
from pytest_memtype.kernels import sandbox
from pytest_memtype.kernels.module_lines import line_of
from pytest_memtype.kernels.user_module import UserModule

SOURCE = "int toy_probe(int n)\n{\n\treturn n + 1;\n}\n"


def toy(folder: Path, *, section: str = ".text", kit: Path | None = None) -> UserModule:
    """A module of one function, which stands in a section of some name."""
    (folder / "toy").mkdir()
    (folder / "toy" / "toy.c").write_text(SOURCE)
    file = folder / "toy" / "toy.ko"
    subprocess.run(["gcc", "-g", "-c", "toy/toy.c", "-o", str(file)], cwd=folder, check=True)
    subprocess.run(["objcopy", f"--rename-section=.text={section}", str(file)], check=True)
    return UserModule("toy", "toy", file, file, kit, "toy")


def test_a_name_of_a_section_is_no_shell_command(tmp_path: Path) -> None:
    mark = tmp_path / "pwned"
    module = toy(tmp_path, section=f".text;touch${{IFS}}{mark};:")
    assert line_of(module, "toy_probe") == "toy/toy.c:2"
    assert not mark.exists()


def test_a_name_of_a_section_is_none_in_a_kit_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "cache"))
    mark = tmp_path / "pwned"
    kit = tmp_path / "kit"
    build_dir(tmp_path / "cache", kit.name)

    def in_a_shell(_kit: Path, *, source: Path, script: str, **_: int) -> sandbox.Finished:
        done = subprocess.run(["sh", "-c", script], cwd=source, capture_output=True, text=True, check=False)
        return sandbox.Finished(done.returncode, done.stdout)

    monkeypatch.setattr(sandbox, "run", in_a_shell)
    module = toy(tmp_path, section=f".text;touch${{IFS}}{mark};:", kit=kit)
    assert line_of(module, "toy_probe") == "toy/toy.c:2"
    assert not mark.exists()


def test_the_folder_for_temporary_files_may_have_a_space_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a b"))
    assert line_of(toy(tmp_path), "toy_probe") == "toy/toy.c:2"
