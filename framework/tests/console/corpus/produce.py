"""Produce the corpus of kernel reports and healthy boots: boot real guests, and provoke each report in one.

    python framework/tests/console/corpus/produce.py [--kernel SPEC]... [NAME]...

Without a name everything is produced again, on every kernel: some 260 guests, 20 minutes under TCG.
A log that exists is replaced; what is expected of it (the .json file of the same name) is left alone.
Then run the tests with MEMTYPE_UPDATE_REPORTS=1, and review by hand each expectation that changed.

A log begins with the line that announces the scene. Only the log of a healthy boot is whole.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype import Guest, Hardware, MemType
from pytest_memtype.errors import GuestError, KernelError
from pytest_memtype.kernels import sandbox
from pytest_memtype.kernels.bundle import Bundle, bundle
from pytest_memtype.kernels.initramfs import Entry, archive
from pytest_memtype.machine import qemu_command
from pytest_memtype.machine.layout_file import load_layout
from pytest_memtype.machine.machine import Machine
from pytest_memtype.run.boot import GuestPlan, booted

HERE = Path(__file__).resolve().parent

KERNELS = ("debian:bullseye", "debian:bookworm", "debian:trixie", "debian:trixie-backports")

ONE_CPU = Hardware()
TWO_CPUS = Hardware(cpus=2)

Act = Callable[[Guest], object]


def shell(command: str) -> Act:
    """Run a shell command in the guest."""
    return lambda guest: guest.shell(command)


def module(name: str, *, before: str = ":", after: str = ":", seconds: int = 5) -> Act:
    """Load provoke.ko, to do what it calls ``name``, between two shell commands."""
    return shell(f"{before}; insmod /provoke.ko what={name} seconds={seconds}; {after}")


def ioremap_ram(guest: Guest) -> object:
    """Linux refuses RAM with a WARN_ONCE."""
    return guest.driver("provoke").ioremap(guest.ram(pages=1), MemType.UC)


@dataclass(frozen=True)
class Scene:
    """One guest, and what is done in it.

    :param name: Of the log, behind the kernel's series.
    :param act: None for a kernel that never reaches the agent.
    :param initramfs: False boots without.
    :param since: First kernel series that can show it.
    """

    name: str
    act: Act | None
    hardware: Hardware = ONE_CPU
    layout: str = "firmware"
    initramfs: bool = True
    since: tuple[int, int] = (0, 0)


def modules(*names: str) -> tuple[Scene, ...]:
    return tuple(Scene(name, module(name)) for name in names)


GO_ON = "echo 0 > /proc/sys/kernel/panic_on_oops"
# Twice that many seconds without scheduling make a soft lockup.
LOCKUP = "echo 1 > /proc/sys/kernel/watchdog_thresh"
STALL = (
    "echo 0 > /proc/sys/kernel/soft_watchdog; echo 3 > /sys/module/rcupdate/parameters/rcu_cpu_stall_timeout"
)
HUNG = "echo 2 > /proc/sys/kernel/hung_task_timeout_secs"
PREEMPTIBLE = Hardware(cpus=2, cmdline="preempt=full")
SLUB = Hardware(cmdline="slub_debug=FZPU")

INTERLEAVED = (
    "(n=0; while [ $n -lt 200 ]; do echo BUG: words of user space $n; n=$((n + 1)); done) > /dev/console & "
    "printf 'half a line of user space' > /dev/console; insmod /provoke.ko what=warn; wait"
)
WORDS = "; ".join(
    f"echo '{line}' > {where}"
    for where in ("/dev/console", "/dev/kmsg")
    for line in (
        "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "WARNING: CPU: 0 PID: 1 at init/main.c:1 start_kernel+0x1/0x2",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]",
        "Kernel panic - not syncing: words",
    )
)

REPORTS = (
    *modules("bug", "warn", "warn-on", "warn-once", "two-warnings"),
    *modules("null-read", "null-write", "null-exec", "null-in-interrupt", "null-in-thread"),
    *modules("page-fault-read", "page-fault-write", "page-fault-exec"),
    *modules("divide", "invalid-opcode", "breakpoint", "general-protection"),
    *modules("stack-overflow", "stack-protector", "list-del", "list-add", "panic"),
    *modules("page-allocation"),
    *modules(
        "usercopy-exposure", "usercopy-overwrite", "fortify", "refcount-underflow", "refcount-increment"
    ),
    *modules("bad-page", "msr"),
    # 5.10 without CONFIG_PREEMPT doesn't count what makes a context atomic.
    Scene("scheduling-while-atomic", module("scheduling-while-atomic"), since=(6, 1)),
    Scene("workqueue-leak", module("workqueue-leak"), since=(6, 1)),
    Scene("ioremap-ram", ioremap_ram),
    Scene("warn-on-each-cpu", module("warn-on-each-cpu"), TWO_CPUS),
    Scene("warn-interleaved", shell(INTERLEAVED)),
    Scene("warn-panic", module("warn", before="echo 1 > /proc/sys/kernel/panic_on_warn")),
    Scene("null-write-no-panic", module("null-write", before=GO_ON)),
    Scene("bug-no-panic", module("bug", before=GO_ON)),
    Scene("list-del-no-panic", module("list-del", before=GO_ON)),
    Scene("three-oopses", module("three-oopses", before=GO_ON)),
    Scene("sysrq-crash", shell("echo c > /proc/sysrq-trigger")),
    Scene("soft-lockup", module("lockup", before=LOCKUP)),
    Scene(
        "soft-lockup-panic", module("lockup", before=f"{LOCKUP}; echo 1 > /proc/sys/kernel/softlockup_panic")
    ),
    # On one CPU the kernel's thread that begins the grace period would never run.
    Scene("rcu-stall", module("lockup", before=STALL, seconds=12), TWO_CPUS),
    Scene("rcu-stall-reader", module("rcu-reader", before=STALL, seconds=12), PREEMPTIBLE),
    Scene(
        "rcu-stall-panic",
        module("lockup", before=f"{STALL}; echo 1 > /proc/sys/kernel/panic_on_rcu_stall", seconds=12),
        TWO_CPUS,
    ),
    Scene("hung-task", module("hung-task", before=HUNG, after="sleep 5")),
    Scene(
        "hung-task-panic",
        module("hung-task", before=f"{HUNG}; echo 1 > /proc/sys/kernel/hung_task_panic", after="sleep 6"),
    ),
    Scene("slab-overflow", module("slab-overflow"), SLUB),
    Scene("slab-use-after-free", module("slab-use-after-free"), SLUB),
    Scene("slab-double-free", module("slab-double-free"), SLUB),
    Scene("kfence", module("kfence"), Hardware(cmdline="kfence.sample_interval=1"), since=(6, 12)),
    Scene("ubsan", module("ubsan"), since=(7, 0)),
    Scene("init-killed", None, Hardware(cmdline="rdinit=/bin/test")),
    Scene("no-root", None, initramfs=False),
)

BOOTS = (
    Scene("firmware", shell(":")),
    Scene("two-cpus", shell(":"), TWO_CPUS),
    Scene("uc-default", shell(":"), TWO_CPUS, layout="uc-default"),
    Scene("wc-framebuffer", shell(":"), layout="wc-framebuffer"),
    Scene("nopat", shell(":"), Hardware(cmdline="nopat")),
    Scene("no-mtrr", shell(":"), Hardware(cpu="qemu64,-mtrr")),
    Scene("debug", shell(":"), Hardware(cmdline="debug ignore_loglevel apic=debug")),
    Scene("mitigations-off", shell(":"), Hardware(cmdline="mitigations=off nokaslr")),
    Scene("watchdog", shell(":"), Hardware(cpus=2, cmdline="nmi_watchdog=1 softlockup_panic=1")),
    Scene("cpu-max", shell(":"), Hardware(cpu="max", memory="1G")),
    Scene("slub-debug", shell(":"), SLUB),
)

# No reports, though they have words or stack traces of one.
QUIET = (
    Scene("words", module("words")),
    Scene("words-of-user-space", shell(WORDS)),
    Scene("dump-stack", module("dump-stack")),
    Scene("sysrq", shell("for key in l w t m; do echo $key > /proc/sysrq-trigger; done"), TWO_CPUS),
    Scene("out-of-memory", shell("tail /dev/zero")),
)


def build(kernel: Bundle) -> bytes:
    """provoke.ko for a kernel, without debug information."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name in ("provoke.c", "Kbuild"):
            shutil.copyfile(HERE / "provoke" / name, work / name)
        make = f"make -s -C /usr/src/linux-headers-{kernel.release} M=/src modules"
        done = sandbox.run(
            kernel.kit,
            source=work,
            script=f"{make} && strip --strip-debug provoke.ko",
            limit=300,
        )
        if done.status != 0:
            raise KernelError(f"{kernel.release}: provoke.ko doesn't build", details=(done.output,))
        return (work / "provoke.ko").read_bytes()


