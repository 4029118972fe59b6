"""The outer guest: a machine under TCG whose CPU has SVM, so that guests inside it run on KVM.

It is booted once and kept as a template: started, with KVM's module loaded, the project's dependencies and
QEMU read once, and one guest's template made inside, by KVM, in its memory. A run clones it, and hands it the
project on a read-only disk.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import gzip
import hashlib
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memtype_support.kvm.outer_image import PROJECT, OuterImage, keep_latest
from pytest_memtype.distribution.packing import pack, packing_kit
from pytest_memtype.errors import GuestError, GuestHung, KernelError, TemplateError
from pytest_memtype.host.cached_folders import OUTER_GUESTS
from pytest_memtype.host.memory import available_memory
from pytest_memtype.host.progress import Progress
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.host.store import build_dir, discard, exclusive, staged
from pytest_memtype.kernels import sandbox
from pytest_memtype.kernels.bundle import Bundle
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.qemu_command import QemuConfig, rerun_command
from pytest_memtype.machine.qemu_versions import this_qemu
from pytest_memtype.machine.template import Template, clone, load, save

# One CPU: what KVM does at each exit of its guest is emulated, and a second CPU would only wait for it.
# CMPXCHG16B is on, because numpy is built for CPUs that have it; Linux, which TCG's fault in it crashes (see
# machine/qemu_command.py), is told not to use it. Nobody attacks the outer guest.
HARDWARE: Final = Hardware(cpu="EPYC-Rome,cx16=on", memory="5G", cmdline="mitigations=off clearcpuid=cx16")

# By the host's clock a guest inside comes to nothing where the host is busy: an exit to QEMU takes 0.4 ms of
# an idle core, and its timer, which takes several, is due again before they are done. A nanosecond for each
# instruction: with four the tests take as long, but four times as many timers interrupt them (see Livelock).
_ICOUNT: Final = 0

# The guest's driver asks for the disk's size when the template boots, and never again.
_PAYLOAD_BYTES: Final = 512 << 20
_PARTS: Final = ("framework", "guests", "kernels", "testcases", "conftest.py", "pyproject.toml", "README.md")
_COMPILE: Final = """
export PYTHONPATH=/memtype/site:/src/project/framework MEMTYPE_CACHE=/src/cache HOME=/tmp
cd project
python3 -m compileall -q framework/pytest_memtype
python3 -m pytest -p pytest_memtype.plugin -p no:cacheprovider --collect-only -q testcases
"""
_PACK: Final = (
    "mksquashfs project cache payload.sqfs -quiet -no-progress -comp lz4 -all-root -keep-as-directory"
)
_COMPILE_SECONDS: Final = 600
#: Seconds until the outer guest has booted: 9 on an idle host.
_BOOT_SECONDS: Final = 300.0
#: In the outer guest, whose /tmp is memory of its own and nothing of this machine's: its cache, as the script
#: ``start`` names it too, and where pytest leaves its runs.
CACHE: Final = "/tmp/cache"
RUNS: Final = "/tmp/runs"
#: Seconds for what a test or a command does at most between two lines.
SILENCE: Final = 1800.0
#: Bytes of memory that it is started with: its RAM is mapped privately, and what is written inside stays.
#: QEMU itself and whatever else runs need some, too.
NEEDED_MEMORY: Final = HARDWARE.memory_bytes + (1 << 30)
#: Raise it when :func:`_prepare` does something else.
_FORMAT: Final = 1
#: How a guest inside is waited for: each of its exits to QEMU takes a millisecond.
PATIENCE: Final = 20

#: Seconds of silence after which the CPU is looked at, and how often.
_LOOK_SECONDS: Final = 60.0
_LOOKS: Final = 30
_REGISTERS: Final = re.compile(r"RIP=([0-9a-f]+) RFL=([0-9a-f]+) .*HLT=(\d)")
_INTERRUPTS_ON: Final = 1 << 9
_LOOP_BYTES: Final = 64

_READY: Final = b"memtype: ready\n"
_LINE: Final = (rb"memtype: status (\d+)\r?\n", rb"[^\n]*\n")


@dataclass(frozen=True)
class Done:
    """A command that ended inside: its exit status, all it printed, and the seconds it took."""

    status: int
    output: str
    seconds: float


class Livelock(GuestError):
    """A guest inside spins with interrupts off, and doesn't stop.

    It is TCG's fault: VMRUN leaves the vector of an interrupt that it injects in ``exception_index``. When
    the loop of the CPU is left before that is reset, the vector is delivered again, interrupts off or not
    (QEMU 7.2 to 11; docs/kvm.md). Where the kernel holds the lock of that interrupt, it waits for itself.
    """


class Outer:
    """A running outer guest."""

    def __init__(self, machine: Machine, *, echo: bool = False) -> None:
        """
        :param echo: Show what commands print.
        """
        self.machine = machine
        self._echo = echo

    def run(self, command: str, *, timeout: float, check: bool = True, quiet: bool = False) -> Done:
        """Run a line of shell.

        :param timeout: Seconds.
        :param quiet: Don't show what it prints.
        :raises GuestError: it took longer or printed nothing for :data:`SILENCE`, the outer guest ended, or,
            with ``check``, the command failed.
        """
        start = time.monotonic()
        port = self.machine.agent_port
        port.send(command.encode() + b"\n")
        lines: list[str] = []
        while True:
            found = self._expect_line(min(start + timeout, time.monotonic() + SILENCE))
            if found == 0:
                status = port.match
                assert isinstance(status, re.Match)
                done = Done(int(status[1]), "".join(lines), time.monotonic() - start)
                break
            text = port.after
            assert isinstance(text, bytes)
            lines.append(text.decode(errors="replace"))
            if self._echo and not quiet:
                print(lines[-1], end="", file=sys.stderr, flush=True)
        if check and done.status != 0:
            raise GuestError(
                f"the outer guest: {command!r} ended with status {done.status}",
                details=tuple(done.output.splitlines()[-20:]),
            )
        return done

    def _expect_line(self, deadline: float) -> int:
        """Which of :data:`_LINE` came; a livelock ends the wait."""
        while True:
            left = deadline - time.monotonic()
            try:
                return self.machine.agent_port.expect(list(_LINE), timeout=max(0.0, min(left, _LOOK_SECONDS)))
            except GuestHung:
                if left <= _LOOK_SECONDS:
                    raise
                if self._spins():
                    raise Livelock("a guest in the outer guest spins with interrupts off") from None

    def _spins(self) -> bool:
        """Whether the CPU is in one short loop all the time, with interrupts off and not halted."""
        places = set()
        for _ in range(_LOOKS):
            shown = self.machine.qmp.execute("human-monitor-command", {"command-line": "info registers"})
            found = _REGISTERS.search(shown)
            if found is None or int(found[2], 16) & _INTERRUPTS_ON or found[3] != "0":
                return False
            places.add(int(found[1], 16))
        return max(places) - min(places) < _LOOP_BYTES

    def read(self, pattern: str) -> bytes:
        """The one file inside that a pattern of the shell matches."""
        done = self.run(f"cat {pattern} | gzip -9 | base64", timeout=300, quiet=True)
        return gzip.decompress(base64.b64decode(done.output))

    def hand_over(self) -> None:
        """Make the payload's disk readable as ``/src``, and the clock right."""
        self.run(
            f"date -s @{time.time():.0f} > /dev/null && mount -t squashfs -o ro /dev/vdb /src", timeout=60
        )

    def qualify(self, *, timeout: float) -> str:
        """Let ``--accel auto`` decide there, as on a host that nothing is known of, and say why it takes KVM.

        :raises GuestError: it doesn't.
        """
        # TCG in there is emulated twice.
        line = f"cd /src/project && rm -f {CACHE}/accelerator.json {CACHE}/qualification.json && "
        line += f"MEMTYPE_PATIENCE={PATIENCE} python3 /src/project/framework/memtype_support/kvm/decide.py"
        done = self.run(line, timeout=timeout)
        accelerator, _, reason = done.output.splitlines()[-1].partition(": ")
        if accelerator != "kvm":
            raise GuestError(f"--accel auto doesn't take KVM in the outer guest: {reason}")
        return reason

    def test(self, arguments: list[str], *, timeout: float) -> Done:
        """Run pytest there, on KVM. Records go to :data:`RUNS`."""
        # Its own plugins alone, each of which takes seconds to load.
        command = [
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1",
            f"MEMTYPE_PATIENCE={PATIENCE}",
            "python3",
            "-m",
            "pytest",
        ]
        command += ["-p", "pytest_memtype.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
        command += ["-c", "/src/project/pyproject.toml", "--rootdir", "/src/project", "-v", "--durations=8"]
        command += ["-o", f"timeout={SILENCE:.0f}", "--memtype-dir", RUNS, "--accel", "kvm"]
        line = " ".join([*command[:2], *map(shlex.quote, [*command[2:], *arguments])])
        return self.run(f"cd /src/project && {line}", timeout=timeout, check=False)


def memory_problem(available: int | None = None) -> str | None:
    """Why the outer guest would have the host run out of memory, and what to do; None where it wouldn't.

    :param available: Bytes, where it isn't those of this host now.
    """
    has = available_memory() if available is None else available
    if has >= NEEDED_MEMORY:
        return None
    return (
        f"the outer guest takes {NEEDED_MEMORY / (1 << 30):.0f} GiB of memory, and {has / (1 << 30):.1f} GiB "
        "are available; end other programs"
    )


def make_payload(image: OuterImage, bundle: Bundle, folder: Path, *, progress: Progress) -> Path:
    """A disk with this checkout and a kernel's bundle, compiled by the image's Python.

    :param folder: An empty one.
    :raises KernelError: it can't be compiled or packed.
    """
    progress("packing the project for the outer guest")
    project, cache = folder / "project", folder / "cache"
    project.mkdir()
    for part in _PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, project / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copyfile(source, project / part)
    shutil.copytree(bundle.directory, cache / "bundles" / bundle.directory.name)
    shutil.copytree(cache_directory() / "index", cache / "index")
    done = sandbox.run(image.root, source=folder, script=_COMPILE, limit=_COMPILE_SECONDS)
    if done.status != 0:
        raise KernelError(
            "the outer guest's Python can't collect the suite; its last lines follow",
            details=tuple(done.output.splitlines()[-10:]),
        )
    pack(packing_kit(progress=progress), _PACK, work=folder, what="the outer guest's project")
    disk = folder / "payload.sqfs"
    with disk.open("r+b") as file:
        file.truncate(_PAYLOAD_BYTES)
    return disk


@contextlib.contextmanager
def outer_guest(
    image: OuterImage, bundle: Bundle, payload: Path, *, logs: Path, progress: Progress, echo: bool = False
) -> Iterator[Outer]:
    """A clone of the outer guest, with the payload at ``/src``.

    :param logs: Folder for its logs.
    :raises GuestError: it can't be booted, saved or restored.
    """
    template = _template(image, bundle, payload, progress=progress)
    with clone(template, logs=logs) as machine:
        outer = Outer(machine, echo=echo)
        outer.hand_over()
        yield outer


def _template(image: OuterImage, bundle: Bundle, payload: Path, *, progress: Progress) -> Template:
    guest = QemuConfig(
        HARDWARE, kernel=image.kernel, initrd=image.initramfs, drives=(image.disk, payload), icount=_ICOUNT
    )
    # Whatever payload it is made with, others can be handed to its clones.
    command = rerun_command(dataclasses.replace(guest, drives=(image.disk,)))
    # It has a template in it of a guest that is started so.
    inside = rerun_command(QemuConfig(accelerator="kvm"))
    parts = (image.key, bundle.key, this_qemu().banner, command, inside, str(_FORMAT))
    key = hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]
    folder = cache_directory() / OUTER_GUESTS / f"template-{key}"
    with contextlib.suppress(TemplateError):
        return load(guest, folder)
    place = build_dir(cache_directory(), folder.name)
    with exclusive(place, progress):
        # Another run may have made it while this one waited.
        with contextlib.suppress(TemplateError):
            return load(guest, folder)
        discard(folder, cache=place)
        progress("booting the outer guest, and a guest on KVM inside it")
        with staged(folder, cache=place) as directory:
            directory.mkdir()
            save(guest, boot_rom=None, directory=directory, prepare=_prepare)
        keep_latest("template-*", place=place)
    return load(guest, folder)


