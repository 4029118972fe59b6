"""These build for real, with the kit of the default kernel out of the user's own cache."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_memtype.errors import HostError, KernelError
from pytest_memtype.kernels import Bundle, bundle

DEFAULT = "debian:bookworm"

MODULE = """\
#include <linux/module.h>
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("does nothing");
"""
MAKEFILE = """\
agent: main.c
	$(CC) -static -o $@ $<
"""
LIST = """\
file /init agent 0755 0 0
file /memtype.ko memtype.ko 0644 0 0
file /busybox busybox 0755 0 0
"""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Guest sources that nobody else builds, so that nothing of theirs is in the cache yet."""
    files = {
        "module/Kbuild": "obj-m := memtype.o\nmemtype-y := main.o\n",
        "module/main.c": f"/* {tmp_path} {os.getpid()} */\n{MODULE}",
        "agent/Makefile": MAKEFILE,
        "agent/main.c": "int main(void) { return 0; }\n",
        "launcher/Makefile": "launcher.so: launcher.c\n\t$(CC) -shared -nostdlib -o $@ $<\n",
        "launcher/launcher.c": "int nothing;\n",
        "initramfs/initramfs.list": LIST,
    }
    for name, text in files.items():
        path = tmp_path / "guests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "guests"


@pytest.fixture
def default() -> Bundle:
    """Downloads the kit of the default kernel where it isn't there yet."""
    return bundle(DEFAULT)


def built(sources: Path) -> tuple[Bundle, list[str]]:
    stages: list[str] = []
    result = bundle(DEFAULT, sources=sources, progress=stages.append)
    return result, [stage.split()[0] for stage in stages]


@pytest.mark.timeout(1200)
def test_the_default_kernel(default: Bundle) -> None:
    assert default.spec == DEFAULT
    assert default.release.endswith("-cloud-amd64")
    # Documentation/arch/x86/boot.rst: "HdrS" at 0x202 of a bzImage.
    assert default.image.read_bytes()[0x202:0x206] == b"HdrS"
    assert default.module is not None
    assert default.module.read_bytes()[:4] == b"\x7fELF"
    # The version magic of a module starts with the release it is for.
    assert f"vermagic={default.release} ".encode() in default.module.read_bytes()
    assert default.config is not None
    assert default.initramfs.read_bytes()[:6] == b"070701"
    # Both are what the initramfs has, for machines that boot from something else.
    assert default.stripped_module is not None
    assert default.stripped_module.read_bytes() in default.initramfs.read_bytes()
    assert default.agent.read_bytes() in default.initramfs.read_bytes()
    assert os.access(default.agent, os.X_OK)
    assert "CONFIG_X86_PAT=y" in default.config.read_text().splitlines()
    assert {path.parent for path in (default.image, default.module, default.initramfs, default.config)} == {
        default.directory
    }


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("default")
def test_new_sources_are_built_once_without_a_download(sources: Path) -> None:
    first, stages = built(sources)
    try:
        assert "building" in stages
        assert "downloading" not in stages
        again, stages = built(sources)
        assert again == first
        assert stages == []
        (sources / "agent" / "main.c").write_text("int main(void) { return 1; }\n")
        changed, _ = built(sources)
        shutil.rmtree(changed.directory)
        assert changed.key != first.key
    finally:
        shutil.rmtree(first.directory)


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("default")
def test_a_damaged_bundle_is_built_again_and_that_is_said(sources: Path) -> None:
    first, _ = built(sources)
    try:
        good = first.image.read_bytes()
        with first.image.open("r+b") as file:
            file.seek(1 << 20)
            file.write(bytes(each ^ 0xFF for each in good[1 << 20 : (1 << 20) + 2000]))
        told: list[str] = []
        again = bundle(DEFAULT, sources=sources, progress=told.append)
        assert again == first
        assert told[0] == f"{first.directory} is damaged, and made again: image has changed since it was made"
        assert any(stage.startswith("building the guest for ") for stage in told)
        assert again.image.read_bytes() == good
        first.launcher.chmod(0o666)
        with pytest.raises(HostError, match=r"launcher\.so: everybody can write to it"):
            bundle(DEFAULT, sources=sources)
    finally:
        shutil.rmtree(first.directory)


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("default")
def test_a_warning_is_an_error_and_leaves_nothing_to_find(sources: Path) -> None:
    with (sources / "module" / "main.c").open("a") as file:
        file.write("int unused(void);\nint unused(void) { int nothing; return 0; }\n")
    for _ in range(2):
        with pytest.raises(KernelError, match="doesn't build") as caught:
            built(sources)
        assert any("unused variable" in line for line in caught.value.details)


BUILDS = """
import pathlib, sys
from pytest_memtype.kernels import bundle
stages = []
result = bundle(sys.argv[1], sources=pathlib.Path(sys.argv[2]), progress=stages.append)
print(result.directory)
print(sum(stage.startswith("building") for stage in stages))
"""


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("default")
def test_two_runs_at_once_build_once(sources: Path) -> None:
    command = [sys.executable, "-c", BUILDS, DEFAULT, str(sources)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    answers = [run.communicate()[0].splitlines() for run in runs]
    try:
        assert [run.returncode for run in runs] == [0, 0]
        assert answers[0][0] == answers[1][0]
        assert sorted(answer[1] for answer in answers) == ["0", "1"]
    finally:
        shutil.rmtree(answers[0][0])