def play(scene: Scene, *, image: Path, initramfs: Path) -> bytes:
    """All that the console of the scene's guest showed, its first lines (the firmware's) included."""
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        if scene.act is None:
            guest = qemu_command.QemuConfig(
                hardware=scene.hardware, kernel=image, initrd=initramfs if scene.initramfs else None
            )
            with Machine.start(guest, logs=logs) as machine, suppress(GuestError):
                machine.resume()
                # Never printed: the wait ends with the guest.
                machine.console.expect_exact("provoke: the end")
        else:
            layout = load_layout(scene.layout)
            running = booted(GuestPlan(image, initramfs, layout, scene.hardware), logs=logs)
            with running.machine, suppress(GuestError):
                running.shell(f"echo provoke: {scene.name} > /dev/kmsg")
                scene.act(running)
                # A report that comes late.
                running.shell("sleep 1")
        return (logs / "console.log").read_bytes()


def cut(scene: Scene, log: bytes) -> bytes:
    """The log from the line on that announces the provocation; the end of a boot that went wrong."""
    lines = log.splitlines(keepends=True)
    if scene.act is None:
        return b"".join(lines[-80:])
    announcement = f"provoke: {scene.name}".encode()
    first = next(number for number, line in enumerate(lines) if announcement in line)
    return b"".join(lines[first:])


