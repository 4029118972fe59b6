"""QEMU's command line, as a pure function of the guest's configuration."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from pytest_memtype.machine.hardware import MEMORY_SLOTS, MIB, Hardware
from pytest_memtype.machine.qemu_versions import QEMU

#: The argument of ``-accel``.
Accelerator = Literal["tcg", "kvm"]

#: ``-device`` id of the device whose BAR 0, 16 MiB of prefetchable memory, is what tests map.
TEST_DEVICE: Final = "testdevice"

#: ``-device`` id of :attr:`Hardware.display`.
DISPLAY: Final = "display"

#: ``-object`` id of the guest's RAM.
RAM: Final = "ram"

#: Bytes of the largest TSEG (SMRAM at the end of low RAM), whose code in the host bridge's register means
#: "extended". QEMU's own default is 16 MiB up to 10.0, and 64 MiB in 11.1.
EXTENDED_TSEG: Final = 16 * MIB

#: What every guest's kernel is started with, before :attr:`Hardware.cmdline`.
#:
#: - ``panic=-1`` restarts at once after a panic, which ``-no-reboot`` turns into the end of QEMU. The better
#:   message, pvpanic's GUEST_PANICKED, needs a driver that Debian builds as a module (CONFIG_PVPANIC_PCI=m).
#: - ``oops=panic``: an oops ends the test that caused it, not some later one. A WARN stays a WARN.
#: - ``loglevel=7`` shows what tests judge by. ``quiet`` saves 0.06 of 1.8 s (6.1, TCG).
#: - ``tsc=reliable``: on a busy host TCG's timers run late enough for the clocksource watchdog to call the
#:   TSC unstable, in the middle of whatever the test prints.
#: - ``no_timer_check``: there they are also late enough for the kernel's test of its timer, which panics then
#:   ("IO-APIC + timer doesn't work!", 6.1). KVM's guests go without that test, too.
KERNEL_CMDLINE: Final = "console=ttyS0 panic=-1 oops=panic loglevel=7 tsc=reliable no_timer_check"

# OVMF leaves a picture in the test device's memory, and Linux goes on drawing there through a mapping of its
# own (efifb, 5.10 to 7.3).
_FIRMWARE_CMDLINE: Final = {"ovmf": "video=efifb:off"}

# Vendors of QEMU's CPU models (QEMU 7.2, query-cpu-model-expansion under TCG). "max" and "host" are another
# CPU under each accelerator anyway, and "base" is none; all that match nothing else are Intel's.
_VENDORS: Final = {
    "AuthenticAMD": re.compile(r"(?:qemu64|phenom|athlon|Opteron|EPYC)(?:[-_]|$)"),
    "HygonGenuine": re.compile(r"Dhyana(?:-|$)"),
    None: re.compile(r"(?:max|host|base)$"),
    "GenuineIntel": re.compile(r""),
}


#: ``-netdev`` id of the guest's network.
NETWORK: Final = "network"

_ID: Final = re.compile(r",id=([^,]+)")

_NETWORK: Final = (
    "-netdev",
    f"user,id={NETWORK},restrict=on,ipv6=off",
    # Without its ROM, which would let the firmware try to boot from the network.
    "-device",
    f"virtio-net-pci,netdev={NETWORK},disable-modern=on,romfile=",
)


@dataclass(frozen=True)
class QemuConfig:
    """The configuration of a guest: all but how this process talks to it.

    :param hardware: The hardware that the kernel finds.
    :param kernel: A bzImage. None stops at the firmware, which then finds nothing to boot.
    :param initrd: The initramfs of the kernel; None for none.
    :param flash: The contents of the firmware's flash chips, code first; none for QEMU's own SeaBIOS.
    :param boot_rom: An option ROM that the firmware runs before the kernel is loaded; None for none.
    :param ram_file: The file that RAM is kept in. None keeps it in anonymous memory.
    :param ram_share: Write to ``ram_file`` itself. False writes to a private copy, made page by page.
    :param state: The saved device state to start with; None starts at the reset vector.
    :param accelerator: ``tcg`` or ``kvm``, which runs the guest's instructions.
    :param devices: Further devices, each an argument of ``-device``.
    :param drives: Read-only disks with these contents, in order.
    :param network: Give the guest a network that ends at this host: what it sends goes nowhere, and this host
        may open ports into it.
    :param launcher: Library to start QEMU by, see :mod:`pytest_memtype.machine.launcher`; None starts it as
        usual.
    :param icount: Let the guest's time pass by its own instructions, of 2**icount nanoseconds each, and by
        this host's time while it waits; None for this host's time. Only TCG can do that. The timers of such a
        guest are never late, however busy the host is.
    """

    hardware: Hardware = field(default_factory=Hardware)
    kernel: Path | None = None
    initrd: Path | None = None
    flash: tuple[Path, ...] = ()
    boot_rom: Path | None = None
    ram_file: Path | None = None
    ram_share: bool = True
    state: Path | None = None
    accelerator: Accelerator = "tcg"
    devices: tuple[str, ...] = ()
    drives: tuple[Path, ...] = ()
    network: bool = False
    launcher: Path | None = None
    icount: int | None = None


@dataclass(frozen=True)
class Channels:
    """The channels between QEMU and this process.

    :param control_fd: QEMU's end of a socket pair, for QMP.
    :param console: Path of the FIFO pair of ttyS0, without ``.in`` and ``.out``.
    :param agent: Path of the FIFO pair of ttyS1, likewise.
    :param console_log: File that QEMU copies ttyS0 to.
    :param agent_log: File that QEMU copies ttyS1 to.
    :param fw_cfg_files: Files that the guest may read through fw_cfg while it boots, by name.
    """

    control_fd: int
    console: Path
    agent: Path
    console_log: Path
    agent_log: Path
    fw_cfg_files: tuple[tuple[str, Path], ...] = ()


def qemu_command(guest: QemuConfig, channels: Channels) -> list[str]:
    """The command that starts ``guest`` paused, talking through ``channels``."""
    # fmt: off
    return [
        QEMU,
        *_machine(guest),
        *_boot(guest),
        # A FIFO and not a socket, because QEMU writes serial output byte by byte: a unix socket is full after
        # 278 such writes (each pays for a whole buffer), and what the guest writes then is lost, log file
        # included. A FIFO packs them and takes all of a boot even when it isn't read (seen with QEMU 7.2).
        "-chardev", f"pipe,id=console,path={_value(channels.console)},"
                    f"logfile={_value(channels.console_log)},logappend=on",
        "-serial", "chardev:console",
        "-chardev", f"pipe,id=agent,path={_value(channels.agent)},"
                    f"logfile={_value(channels.agent_log)},logappend=on",
        "-serial", "chardev:agent",
        "-chardev", f"socket,id=control,fd={channels.control_fd}",
        # Not -mon, which is deprecated (QEMU 11.1).
        "-qmp", "chardev:control",
        *(argument for name, file in channels.fw_cfg_files for argument in (
            "-fw_cfg", f"name={name},file={_value(file)}")),
        # Paused, so that QMP is there before the first instruction runs.
        "-S",
    ]
    # fmt: on


def rerun_command(guest: QemuConfig) -> str:
    """A shell command line for the same guest, with the console on the terminal (Ctrl-A X leaves it).

    It offers a shell there, which the agent of our initramfs gives for the last word of its command line. A
    guest that was restored is booted instead: the state may be gone.
    """
    hardware = dataclasses.replace(guest.hardware, cmdline=f"{guest.hardware.cmdline} memtype=shell".strip())
    fresh = dataclasses.replace(guest, hardware=hardware, ram_file=None, ram_share=True, state=None)
    return shlex.join([QEMU, *_machine(fresh), *_boot(fresh), "-serial", "mon:stdio", "-serial", "null"])


def _machine(guest: QemuConfig) -> list[str]:
    hardware = guest.hardware
    smm = "" if hardware.smm is None else f",smm={'on' if hardware.smm else 'off'}"
    # fmt: off
    return [
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", f"q35,memory-backend={RAM}{smm}",
        "-global", f"mch.extended-tseg-mbytes={EXTENDED_TSEG // MIB}",
        "-accel", guest.accelerator,
        *(("-icount", f"shift={guest.icount},sleep=on") if guest.icount is not None else ()),
        "-cpu", _cpu(guest),
        "-smp", str(hardware.cpus),
        "-m", _memory(hardware),
        "-object", _ram(guest),
        # Read-only: what firmware stores would be the next guest's.
        *(argument for number, file in enumerate(guest.flash) for argument in (
            "-drive", f"if=pflash,unit={number},format=raw,readonly=on,file={_value(file)}")),
        *(argument for each in hardware.objects for argument in ("-object", each)),
        # An IOMMU knows only of devices that come behind it (QEMU 7.2).
        *_devices(device for device in named_devices(hardware) if _is_iommu(device)),
        # Before all others, because qxl-vga insists on being the first of QEMU's displays.
        *(("-device", f"{hardware.display},id={DISPLAY}") if hardware.display else ()),
        # No driver for it in the initramfs, so nothing but a test ever maps its BAR.
        "-device", f"bochs-display,id={TEST_DEVICE}",
        *(argument for number, file in enumerate(guest.drives) for argument in _drive(number, file)),
        *(_NETWORK if guest.network else ()),
        *_devices(guest.devices),
        *_devices(device for device in named_devices(hardware) if not _is_iommu(device)),
    ]
    # fmt: on


def named_devices(hardware: Hardware) -> dict[str, str]:
    """The arguments of ``-device`` for :attr:`Hardware.devices`, and the id of each."""
    found = {}
    for number, device in enumerate(hardware.devices):
        match = _ID.search(device)
        name = match[1] if match else f"device{number}"
        found[device if match else f"{device},id={name}"] = name
    return found


def _devices(devices: Iterable[str]) -> list[str]:
    return [argument for device in devices for argument in ("-device", device)]


def _is_iommu(device: str) -> bool:
    return "iommu" in device.partition(",")[0]


def _drive(number: int, file: Path) -> list[str]:
    """A read-only disk, which any number of guests may share."""
    # Legacy virtio has no prefetchable BAR, and so leaves the test device's where it is in other guests.
    # fmt: off
    return [
        "-blockdev", f"driver=raw,node-name=drive{number},read-only=on,"
                     f"file.driver=file,file.filename={_value(file)}",
        "-device", f"virtio-blk-pci,drive=drive{number},disable-modern=on",
    ]
    # fmt: on


def _cpu(guest: QemuConfig) -> str:
    """The argument of ``-cpu``. KVM shows TCG's CPU, as far as the host's CPU has its features."""
    model, comma, features = guest.hardware.cpu.partition(",")
    # TCG's CMPXCHG16B takes the flags from an instruction long past, and leaves an operand in EFLAGS: in VM,
    # TF, AC (QEMU 7.2, target/i386/tcg/mem_helper.c, helper_cmpxchg16b_unlocked(), with a CC_OP that the
    # translator hasn't stored; inline from 8.0 on). Linux' kmalloc() uses it where a CPU has it, and an
    # interrupt right behind it saves that: one of a thousand tests met a double fault or worse.
    without = "cx16=off"
    if guest.accelerator == "tcg":
        return f"{model},{without}{comma}{features}"
    vendor = next(vendor for vendor, models in _VENDORS.items() if models.match(model))
    ours = [
        # Where the host's vendor would be seen instead (QEMU 7.2, target/i386/host-cpu.c,
        # host_cpu_instance_init), and with it another table of effective memory types.
        *([f"vendor={vendor}"] if vendor else []),
        # A kernel that sees KVM takes other ways: its clock, its interrupts, its idle loop.
        "kvm=off",
        # KVM adds it to every model (QEMU 7.2, target/i386/kvm/kvm-cpu.c, kvm_default_props); TCG has none.
        "x2apic=off",
        # The width of max and host would be the host's, and MTRRs are written for Hardware.physical_bits.
        "host-phys-bits=off",
        # The masks of MTRRs would be saved with the bits set that no address has (QEMU 7.2 and 10.0,
        # target/i386/kvm/kvm.c, kvm_get_msrs), those of unused registers too: others than the guest reads.
        "fill-mtrr-mask=off",
        # As TCG has it.
        without,
    ]
    # What the user says comes last, and wins.
    return f"{model},{','.join(ours)}{comma}{features}"


def _ram(guest: QemuConfig) -> str:
    share = f"share={'on' if guest.ram_share else 'off'}"
    size = f"size={_megabytes(guest.hardware)}"
    if guest.ram_file is None:
        return f"memory-backend-memfd,id={RAM},{size},{share}"
    return f"memory-backend-file,id={RAM},{size},{share},mem-path={_value(guest.ram_file)}"


def _memory(hardware: Hardware) -> str:
    """The argument of ``-m``. Slots for more memory make the guest another, so few have them.

    Its RAM becomes a NUMA node with tables of its own (SRAT), its 64-bit BARs lie behind the addresses that
    are kept free, and ACPI has a device for each slot (QEMU 7.2, hw/core/numa.c,
    numa_complete_configuration(); hw/i386/pc.c, pc_pci_hole64_start(); hw/acpi/memory_hotplug.c,
    build_memory_hotplug_aml()).
    """
    if not hardware.most_memory:
        return _megabytes(hardware)
    return f"{_megabytes(hardware)},slots={MEMORY_SLOTS},maxmem={hardware.most_memory_bytes // MIB}M"


def _megabytes(hardware: Hardware) -> str:
    return f"{hardware.memory_bytes // MIB}M"


def _boot(guest: QemuConfig) -> list[str]:
    command = []
    if guest.state is not None:
        # Deferred, because which memory the state leaves out is said over QMP. What firmware and loader read
        # is of no use any more: it is not part of the state, and reading a kernel takes 8 ms.
        return ["-incoming", "defer"]
    if guest.boot_rom is not None:
        command += ["-option-rom", _path(guest.boot_rom)]
    if guest.kernel is not None:
        command += ["-kernel", _path(guest.kernel)]
        words = [KERNEL_CMDLINE, _FIRMWARE_CMDLINE.get(guest.hardware.firmware), guest.hardware.cmdline]
        command += ["-append", " ".join(word for word in words if word)]
    if guest.initrd is not None:
        command += ["-initrd", _path(guest.initrd)]
    return command


def _path(path: Path) -> str:
    return str(path.absolute())


def _value(path: Path) -> str:
    """A path inside one of QEMU's comma-separated options."""
    return _path(path).replace(",", ",,")