def _prepare(machine: Machine) -> None:
    machine.agent_port.expect_exact(_READY, timeout=_BOOT_SECONDS)
    outer = Outer(machine)
    outer.run("test -c /dev/kvm && qemu-system-x86_64 --version", timeout=120)
    outer.hand_over()
    outer.run(f"cp -a /src/cache {CACHE}", timeout=120)
    # Nothing is compared here: that takes a guest under TCG, which is emulated twice then.
    keep = "from pytest_memtype.machine.accelerator import Qualification, keep_qualification; "
    keep += f"keep_qualification(Qualification(0, None), cache=Path('{CACHE}'))"
    outer.run(f'python3 -c "from pathlib import Path; {keep}"', timeout=300)
    done = outer.test(
        ["testcases/test_multi_driver.py", "-k", "touching and UC_MINUS and before"], timeout=1800
    )
    if done.status != 0 or "1 passed" not in done.output:
        raise GuestError(
            "no guest can be tested on KVM in the outer guest", details=tuple(done.output.splitlines()[-20:])
        )
    # Another disk will be there; what is known of this one must go. What ends with pytest, such as a QEMU
    # that was killed, may stand in that folder a moment longer: "target is busy", seen once on a busy host.
    unmount = "until umount /src 2>/dev/null; do sleep 0.2; done"
    outer.run(f"{unmount}; blockdev --flushbufs /dev/vdb && rm -rf {RUNS}", timeout=60)