def produce(spec: str, names: list[str]) -> None:
    """Produce the scenes of these names, or all, on one kernel."""
    kernel = bundle(spec, progress=print)
    major, minor = (int(number) for number in kernel.release.split(".")[:2])
    with tempfile.TemporaryDirectory() as work:
        initramfs = Path(work) / "initramfs.cpio"
        # The kernel unpacks archives that follow each other.
        provoke = archive([Entry("provoke.ko", 0o100644, build(kernel))])
        initramfs.write_bytes(kernel.initramfs.read_bytes() + provoke)
        for scene in (*REPORTS, *BOOTS, *QUIET):
            if (names and scene.name not in names) or (major, minor) < scene.since:
                continue
            log = play(scene, image=kernel.image, initramfs=initramfs)
            folder = "reports" if scene in REPORTS else "healthy"
            target = HERE / folder / f"{major}.{minor}-{scene.name}.log"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(log if scene in BOOTS else cut(scene, log))
            print(f"{target.relative_to(HERE)}: {target.stat().st_size} bytes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kernel", action="append", metavar="SPEC", help="instead of all kernels")
    parser.add_argument("names", nargs="*", metavar="NAME", help="instead of all scenes")
    arguments = parser.parse_args()
    for spec in arguments.kernel or KERNELS:
        produce(spec, arguments.names)


if __name__ == "__main__":
    main()
